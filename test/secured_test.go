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

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// Secrets that must be in no output.
const (
	postgresPassword = "canary-of-postgres%/?#"
	kafkaPassword    = "canary-of-kafka"
	httpToken        = "canary-of-http"
)

// secured is a Postgres that takes its role relay over TLS and with a password only.
type secured struct {
	*harness.Postgres
	authority *harness.Authority
}

func securedPostgres(t *testing.T) *secured {
	t.Helper()
	s := &secured{authority: harness.NewAuthority(t)}
	s.Postgres = harness.NewPostgres(t, harness.PostgresOptions{HBA: "local all all trust\nhostssl all relay 127.0.0.1/32 scram-sha-256\nhost all relay 127.0.0.1/32 reject\nhost all all 127.0.0.1/32 trust\n"})
	s.EnableTLS(t, s.authority)
	if _, err := s.Stop(harness.Fast, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	harness.Exec(t, s.Connect(t), fmt.Sprintf(`create role relay superuser login password '%s'`, postgresPassword))
	return s
}

// url is how the relay reaches a database.
func (s *secured) url(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("relay", postgresPassword), Host: s.Addr(), Path: database,
		RawQuery: url.Values{"sslmode": {"verify-full"}, "sslrootcert": {s.authority.File}}.Encode(),
	}
	return u.String()
}

// credentialsLifetime is how long the broker lets a connection by PLAIN live (KIP-368).
const credentialsLifetime = 2 * time.Second

// securedKafka is a broker with a listener for each way to be sure of the other side.
type securedKafka struct {
	*harness.Kafka
	authority *harness.Authority
}

func newSecuredKafka(t *testing.T) *securedKafka {
	t.Helper()
	k := &securedKafka{authority: harness.NewAuthority(t)}
	cert, key := k.authority.Issue(t, "kafka")
	store := filepath.Join(t.TempDir(), "store.pem")
	var pem []byte
	for _, file := range []string{key, cert} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pem = append(pem, b...)
	}
	if err := os.WriteFile(store, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	const scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	k.Kafka = harness.NewKafka(t, harness.KafkaOptions{
		Listeners: []harness.KafkaListener{{Name: "MUTUAL", Protocol: "SSL"}, {Name: "PLAINTLS", Protocol: "SASL_SSL"}, {Name: "SCRAM", Protocol: "SASL_PLAINTEXT"}},
		Settings: map[string]string{
			"ssl.keystore.type": "PEM", "ssl.keystore.location": store, "ssl.truststore.type": "PEM", "ssl.truststore.location": k.authority.File,
			"listener.name.mutual.ssl.client.auth":                   "required",
			"listener.name.plaintls.sasl.enabled.mechanisms":         "PLAIN",
			"listener.name.plaintls.plain.sasl.jaas.config":          fmt.Sprintf(`org.apache.kafka.common.security.plain.PlainLoginModule required user_relay="%s";`, kafkaPassword),
			"listener.name.scram.sasl.enabled.mechanisms":            "SCRAM-SHA-256,SCRAM-SHA-512",
			"listener.name.scram.scram-sha-256.sasl.jaas.config":     scram,
			"listener.name.scram.scram-sha-512.sasl.jaas.config":     scram,
			"listener.name.plaintls.plain.connections.max.reauth.ms": fmt.Sprint(credentialsLifetime.Milliseconds()),
		},
	})
	adm := harness.Admin(t, k.Brokers())
	for _, mechanism := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
		res, err := adm.AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{{User: "relay", Mechanism: mechanism, Iterations: 4096, Password: kafkaPassword}})
		if err == nil {
			err = res.Error()
		}
		if err != nil {
			t.Fatalf("make the SCRAM user: %v", err)
		}
	}
	return k
}

// settings are those that reach the broker by a listener, and the way in.
func (k *securedKafka) settings(t *testing.T, way, password string) (brokers []string, config string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	listener := "SCRAM"
	sasl := fmt.Sprintf("sasl: { mechanism: %s, username: relay, password_file: %q }", way, file)
	tls := fmt.Sprintf("tls: { enabled: true, ca_file: %q", k.authority.File)
	switch way {
	case "mutual":
		cert, key := k.authority.Issue(t, "relay")
		listener, sasl = "MUTUAL", fmt.Sprintf("%s, cert_file: %q, key_file: %q }", tls, cert, key)
	case "plain":
		listener, sasl = "PLAINTLS", sasl+"\n  "+tls+" }"
	}
	return []string{k.Nodes[0].Listeners[listener]}, "kafka:\n  " + sasl + "\n"
}

func TestEveryWayToAuthenticateDelivers(t *testing.T) {
	kafka := newSecuredKafka(t)
	for _, way := range []string{"mutual", "plain", "scram-sha-256", "scram-sha-512"} {
		t.Run(way, func(t *testing.T) {
			s := newStage(t, sharedPostgres(t))
			kafka.CreateTopic(t, s.topic("a"), 3, 1, nil)
			brokers, config := kafka.settings(t, way, kafkaPassword)
			s.startRelaying(t, brokers, config)
			harness.WriteRows(t, s.conn, s.aggregate("a"), 1, 5000, 300)
			harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, 20*time.Second, s.topic("a"))
		})
	}
	t.Run("over the lifetime of credentials", func(t *testing.T) {
		s := newStage(t, sharedPostgres(t))
		kafka.CreateTopic(t, s.topic("a"), 3, 1, nil)
		brokers, config := kafka.settings(t, "plain", kafkaPassword)
		relay := s.startRelaying(t, brokers, config)
		writer := harness.StartWriter(t, s.url, 2*time.Millisecond, 100, s.aggregate("a"))
		harness.Throughout(t, 3*credentialsLifetime, "relaying", func() error {
			st, err := relay.Status()
			if err == nil && (st.State != cdc.Relaying || len(st.Sessions) > 0) {
				err = fmt.Errorf("%s (%s), ended sessions %v", st.State, st.Reason, st.Sessions)
			}
			return err
		})
		writer.Stop(t)
		harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, 20*time.Second, s.topic("a"))
		if body, _, err := relay.Get("/metrics"); err != nil || strings.Contains(body, `produce_retries_total{code="lost"}`) {
			t.Errorf("requests were lost with connections that the broker cut: %v", err)
		}
	})
	for _, way := range []string{"plain", "scram-sha-512"} {
		t.Run("wrong password, "+way, func(t *testing.T) {
			s := newStage(t, sharedPostgres(t))
			brokers, config := kafka.settings(t, way, "wrong-"+kafkaPassword)
			relay := s.start(t, brokers, config)
			if code := relay.ExitCode(t, 20*time.Second); code != 11 {
				t.Errorf("exit code %d", code)
			}
			lines := strings.Split(relay.Log(), "\n")
			if last := lines[len(lines)-1]; !strings.Contains(last, "SASL_AUTHENTICATION_FAILED") && !strings.Contains(last, "password") || strings.Contains(last, kafkaPassword) {
				t.Errorf("the last line: %s", last)
			}
		})
	}
}

// Everything that a relay can be made to say, with a secret in every place where one may be.
func TestSecretsAndPayloadsAreNeverTold(t *testing.T) {
	pg, kafka := securedPostgres(t), newSecuredKafka(t)
	s := newStage(t, pg.Postgres)
	kafka.CreateTopic(t, s.topic("good"), 1, 1, tight)
	brokers, config := kafka.settings(t, "plain", kafkaPassword)
	relay := harness.StartRelay(t, harness.RelayOptions{
		Name: s.name, Postgres: pg.url(s.conn.Config().Database), Kafka: brokers, Args: []string{"--log-level", "debug"},
		Config: config + "outbox: { on_poison: skip }\n", Env: []string{"OUTRIDER_TIMEOUTS_BROKER=1s"},
	})
	relay.AwaitState(t, cdc.Relaying, 30*time.Second)

	secrets := []string{postgresPassword, url.QueryEscape(postgresPassword), kafkaPassword, poisonMark, "canary-in-a-header"}
	bad := s.aggregate("good")
	harness.Exec(t, s.conn, `insert into public.outbox (aggregate_type, aggregate_id, event_type, payload, headers) values
		($1, 'k', 'Good', '{"n": 1, "canary": "canary-in-a-poison-row"}', '{"h": "canary-in-a-header", "outrider-x": "canary-in-a-header"}'),
		($1, 'k', 'Bad', '{"n": 2, "canary": "canary-in-a-poison-row"}', '["canary-in-a-header"]')`, bad)
	for _, row := range poisonRows(s) {
		s.insertPoison(t, row.aggregate, row.size)
	}
	harness.AwaitRecords(t, kafka.Brokers(), 1, 20*time.Second, s.topic("good"))
	checkSilent(t, relay, secrets...)

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
	for what, text := range said {
		for _, secret := range []string{"canary-of-postgres", kafkaPassword, httpToken} {
			if strings.Contains(text, secret) {
				t.Errorf("%s tells %q:\n%s", what, secret, text)
			}
		}
	}
}
