package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// whole is an adapter with nothing wrong.
const whole = `
name: other
deliveries: [at-least-once]
command: [relay, --to, "{{.Brokers}}"]
slot: bench
`

func TestShippedAdaptersCanBeRead(t *testing.T) {
	names := shippedNames()
	if len(names) == 0 {
		t.Fatal("there is none")
	}
	for _, name := range names {
		text, err := shipped.ReadFile("adapters/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		for _, used := range regexp.MustCompile(`env "(\w+)"`).FindAllStringSubmatch(string(text), -1) {
			t.Setenv(used[1], "/opt/"+used[1])
		}
		a, err := openAdapter(name)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if a.Name != name {
			t.Errorf("%s calls itself %s", name, a.Name)
		}
		at := berth{Name: "bench1_0", Postgres: "postgres://pg/bench1", Slot: "the_slot", Publication: "pub", Brokers: "b:1", Topic: "bench1_0.order", Delivery: exactlyOnce, Outrider: "/bin/relay"}
		w, err := a.written(at)
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for _, part := range w.Command {
			all.WriteString(part + "\n")
		}
		for _, part := range w.Files {
			all.WriteString(part + "\n")
		}
		for _, part := range w.Environment {
			all.WriteString(part + "\n")
		}
		for _, needed := range []string{at.Slot, at.Publication, at.Brokers, at.Name} {
			if !strings.Contains(all.String(), needed) {
				t.Errorf("%s is not told %q:\n%s", name, needed, all.String())
			}
		}
	}
}

func TestAdapterOfAFileCanBeRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "other.yaml")
	if err := os.WriteFile(file, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := openAdapter(file)
	if err != nil {
		t.Fatal(err)
	}
	if a.Name != "other" || a.Number != "n" || len(a.Transports) != 2 {
		t.Errorf("%+v", a)
	}
	if _, err := openAdapter("nothing"); err == nil || !strings.Contains(err.Error(), "outrider") {
		t.Errorf("of one that is not there: %v", err)
	}
}

func TestMistakesInAnAdapterAreToldBeforeAnythingStarts(t *testing.T) {
	for what, c := range map[string]struct{ old, text, want string }{
		"an unknown key":             {"slot: bench", "slot: bench\nslots: 2", `unknown field "slots"`},
		"no YAML":                    {"slot: bench", "slot: [", ""},
		"no name":                    {"name: other", "", "name:"},
		"no command":                 {`command: [relay, --to, "{{.Brokers}}"]`, "", "command:"},
		"no promise":                 {"deliveries: [at-least-once]", "", "deliveries:"},
		"an unknown promise":         {"[at-least-once]", "[at-most-once]", `"at-most-once"`},
		"an unknown transport":       {"slot: bench", "slot: bench\ntransports: [quic]", `"quic"`},
		"nobody who makes the slot":  {"slot: bench", "", "slot:"},
		"a template that is none":    {"{{.Brokers}}", "{{.Brokers", "command:"},
		"a value that there is not":  {"{{.Brokers}}", "{{.Broker}}", "Broker"},
		"a variable that is not set": {"{{.Brokers}}", `{{env \"NOT_SET_BY_ANYBODY\"}}`, "NOT_SET_BY_ANYBODY"},
		"a file outside":             {"slot: bench", "slot: bench\nfiles: { ../passwd: x }", "../passwd"},
		"a template in a file":       {"slot: bench", "slot: bench\nfiles: { conf: \"{{.Slots}}\" }", "files.conf"},
		"a template in a variable":   {"slot: bench", "slot: bench\nenvironment: { A: \"{{.Slots}}\" }", "environment.A"},
		"a template in SQL":          {"slot: bench", "slot: bench\nsql: [\"{{.Slots}}\"]", "sql"},
		"a template in a URL":        {"slot: bench", "slot: bench\nready: { http: \"{{.Slots}}\" }", "ready.http"},
		"no expression":              {"slot: bench", "slot: bench\nready: { log: \"(\" }", "ready.log"},
	} {
		text := strings.Replace(whole, c.old, c.text, 1)
		if text == whole {
			t.Fatalf("%s: nothing was changed", what)
		}
		if _, err := parseAdapter([]byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, which does not name %q", what, err, c.want)
		}
	}
	if _, err := parseAdapter([]byte("name: Other\ncommand: [x]\n")); err == nil || strings.Count(err.Error(), "\n") < 2 {
		t.Errorf("not all mistakes are told at once: %v", err)
	}
}

func TestNumberIsFoundWhereTheAdapterSays(t *testing.T) {
	for _, c := range []struct {
		path, value string
		want        int // -1: an error
	}{
		{"n", `{"n": 7, "note": "x"}`, 7},
		{"n", `{"note": "n", "n": 7}`, 7},
		{"payload.n", `{"payload": {"n": 7}}`, 7},
		{"after.payload.n", `{"after": {"payload": "{\"n\": 7, \"note\": \"\\\"\"}"}}`, 7},
		{"n", `"{\"n\": 7}"`, 7}, // encoded twice
		{"n", `{"m": 7}`, -1},
		{"n", `{"n": "seven"}`, -1},
		{"payload.n", `{"payload": 7}`, -1},
		{"n", ``, -1},
		{"n", `Obj`, -1},
		{"n", `"`, -1},
	} {
		a := &adapter{Number: c.path, path: strings.Split(c.path, ".")}
		n, err := a.number([]byte(c.value))
		if err != nil {
			n = -1
		}
		if n != c.want {
			t.Errorf("%s of %s: %d, %v", c.path, c.value, n, err)
		}
	}
}
