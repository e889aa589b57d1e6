package migrate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/magiconair/properties"
)

// input is a configuration under the names that Kafka Connect has for its options, whatever it was written for.
type input struct {
	name    string // of the connector, if it has one
	server  bool   // it is Debezium Server's
	options map[string]string
	written map[string]string // the names under which options stand in the file, where those are others
}

// asWritten is the name of an option as it stands in the file.
func (in *input) asWritten(option string) string {
	if name, other := in.written[option]; other {
		return name
	}
	return option
}

func read(file []byte) (*input, error) {
	if bytes.HasPrefix(bytes.TrimSpace(file), []byte("{")) {
		return readConnector(file)
	}
	return readServer(file)
}

// readConnector reads what is sent to Kafka Connect: {"name": ..., "config": {...}}, or the config alone.
func readConnector(file []byte) (*input, error) {
	var outer struct {
		Name   string
		Config json.RawMessage
	}
	// The errors of encoding/json repeat nothing of the file but a character and names of ours.
	if err := json.Unmarshal(file, &outer); err != nil {
		return nil, fmt.Errorf("not the JSON of a connector: %w", err)
	}
	config := file
	if outer.Config != nil {
		config = outer.Config
	}
	var values map[string]any
	decoder := json.NewDecoder(bytes.NewReader(config))
	decoder.UseNumber() // 1.50 stays 1.50
	if err := decoder.Decode(&values); err != nil {
		return nil, fmt.Errorf("not the configuration of a connector: %w", err)
	}
	in := &input{name: outer.Name, options: make(map[string]string, len(values))}
	for option, value := range values {
		switch value.(type) {
		case nil:
		case string, bool, json.Number:
			in.options[option] = strings.TrimSpace(fmt.Sprint(value))
		default:
			return nil, fmt.Errorf("%s is neither text nor number", option)
		}
	}
	if in.name == "" {
		in.name = in.options["name"]
	}
	delete(in.options, "name")
	return in, nil
}

// readServer reads application.properties, or the same as a file of environment variables.
func readServer(file []byte) (*input, error) {
	loader := properties.Loader{Encoding: properties.UTF8, DisableExpansion: true}
	p, err := loader.LoadBytes(file)
	if err != nil {
		return nil, errors.New("neither JSON nor a file of properties") // the library's error shows the file
	}
	in := &input{server: true, options: make(map[string]string), written: make(map[string]string)}
	aliases := transformAliases(p)
	for _, key := range p.Keys() {
		value, _ := p.Get(key)
		option := key
		if variable.MatchString(key) {
			option = optionOf(key, aliases)
		}
		option = strings.TrimPrefix(option, "%prod.") // a profile of Quarkus
		for _, known := range serverPrefixes {
			if rest, ok := strings.CutPrefix(option, known.server); ok {
				option = known.connect + rest
				break
			}
		}
		in.options[option] = fromQuarkus(strings.TrimSpace(value))
		in.written[option] = key
	}
	if len(in.options) == 0 {
		return nil, errors.New("the file has no options")
	}
	in.readFormats()
	return in, nil
}

// serverPrefixes are where Debezium Server has the options of a connector, of its transforms and of its producer.
var serverPrefixes = []struct{ server, connect string }{
	{"debezium.source.", ""},
	{"debezium.transforms", "transforms"},
	{"debezium.predicates", "predicates"},
	{"debezium.sink.kafka.producer.", producer},
	{"debezium.format.key.", "key.converter."},
	{"debezium.format.value.", "value.converter."},
	{"debezium.format.header.", "header.converter."},
}

// formats are the converters that Debezium Server's words stand for. Others are passed on as they are, and not known.
var formats = map[string]string{
	"json": "JsonConverter", "jsonbytearray": "JsonConverter", "simplestring": "StringConverter", "binary": "BinaryDataConverter",
}

// readFormats makes converters of debezium.format.*.
func (in *input) readFormats() {
	everywhere, all := in.options["debezium.format.schemas.enable"]
	delete(in.options, "debezium.format.schemas.enable")
	for _, part := range []string{"key", "value", "header"} {
		format, given := in.options["debezium.format."+part]
		delete(in.options, "debezium.format."+part)
		if !given {
			format = "json"
		}
		converter := part + ".converter"
		in.options[converter], in.written[converter] = format, "debezium.format."+part
		if class, known := formats[strings.ToLower(format)]; known {
			in.options[converter] = class
		}
		schemas := converter + ".schemas.enable"
		if _, own := in.options[schemas]; all && !own {
			in.options[schemas] = everywhere
		}
	}
}

// reference is Quarkus' way to refer to a variable, with a default after the colon or without.
var reference = regexp.MustCompile(`\\?\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// fromQuarkus writes ${VAR} as ${env:VAR}. What is escaped is meant as it is: ${routedByValue} of a topic.
func fromQuarkus(value string) string {
	return reference.ReplaceAllStringFunc(value, func(ref string) string {
		if literal, escaped := strings.CutPrefix(ref, `\`); escaped || ref == "${routedByValue}" {
			return literal
		}
		return "${env:" + strings.TrimPrefix(ref, "${")
	})
}

// variable is how the environment names an option.
var variable = regexp.MustCompile(`^DEBEZIUM_[A-Z0-9_]+$`)

func asVariable(option string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(option))
}

func transformAliases(p *properties.Properties) []string {
	for _, key := range []string{"debezium.transforms", "DEBEZIUM_TRANSFORMS"} {
		if value, ok := p.Get(key); ok {
			return list(value)
		}
	}
	return nil
}

// optionOf finds the option that a variable stands for: dots cannot be told from underscores, so it must be a known one.
func optionOf(name string, aliases []string) string {
	for _, known := range everyOption(aliases) {
		if asVariable(known) == name {
			return known
		}
	}
	return name
}
