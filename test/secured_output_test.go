package test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// checkUntold wants that a text has none of the secrets.
func checkUntold(t *testing.T, where, text string, secrets ...string) {
	t.Helper()
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("%s tells %q:\n%s", where, secret, text)
		}
	}
}

// Everything that a relay can be made to say, with a secret in every place where one may be.
func TestSecretsAndPayloadsAreNeverTold(t *testing.T) {
	t.Parallel()
	pg, kafka := securedPostgres(t), newSecuredKafka(t)
	s := newStage(t, pg.Postgres)
	kafka.CreateTopic(t, s.topic("good"), 1, 1, tight)
	way := kafka.access(t, byPassword, kafkaPassword)
	cert, key := kafka.authority.Issue(t, "relay")
	token := filepath.Join(t.TempDir(), "token")
	writeFile(t, token, httpToken+"\n")
	way.config += fmt.Sprintf("http: { token_file: %q }\n", token)
	relay := harness.StartRelay(t, harness.RelayOptions{
		Name: s.name, Postgres: pg.url(s.conn.Config().Database), Kafka: way.brokers, Args: []string{"--log-level", "debug"},
		Config: way.config + "outbox: { on_poison: skip }\n",
		Env:    []string{"OUTRIDER_TIMEOUTS_BROKER=1s", "OUTRIDER_KAFKA_TLS_CERT_FILE=" + cert, "OUTRIDER_KAFKA_TLS_KEY_FILE=" + key},
	})
	relay.Token = httpToken
	relay.AwaitState(t, cdc.Relaying, 30*time.Second)
	if _, code, err := (&harness.Relay{Base: relay.Base}).Get("/status"); err != nil || code != 401 {
		t.Errorf("/status without the token: %d, %v", code, err)
	}

	secrets := []string{httpToken, postgresPassword, url.QueryEscape(postgresPassword), kafkaPassword, poisonMark, "canary-in-a-header", strings.Split(readFile(t, key), "\n")[1]}
	bad := s.aggregate("good")
	harness.Exec(t, s.conn, `insert into public.outbox (aggregate_type, aggregate_id, event_type, payload, headers) values
		($1, 'k', 'Good', '{"n": 1, "canary": "canary-in-a-poison-row"}', '{"h": "canary-in-a-header", "outrider-x": "canary-in-a-header"}'),
		($1, 'k', 'Bad', '{"n": 2, "canary": "canary-in-a-poison-row"}', '["canary-in-a-header"]')`, bad)
	for _, row := range poisonRows(s) {
		s.insertPoison(t, row.aggregate, row.size)
	}
	harness.AwaitRecords(t, kafka.Brokers(), 1, 20*time.Second, s.topic("good"))
	checkSilent(t, relay, secrets...)
	checkCommandsSilent(t, relay, way, s.name, pg.url(s.conn.Config().Database), secrets...)

	// Both sides fail while rows are on their way.
	kafka.Nodes[0].Kill()
	harness.Exec(t, s.conn, `insert into public.outbox (aggregate_type, aggregate_id, event_type, payload) select $1, 'k', 'Late', '{"canary": "canary-in-a-poison-row"}' from generate_series(1, 100)`, bad)
	awaitDegraded(t, relay, "", 20*time.Second)
	checkSilent(t, relay, secrets...)
	if _, err := pg.Stop(harness.Immediate, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	relay.AwaitLog(t, "session ended", 20*time.Second)
	checkSilent(t, relay, secrets...)
	if err := pg.Start(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// checkCommandsSilent runs every command that looks at a relay, beside that relay.
func checkCommandsSilent(t *testing.T, relay *harness.Relay, way access, name, postgres string, secrets ...string) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "outrider.yaml")
	writeFile(t, config, way.config)
	env := []string{
		"OUTRIDER_NAME=" + name, "OUTRIDER_POSTGRES_URL=" + postgres, "OUTRIDER_KAFKA_BROKERS=" + strings.Join(way.brokers, ","),
		"OUTRIDER_HTTP_LISTEN=" + strings.TrimPrefix(relay.Base, "http://"),
	}
	for _, args := range [][]string{{"init"}, {"init", "--print-sql"}, {"check"}, {"status"}, {"status", "--offline"}, {"resolve"}, {"prune", "--older-than", "1h"}} {
		for _, further := range [][]string{{}, {"--json"}} {
			args := append(append([]string{}, args...), further...)
			out, log, _ := harness.Command(t, env, append(args, "-c", config, "--log-level", "debug")...)
			if out == "" {
				t.Errorf("outrider %v says nothing: %s", args, log)
			}
			checkUntold(t, "outrider "+strings.Join(args, " "), out+log, secrets...)
		}
	}
}

func TestNoCommandTellsASecretOfItsSettings(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(httpToken), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{
		"OUTRIDER_NAME=orders", "OUTRIDER_KAFKA_BROKERS=127.0.0.1:1", "OUTRIDER_POSTGRES_URL=postgres://relay:canary-of-postgres@127.0.0.1:1/shop",
		"OUTRIDER_KAFKA_SASL_MECHANISM=plain", "OUTRIDER_KAFKA_SASL_USERNAME=relay", "OUTRIDER_KAFKA_SASL_PASSWORD=" + kafkaPassword,
		"OUTRIDER_HTTP_TOKEN_FILE=" + token,
	}
	help, _, code := harness.Command(t, env, "--help")
	if code != 0 {
		t.Fatalf("--help: exit code %d", code)
	}
	said := map[string]string{"--help": help}
	_, list, _ := strings.Cut(help, "Available Commands:")
	list, _, _ = strings.Cut(list, "Flags:")
	for line := range strings.Lines(list) {
		if fields := strings.Fields(line); len(fields) > 1 {
			out, log, code := harness.Command(t, env, fields[0], "--help")
			if code != 0 {
				t.Errorf("%s --help: exit code %d", fields[0], code)
			}
			said[fields[0]+" --help"] = out + log
		}
	}
	if len(said) < 3 {
		t.Fatalf("there are only %d commands in\n%s", len(said)-1, help)
	}
	for name, bad := range map[string]string{
		"a URL that cannot be read": "OUTRIDER_POSTGRES_URL=postgres://relay:canary-of-postgres@host:port/%zz",
		"a DSN that cannot be read": "OUTRIDER_POSTGRES_URL=host=h password=canary-of-postgres port=x",
		"a broker without a port":   "OUTRIDER_KAFKA_BROKERS=nowhere",
	} {
		out, log, code := harness.Command(t, append(env, bad), "run")
		if code != 2 {
			t.Errorf("%s: exit code %d", name, code)
		}
		said[name] = out + log
	}
	// Nobody answers at the addresses of env.
	for _, args := range [][]string{{"init"}, {"init", "--topics=a"}, {"init", "--drop", "--yes"}, {"check"}, {"status"}, {"status", "--offline"}, {"resolve"}, {"prune", "--older-than", "1h"}} {
		out, log, code := harness.Command(t, env, args...)
		if code == 0 {
			t.Errorf("%v: exit code 0", args)
		}
		said[strings.Join(args, " ")] = out + log
	}
	for what, text := range said {
		checkUntold(t, what, text, "canary-of-postgres", kafkaPassword, httpToken)
	}
}
