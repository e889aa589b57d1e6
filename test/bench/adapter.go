package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/buger/jsonparser"
	"github.com/goccy/go-yaml"
)

// shipped are the adapters that have a name.
//
//go:embed adapters/*.yaml
var shipped embed.FS

// adapter is what has to be known of a relay to drive it. adapters/README.md describes the fields for who writes one. The
// texts marked as templates are Go's (text/template), over a berth.
type adapter struct {
	Name       string   `yaml:"name"`
	Deliveries []string `yaml:"deliveries"` // what it promises; the template's .Delivery says which is to be kept
	Transports []string `yaml:"transports"` // zero: unix and tcp
	// Command is its program and arguments, each a template. It must be the relay itself: what a child uses is not counted.
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"` // values are templates; of ours, only PATH and HOME come along
	Files       map[string]string `yaml:"files"`       // path in the berth's folder, where it is started: content, a template
	SQL         []string          `yaml:"sql"`         // templates, run before it is started first
	Slot        string            `yaml:"slot"`        // who makes the slot: relay, at its first start, or bench
	Ready       ready             `yaml:"ready"`
	// Number is the path of the row's number n in a record's value. Members that are text are read as JSON. Zero: n, which is
	// where the payload has it; none: the record does not tell.
	Number string `yaml:"number"`

	path []string // of Number
}

// ready is how to know that a relay relays, beside its slot being active.
type ready struct {
	HTTP string `yaml:"http"` // a URL that answers 200; a template
	Log  string `yaml:"log"`  // an expression that its output matches
}

// berth is what one contestant has for itself in a stage, for templates.
type berth struct {
	Name        string // of the relay: letters, digits and _
	Postgres    string // URL
	Host        string // a folder where the transport is unix
	Port        int
	Database    string
	User        string // has no password
	Slot        string
	Publication string // of public.outbox, inserts alone; made before
	Brokers     string // host:port, with commas between them
	Topic       string // made before; Name, a dot, and the rows' aggregate_type
	Delivery    string
	Dir         string // its folder, which stays between its starts
	Listen      string // host:port on loopback where nobody listens
	ListenPort  string // its port
	Outrider    string // the relay of this repository, built
}

// Words of adapters and flags.
const (
	exactlyOnce = "exactly-once"
	byRelay     = "relay"
	none        = "none"
)

var (
	knownDeliveries = []string{exactlyOnce, "at-least-once"}
	knownTransports = []string{"unix", "tcp"}
)

// openAdapter reads one by the name of a shipped one, or from a file.
func openAdapter(name string) (*adapter, error) {
	b, err := shipped.ReadFile("adapters/" + name + ".yaml")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		b, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, fmt.Errorf("%q is neither a shipped adapter (%s) nor a file: %w", name, strings.Join(shippedNames(), ", "), err)
	}
	a, err := parseAdapter(b)
	if err != nil {
		return nil, fmt.Errorf("adapter %s: %w", name, err)
	}
	return a, nil
}

func shippedNames() (names []string) {
	files, _ := fs.Glob(shipped, "adapters/*.yaml") // the pattern is well formed
	for _, file := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(file), ".yaml"))
	}
	return names
}

// parseAdapter reads an adapter, and finds everything that is wrong with it before anything is started.
func parseAdapter(b []byte) (*adapter, error) {
	a := new(adapter)
	if err := yaml.UnmarshalWithOptions(b, a, yaml.Strict()); err != nil {
		return nil, err
	}
	if len(a.Transports) == 0 {
		a.Transports = knownTransports
	}
	if a.Number == "" {
		a.Number = "n"
	}
	a.path = strings.Split(a.Number, ".")
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(a.Name) {
		wrong("name: %q is not made of a-z, 0-9 and -", a.Name)
	}
	if len(a.Command) == 0 {
		wrong("command: there is none")
	}
	if len(a.Deliveries) == 0 {
		wrong("deliveries: what does it promise? %s", strings.Join(knownDeliveries, ", "))
	}
	for _, d := range a.Deliveries {
		if !slices.Contains(knownDeliveries, d) {
			wrong("deliveries: %q is neither of %s", d, strings.Join(knownDeliveries, ", "))
		}
	}
	for _, t := range a.Transports {
		if !slices.Contains(knownTransports, t) {
			wrong("transports: %q is neither of %s", t, strings.Join(knownTransports, ", "))
		}
	}
	if !slices.Contains([]string{byRelay, "bench"}, a.Slot) {
		wrong("slot: %q is neither relay nor bench, which says who makes it", a.Slot)
	}
	for path := range a.Files {
		if !filepath.IsLocal(path) {
			wrong("files: %q leads out of the relay's folder", path)
		}
	}
	if _, err := regexp.Compile(a.Ready.Log); err != nil {
		wrong("ready.log: %w", err)
	}
	if _, err := a.written(berth{}); err != nil {
		errs = append(errs, err)
	}
	return a, errors.Join(errs...)
}

// written is the adapter with its templates filled in.
func (a *adapter) written(at berth) (adapter, error) {
	var errs []error
	fill := func(what, text string) string {
		filled, err := execute(text, at)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
		return filled
	}
	w := *a
	w.Command, w.SQL = make([]string, len(a.Command)), make([]string, len(a.SQL))
	for i, text := range a.Command {
		w.Command[i] = fill("command", text)
	}
	for i, text := range a.SQL {
		w.SQL[i] = fill("sql", text)
	}
	w.Environment, w.Files = make(map[string]string), make(map[string]string)
	for name, text := range a.Environment {
		w.Environment[name] = fill("environment."+name, text)
	}
	for path, text := range a.Files {
		w.Files[path] = fill("files."+path, text)
	}
	w.Ready.HTTP = fill("ready.http", a.Ready.HTTP)
	return w, errors.Join(errs...)
}

// execute fills in one template. env gives a variable of our own environment, for what is installed somewhere.
func execute(text string, at berth) (string, error) {
	t, err := template.New("").Funcs(template.FuncMap{"env": func(name string) (string, error) {
		value := os.Getenv(name)
		if value == "" {
			return "", fmt.Errorf("the environment variable %s is not set", name)
		}
		return value, nil
	}}).Parse(text)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	err = t.Execute(&out, at)
	return out.String(), err
}

// number is the row's number in the value of a record. Relays may encode the payload once more, as text within JSON.
func (a *adapter) number(value []byte) (int, error) {
	value, kind, _, err := jsonparser.Get(value)
	for _, name := range a.path {
		if err == nil && kind == jsonparser.String {
			value, err = jsonparser.Unescape(value, nil)
		}
		if err == nil {
			value, kind, _, err = jsonparser.Get(value, name)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("its value has no %s", a.Number)
	}
	n, err := strconv.Atoi(string(value))
	if err != nil {
		return 0, fmt.Errorf("its %s is no number", a.Number)
	}
	return n, nil
}
