package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/cmd/outrider/config"
)

// execute runs a command line in this process, and gives its standard output and what main would make of its error.
func execute(args ...string) (out string, code int, text string) {
	root := rootCommand()
	var b bytes.Buffer
	root.SetOut(&b)
	root.SetArgs(args)
	code, text = outcome(root.Execute())
	return b.String(), code, text
}

func TestVersionIsPrintedForPeopleAndMachines(t *testing.T) {
	out, code, _ := execute("version")
	if code != 0 || !strings.HasPrefix(out, "outrider ") || !strings.Contains(out, "go1.") {
		t.Errorf("%d %q", code, out)
	}
	out, code, _ = execute("version", "--json")
	var b build
	if err := json.Unmarshal([]byte(out), &b); err != nil || code != 0 || b != thisBuild() {
		t.Errorf("%d %v %q", code, err, out)
	}
}

func TestWrongCommandLinesExitWith2AndPointToHelp(t *testing.T) {
	for _, args := range [][]string{{"runn"}, {"run", "--nmae", "x"}, {"run", "now"}, {"version", "--name", "x"}, {"migrate-config"}} {
		_, code, text := execute(args...)
		if code != exitSettings || strings.Contains(text, "\n") || !strings.HasSuffix(text, "; outrider --help shows what there is") {
			t.Errorf("%v: %d %q", args, code, text)
		}
	}
}

func TestWrongSettingsExitWith2BeforeAnythingStarts(t *testing.T) {
	t.Chdir(t.TempDir())
	_, code, text := execute("run", "--name", "Orders", "--postgres", "host=/run/postgresql", "--log-level", "loud")
	want := `--log-level: log.level: "loud" is not debug, info, warn or error
--name: name: "Orders" is not 1 to 40 of a-z, 0-9 and _
kafka.brokers: required, e.g. [localhost:9092]
outrider: 3 problems in the settings; nothing was started. Correct them and start again`
	if code != exitSettings || text != want {
		t.Errorf("%d\n%s\nwant\n%s", code, text, want)
	}
}

func TestEveryFlagReachesItsSetting(t *testing.T) {
	t.Chdir(t.TempDir())
	values := map[string]string{
		"name": "orders", "postgres": "host=/run/postgresql", "publication": "p", "slot": "s", "table": "a.b,c.d", "kafka": "k:1,k:2",
		"delivery": "at-least-once", "listen": "127.0.0.1:1", "log-level": "debug", "log-format": "json",
	}
	cmd := runCommand()
	addCommonFlags(cmd)
	for _, f := range append(commonFlags, relayFlags...) {
		if err := cmd.ParseFlags([]string{"--" + f.name, values[f.name]}); err != nil {
			t.Fatal(err)
		}
	}
	s, err := loadSettings(cmd)
	if err != nil {
		t.Fatal(err)
	}
	for flag, got := range map[string]string{
		"name": s.Name, "postgres": string(s.Postgres.URL), "publication": s.Postgres.Publication, "slot": s.Postgres.Slot,
		"table": strings.Join(s.Outbox.Tables, ","), "kafka": strings.Join(s.Kafka.Brokers, ","), "delivery": s.Kafka.Delivery,
		"listen": s.HTTP.Listen, "log-level": s.Log.Level, "log-format": s.Log.Format,
	} {
		if got != values[flag] {
			t.Errorf("--%s %s gives %q", flag, values[flag], got)
		}
	}
}

func TestEndsHaveTheirExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		line string
	}{
		{fmt.Errorf("session: %w", cdc.ErrInvariant), exitBug, "This is a bug in outrider"},
		{fmt.Errorf("drain: %w", cdc.ErrDrain), exitDrain, "raise timeouts.drain"},
		{&cdc.Blocked{Verdict: "gap", Reason: "slot gone", Advice: "Do this"}, exitDiverged, "Do this"},
		{&cdc.Blocked{Verdict: "diverged", Reason: "restored", Advice: "Do this"}, exitDiverged, "Do this"},
		{&cdc.Blocked{Verdict: "other cluster", Reason: "upgraded", Advice: "Do this"}, exitDiverged, "Do this"},
		{&cdc.Blocked{Verdict: "tail incomplete", Reason: "compacted", Advice: "Do this"}, exitDiverged, "Do this"},
		{&cdc.Blocked{Verdict: "name in use", Reason: "two relays", Advice: "Do this"}, exitDiverged, "Do this"},
		{fmt.Errorf("scan: %w", &cdc.Blocked{Verdict: "kafka lost data", Reason: "log ends below", Advice: "Do that"}), exitLost, "Do that"},
		{&cdc.Blocked{Verdict: "poison", Reason: "NULL topic", Advice: "Do that"}, exitPoison, "Do that"},
		{fmt.Errorf("start: %w", permanent{}), exitKafka, "Kafka does not take the relay: start: refused"},
		{fmt.Errorf("start: %w\n\tone: %w\n\ttwo", errors.New("several"), permanent{}), exitKafka, "start: several; one: refused; two"},
		{fmt.Errorf("connect to db:\n\tone: %w", permanent{}), exitKafka, "connect to db: one: refused"},
		{errors.New("surprise"), exitBug, "surprise. This end was not foreseen"},
	} {
		code, line := verdict(c.err)
		if code != c.code || !strings.Contains(line, c.line) || strings.Contains(line, "\n") {
			t.Errorf("%v: %d %q, want %d and %q", c.err, code, line, c.code, c.line)
		}
		if code, text := outcome(&failure{c.code, c.err, true}); code != c.code || text != "" {
			t.Errorf("%v: main makes it %d %q", c.err, code, text)
		}
	}
}

type permanent struct{}

func (permanent) Error() string   { return "refused" }
func (permanent) Permanent() bool { return true }

// blockable is a log that is read only when the test lets it be.
type blockable struct {
	started chan struct{} // a write has begun
	open    chan struct{} // closed: writes pass
	out     bytes.Buffer
}

func (b *blockable) Write(p []byte) (int, error) {
	select {
	case b.started <- struct{}{}:
	default:
	}
	<-b.open
	return b.out.Write(p)
}

func TestLogThatNobodyReadsStopsNobody(t *testing.T) {
	out := &blockable{started: make(chan struct{}, 1), open: make(chan struct{})}
	pipe := newLogPipe(out)
	log := newLogger(config.Log{Level: "info", Format: "json"}, pipe)
	go pipe.run()
	log.Info().Msg("first")
	<-out.started
	for i := range logPipeLines + 10 {
		log.Info().Int("line", i).Msg("more") // would block here for ever
	}
	pipe.close(time.Millisecond) // and here
	close(out.open)
	<-pipe.done
	lines := strings.Split(strings.TrimSpace(out.out.String()), "\n")
	if len(lines) != 1+logPipeLines+1 || !strings.Contains(lines[1], `"lines":10`) {
		t.Errorf("%d lines, the second is %s", len(lines), lines[1])
	}
}

func TestLogHasTimesInUTCWithMilliseconds(t *testing.T) {
	for format, where := range map[string]func(string) string{
		"json": func(line string) string {
			var l struct{ Time string }
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Error(err)
			}
			return l.Time
		},
		"console": func(line string) string { return strings.Fields(line)[0] },
	} {
		var b bytes.Buffer
		pipe := newLogPipe(&b)
		log := newLogger(config.Log{Level: "warn", Format: format}, pipe)
		go pipe.run()
		log.Info().Msg("too little")
		log.Warn().Msg("enough")
		pipe.close(time.Minute)
		at, err := time.Parse("2006-01-02T15:04:05.000Z", where(b.String()))
		if err != nil || time.Since(at) > time.Minute || strings.Contains(b.String(), "too little") {
			t.Errorf("%s: %v %s", format, err, b.String())
		}
	}
}

func TestSecretFilesReachTheDials(t *testing.T) {
	t.Chdir(t.TempDir())
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := config.Sources{Environ: []string{
		"OUTRIDER_NAME=orders", "OUTRIDER_POSTGRES_URL=host=/run/postgresql", "OUTRIDER_POSTGRES_PASSWORD_FILE=" + file, "OUTRIDER_KAFKA_BROKERS=b:1",
		"OUTRIDER_KAFKA_TLS_ENABLED=true", "OUTRIDER_KAFKA_SASL_MECHANISM=plain", "OUTRIDER_KAFKA_SASL_USERNAME=u", "OUTRIDER_KAFKA_SASL_PASSWORD_FILE=" + file,
	}}.Load()
	if err != nil {
		t.Fatal(err)
	}
	b := brokerConfig(s)
	if _, err := b.TLS(); err != nil {
		t.Error(err)
	}
	pipe := newLogPipe(io.Discard)
	log := newLogger(s.Log, pipe)
	cfg, err := sinkConfig(s, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	relay := relayConfig(s, cfg, log)
	for _, want := range []string{"one", "two"} {
		if err := os.WriteFile(file, []byte(want+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := relay.Postgres.Password(); got != want || err != nil {
			t.Errorf("Postgres gets %q, %v", got, err)
		}
		m, err := b.SASL()
		if err != nil {
			t.Fatal(err)
		}
		if _, first, err := m.Start(t.Context()); err != nil || string(first) != "\x00u\x00"+want {
			t.Errorf("the broker gets %q, %v", first, err)
		}
	}
}

func TestTokenFileReachesTheDials(t *testing.T) {
	t.Chdir(t.TempDir())
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	s, err := config.Sources{Environ: []string{
		"OUTRIDER_NAME=orders", "OUTRIDER_POSTGRES_URL=host=/run/postgresql", "OUTRIDER_KAFKA_BROKERS=b:1",
		"OUTRIDER_KAFKA_SASL_MECHANISM=oauthbearer", "OUTRIDER_KAFKA_SASL_TOKEN_FILE=" + file,
	}}.Load()
	if err != nil {
		t.Fatal(err)
	}
	b := brokerConfig(s)
	for _, want := range []string{"one", "two"} {
		write(want + "\n")
		m, err := b.SASL()
		if err != nil {
			t.Fatal(err)
		}
		if _, first, err := m.Start(t.Context()); err != nil || string(first) != "n,,\x01auth=Bearer "+want+"\x01\x01" {
			t.Errorf("the broker gets %q, %v", first, err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := b.SASL(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
}

func TestMigrateConfigExitsWith2WhereDeliveryChanges(t *testing.T) {
	for file, want := range map[string]struct {
		code int
		text string
	}{
		"migrate/testdata/saga.json":  {exitClean, ""},
		"migrate/testdata/order.json": {exitSettings, "outrider: not carried over, though it changes what is delivered: 3 of the options, named above; settle each before the relay takes over"},
		"exit.go":                     {exitSettings, "outrider: exit.go: no transform is Debezium's outbox event router"},
		"no-such-file":                {exitSettings, "outrider: open no-such-file: no such file or directory"},
	} {
		out, code, text := execute("migrate-config", file, "--name", "mine")
		if code != want.code || !strings.HasPrefix(text, want.text) || (text == "") != (want.text == "") {
			t.Errorf("%s: %d %q, want %d %q", file, code, text, want.code, want.text)
		}
		if printed := strings.HasPrefix(out, "name: mine\n"); printed != strings.HasSuffix(file, ".json") {
			t.Errorf("%s: printed %q", file, out)
		}
	}
}
