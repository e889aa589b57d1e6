package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// TestMain takes libpq's variables away: what a developer has set for psql must not decide these tests.
func TestMain(m *testing.M) {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "PG") {
			if err := os.Unsetenv(name); err != nil {
				panic(err)
			}
		}
	}
	os.Exit(m.Run())
}

// least is enough to start with.
var least = []string{"OUTRIDER_NAME=orders", "OUTRIDER_POSTGRES_URL=postgres://relay@localhost/shop", "OUTRIDER_KAFKA_BROKERS=localhost:9092"}

// in writes a file called outrider.yaml into a folder that becomes the working directory, so that messages name it shortly.
func in(t *testing.T, text string) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile(DefaultFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mustLoad(t *testing.T, s Sources) *Settings {
	t.Helper()
	settings, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	return settings
}

func TestThreeSettingsAreEnough(t *testing.T) {
	t.Chdir(t.TempDir())
	s := mustLoad(t, Sources{Environ: least})
	if s.Postgres.Slot != "outrider_orders" || s.Kafka.ClientID != "outrider-orders" || s.Kafka.MaxInFlightBytes != 16<<20 || s.HTTP.Listen != "127.0.0.1:9187" {
		t.Errorf("defaults: %+v", s)
	}
}

// The file of the interface document, with delivery as it is built so far.
const everySetting = `
name: orders                        # relay identity
postgres:
  url: postgres://relay@db:5432/shop?sslmode=verify-full
  password_file:
  publication: outrider
  slot: outrider_orders
  create: true
  failover: auto
  max_retained_wal: 0
  insecure: false
kafka:
  brokers: [localhost:9092]
  client_id: outrider-orders
  tls: { enabled: false, ca_file:, cert_file:, key_file:, server_name:, insecure_skip_verify: false }
  sasl: { mechanism: none, username:, password:, password_file:, token_file: }
  delivery: at-least-once
  compression: none
  linger: 0ms
  batch_bytes: 1MiB
  max_in_flight_bytes: 16MiB
  max_timestamp_age: 1h
  topics: { create: false, partitions: 6, replication_factor: 3, config: {}, wait: 1m }
outbox:
  tables: [public.outbox]
  columns: {}
  topic: outbox.event.${aggregate_type}
  topic_regex: { match:, replace: }
  allowed_topics: []
  key: ${aggregate_id}
  headers: [ "column:alias" ]
  envelope: []
  value: verbatim
  compat: none
  position_header: true
  tombstone_on_null: true
  logical_messages: { prefixes: [] }
  on_poison: stop
  dead_letter: { topic: outrider.dead-letter }
  retention: 0
checkpoint: { interval: 1s }
http: { listen: 127.0.0.1:9187, token_file: }
timeouts: { drain: 30s, broker: 30s }
on_blocked: wait
start_from: slot
`

func TestFileOfTheInterfaceDocumentLoads(t *testing.T) {
	in(t, everySetting)
	s := mustLoad(t, Sources{})
	if s.Outbox.Topic != "outbox.event.${aggregate_type}" || s.Outbox.Key != "${aggregate_id}" {
		t.Errorf("templates over the row were touched: %q, %q", s.Outbox.Topic, s.Outbox.Key)
	}
	if s.Kafka.MaxTimestampAge != time.Hour || s.Kafka.Topics.Wait != time.Minute || s.Outbox.Headers[0] != "column:alias" {
		t.Errorf("settings: %+v", s)
	}
}

func TestFlagBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	in(t, "name: file\npostgres: {url: 'host=/run/postgresql', publication: file, slot: file}\nkafka: {brokers: [file:1], linger: 1ms}\n")
	s := mustLoad(t, Sources{
		Environ: []string{"OUTRIDER_NAME=env", "OUTRIDER_POSTGRES_PUBLICATION=env", "OUTRIDER_KAFKA_BROKERS=env:1, env:2"},
		Flags:   []Flag{{"name", "name", "flag"}},
	})
	for _, c := range []struct{ what, got, want string }{
		{"name", s.Name, "flag"},
		{"publication", s.Postgres.Publication, "env"},
		{"brokers", strings.Join(s.Kafka.Brokers, " "), "env:1 env:2"},
		{"slot", s.Postgres.Slot, "file"},
		{"compression", s.Kafka.Compression, "none"},
	} {
		if c.got != c.want {
			t.Errorf("%s is %q, want %q", c.what, c.got, c.want)
		}
	}
}

func TestEveryFieldIsASettingWithAVariableOfItsOwn(t *testing.T) {
	s := defaults()
	fields := make(map[any]bool)
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		if v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				walk(v.Field(i))
			}
			return
		}
		fields[v.Addr().Interface()] = true
	}
	walk(reflect.ValueOf(s).Elem())
	variables := make(map[string]string)
	for _, k := range s.keys() {
		if !fields[k.field] {
			t.Errorf("%s fills no field, or one that another setting fills", k.path)
		}
		delete(fields, k.field)
		if other, taken := variables[variable(k.path)]; taken {
			t.Errorf("%s and %s share %s", k.path, other, variable(k.path))
		}
		variables[variable(k.path)] = k.path
	}
	if len(fields) > 0 {
		t.Errorf("%d fields of Settings cannot be set", len(fields))
	}
}

func TestVariablesInValuesAreReplacedOnce(t *testing.T) {
	in(t, "outbox: {headers: ['a:${env:ALIAS}'], columns: {payload: '${env:COLUMN}'}}\nkafka: {client_id: 'x${env:A}y${env:B}${c}'}\n")
	s := mustLoad(t, Sources{Environ: append(least, "A=1", "B=${env:A}", "ALIAS=b", "COLUMN=body")})
	if got, want := s.Kafka.ClientID, "x1y${env:A}${c}"; got != want {
		t.Errorf("client id %q, want %q", got, want)
	}
	if s.Outbox.Headers[0] != "a:b" || s.Outbox.Columns["payload"] != "body" {
		t.Errorf("headers %q, columns %q", s.Outbox.Headers, s.Outbox.Columns)
	}
}

func TestServiceLinksOfKubernetesAreNoSettings(t *testing.T) {
	t.Chdir(t.TempDir())
	mustLoad(t, Sources{Environ: append(
		least,
		"OUTRIDER_SERVICE_HOST=10.0.0.1", "OUTRIDER_SERVICE_PORT=9187", "OUTRIDER_SERVICE_PORT_HTTP=9187", "OUTRIDER_PORT=tcp://10.0.0.1:9187",
		"OUTRIDER_PORT_9187_TCP=tcp://10.0.0.1:9187", "OUTRIDER_PORT_9187_TCP_ADDR=10.0.0.1", "OUTRIDER_DB_SERVICE_HOST=10.0.0.2", "OUTRIDER_DB_PORT=tcp://10.0.0.2:5432",
	)})
}

func TestSecretsAreReadAgainEachTime(t *testing.T) {
	t.Chdir(t.TempDir())
	write := func(text string) {
		if err := os.WriteFile("password", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one\n")
	s := mustLoad(t, Sources{Environ: append(least, "OUTRIDER_POSTGRES_PASSWORD_FILE=password", "OUTRIDER_KAFKA_SASL_MECHANISM=plain",
		"OUTRIDER_KAFKA_SASL_USERNAME=u", "OUTRIDER_KAFKA_SASL_PASSWORD_FILE=password", "OUTRIDER_HTTP_TOKEN_FILE=password")})
	for _, want := range []string{"one", "two"} {
		write(want + "\r\n")
		for what, read := range map[string]func() (string, error){"postgres": s.Postgres.Password(), "sasl": s.Kafka.SASL.ReadPassword, "token": s.HTTP.Token()} {
			if got, err := read(); got != want || err != nil {
				t.Errorf("%s: %q, %v, want %q", what, got, err, want)
			}
		}
	}
	write("\n")
	if got, err := s.HTTP.Token()(); err == nil {
		t.Errorf("an empty token file gives the token %q", got)
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	t.Chdir(t.TempDir())
	const canary = "c4nary"
	s := mustLoad(t, Sources{Environ: append(least, "OUTRIDER_POSTGRES_URL=postgres://relay:"+canary+"@localhost/shop", "OUTRIDER_KAFKA_SASL_MECHANISM=plain",
		"OUTRIDER_KAFKA_SASL_USERNAME=u", "OUTRIDER_KAFKA_SASL_PASSWORD="+canary)})
	shown := make(map[string]string)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown[verb] = fmt.Sprintf(verb, *s)
		shown[verb+" of a secret"] = fmt.Sprintf(verb, s.Kafka.SASL.Password)
	}
	for what, marshal := range map[string]func(any) ([]byte, error){"json": json.Marshal, "yaml": func(v any) ([]byte, error) { return yaml.Marshal(v) }} {
		b, err := marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		shown[what] = string(b)
	}
	for how, text := range shown {
		if strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) {
			t.Errorf("%s shows a secret: %s", how, text)
		}
		if !strings.Contains(text, redacted) && !strings.Contains(how, "%x") {
			t.Errorf("%s does not say that something is left out: %s", how, text)
		}
	}
}

func TestProblemsNeverShowSecrets(t *testing.T) {
	const canary = "c4nary"
	for _, file := range []string{
		"postgres: {url: 'postgres://u:" + canary + "@[::1'}",
		"postgres: {url: 'postgres://u:a/" + canary + "@db/shop'}",
		"postgres: {url: 'postgres://u:a:" + canary + "@db:x/shop'}",
		"postgres: {url: 'host=db password=" + canary + " sslmode=wrong'}",
		"postgres: {url: 'host=db password=''" + canary + "'}",
		"postgres: {pasword: " + canary + "}",
		"kafka: {sasl: {mechanism: plain, password: [" + canary + "]}}",
		"kafka:\n  sasl:\n    password: " + canary + "\n   mechanism: plain\n",
	} {
		in(t, file)
		_, err := Sources{}.Load()
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestMissingFileIsNamed(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := Sources{File: "conf.yaml"}.Load()
	if err == nil || err.Error() != "conf.yaml: cannot be read: no such file or directory" {
		t.Error(err)
	}
}

func TestFileByPath(t *testing.T) {
	file := filepath.Join(t.TempDir(), "conf.yaml")
	if err := os.WriteFile(file, []byte("name: Orders"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Sources{File: file, Environ: least[1:]}.Load()
	want := file + `:1: name: "Orders" is not 1 to 40 of a-z, 0-9 and _`
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if !errors.As(err, new(Problems)) {
		t.Errorf("%T is not Problems", err)
	}
}

func FuzzAnyFileIsReadOrRefused(f *testing.F) {
	for _, seed := range []string{everySetting, "kafka: {brokers: [a:1, b:]}", "a: &x [*x]", "? [a]\n: b", "!!map {name: a}", "<<: {a: b}", "outbox: {columns: {a: {b: c}}}", "name: |\n  a\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l := newLoader(defaults(), nil)
		if !l.parseFile("f", b) && len(l.problems) == 0 {
			t.Error("refused without a reason")
		}
	})
}
