package migrate

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/outrider-relay/outrider/cmd/outrider/config"
)

var update = flag.Bool("update", false, "write what is translated to testdata")

// load reads settings as the relay does.
func load(t *testing.T, yaml []byte) *config.Settings {
	t.Helper()
	dir := t.TempDir()
	ca, file := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "outrider.yaml")
	text := strings.ReplaceAll(string(yaml), "/etc/kafka/ca.pem", ca)
	for name, content := range map[string]string{ca: "certificate", file: text} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	settings, err := config.Sources{File: file, Environ: []string{
		"DB_HOST=db", "DB_PASSWORD=p", "ORDER_PASSWORD=p", "KAFKA_PASSWORD=p", "VAR=v",
	}}.Load()
	if err != nil {
		t.Fatalf("the relay refuses\n%s\n%v", yaml, err)
	}
	return settings
}

func names(notes []Note) []string {
	list := []string{}
	for _, n := range notes {
		list = append(list, n.Option)
	}
	return list
}

func TestConfigurationsOfTheGuidesBecomeSettings(t *testing.T) {
	for file, lost := range map[string][]string{
		"order.json":        {"key.converter", "plugin.name", "value.converter"}, // what its worker says, and a slot that cannot be read
		"saga.json":         {},
		"quarkus.json":      {},
		"messages.json":     {},
		"server.properties": {},
		"server.env":        {"DEBEZIUM_TRANSFORMS_OUTBOX_TABLE_OP_INVALID_BEHAVIOR"},
	} {
		t.Run(file, func(t *testing.T) {
			path := filepath.Join("testdata", file)
			in, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Translate(in, Options{})
			if err != nil {
				t.Fatal(err)
			}
			golden := path + ".yaml"
			if *update {
				if err := os.WriteFile(golden, got.YAML, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if string(got.YAML) != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got.YAML, want)
			}
			if !slices.Equal(names(got.Lost), lost) {
				t.Errorf("lost %v, want %v", got.Lost, lost)
			}
			if text := string(got.YAML) + noteText(got); strings.Contains(text, "-secret") {
				t.Errorf("a secret is shown in\n%s", text)
			}
			load(t, got.YAML)
		})
	}
}

func noteText(r *Result) string {
	var b strings.Builder
	for _, n := range slices.Concat(r.Lost, r.Notes) {
		b.WriteString(n.Option + ": " + n.Text + "\n")
	}
	return b.String() + strings.Join(r.Needless, "\n")
}

func TestSecretsAreNeverShown(t *testing.T) {
	got := translateWith(t, map[string]string{
		"database.password": "first-secret", "database.sslpassword": "second-secret", "no.such.password": "third-secret",
		producer + "security.protocol": "SASL_SSL", producer + "sasl.mechanism": "PLAIN",
		producer + "sasl.jaas.config":        `org.apache.kafka.common.security.plain.PlainLoginModule required username="me" password="fourth-secret";`,
		producer + "ssl.truststore.password": "fifth-secret", producer + "ssl.key.password": "sixth-secret",
		"offset.storage.redis.password": "seventh-secret", "value.converter.basic.auth.user.info": "eighth-secret",
	})
	if text := string(got.YAML) + noteText(got); strings.Contains(text, "-secret") {
		t.Errorf("a secret is shown in\n%s", text)
	}
	s := load(t, got.YAML)
	if s.Kafka.SASL.Username != "me" || string(s.Kafka.SASL.Password) != "p" {
		t.Errorf("SASL as %s", s.Kafka.SASL.Username)
	}
	secretFile, err := json.Marshal("{\"a\": first-secret")
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{`{"database.password": "first-secret",}`, `{"database.password": ["first-secret"]}`, "a=\\u00zzfirst-secret", string(secretFile)} {
		if _, err := Translate([]byte(in), Options{}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestWhatCannotBeTranslatedIsRefused(t *testing.T) {
	for in, says := range map[string]string{
		``:                           "no options",
		`{}`:                         "no transform",
		`[]`:                         "no transform",
		`{"config": []}`:             "not the configuration",
		`{"transforms": {"a": "b"}}`: "neither text nor number",
		`{"connector.class": "io.debezium.connector.mysql.MySqlConnector"}`:                                                        "MySqlConnector",
		`{"connector.class": "io.debezium.connector.postgresql.PostgresConnector"}`:                                                "no transform",
		`{"transforms": "o", "transforms.o.type": "io.debezium.transforms.ExtractNewRecordState"}`:                                 "no transform",
		"debezium.sink.type=pulsar\ndebezium.transforms=o\ndebezium.transforms.o.type=io.debezium.transforms.outbox.EventRouter\n": "pulsar",
	} {
		if got, err := Translate([]byte(in), Options{}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %+v, error %v does not say %q", in, got, err, says)
		}
	}
}

func TestNameAndBrokersCanBeGiven(t *testing.T) {
	in, err := json.Marshal(base)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Translate(in, Options{Name: "orders", Brokers: []string{"a:1"}})
	if err != nil {
		t.Fatal(err)
	}
	if s := load(t, got.YAML); s.Name != "orders" || !slices.Equal(s.Kafka.Brokers, []string{"a:1"}) {
		t.Errorf("%s", got.YAML)
	}
	for text, want := range map[string]string{"Order-Connector": "order_connector", strings.Repeat("x", 50): strings.Repeat("x", 40), "--": "outbox", "": "outbox"} {
		if name := relayName(text, "outbox"); name != want {
			t.Errorf("%q becomes %q, want %q", text, name, want)
		}
	}
}

// FuzzTranslate sees that no file breaks the translation, and that what comes out can be read as YAML.
func FuzzTranslate(f *testing.F) {
	files, err := filepath.Glob("testdata/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		in, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := Translate(in, Options{})
		if err != nil {
			return
		}
		file := filepath.Join(t.TempDir(), "outrider.yaml")
		if err := os.WriteFile(file, got.YAML, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := (config.Sources{File: file}).Load(); err != nil && strings.Contains(err.Error(), "not YAML") {
			t.Fatalf("%v of\n%s", err, got.YAML)
		}
	})
}
