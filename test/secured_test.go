package test

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outrider-relay/outrider/test/harness"
)

// Secrets that must be in no output.
const (
	postgresPassword = "canary-of-postgres%/?#"
	kafkaPassword    = "canary-of-kafka"
	httpToken        = "canary-of-http"
)

// secured is a Postgres that takes its role relay over TLS and with a password only, and its role certified with a
// certificate of that name only.
type secured struct {
	*harness.Postgres
	authority *harness.Authority
}

func securedPostgres(t *testing.T) *secured {
	t.Helper()
	s := &secured{authority: harness.NewAuthority(t)}
	s.Postgres = harness.NewPostgres(t, harness.PostgresOptions{HBA: `local all all trust
hostssl all relay 127.0.0.1/32 scram-sha-256
hostssl all certified 127.0.0.1/32 cert
host all relay,certified 127.0.0.1/32 reject
host all all 127.0.0.1/32 trust
`})
	s.EnableTLS(t, s.authority)
	if _, err := s.Stop(harness.Fast, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn := s.Connect(t)
	harness.Exec(t, conn, fmt.Sprintf(`create role relay superuser login password '%s'`, postgresPassword))
	harness.Exec(t, conn, `create role certified superuser login`)
	return s
}

// address is how a role's client reaches a database, with further settings of the connection in pairs.
func (s *secured) address(user *url.Userinfo, database string, settings ...string) string {
	query := url.Values{"sslmode": {"verify-full"}, "sslrootcert": {s.authority.File}}
	for i := 0; i < len(settings); i += 2 {
		query.Set(settings[i], settings[i+1])
	}
	u := url.URL{Scheme: "postgres", User: user, Host: s.Addr(), Path: database, RawQuery: query.Encode()}
	return u.String()
}

// url is how the relay reaches a database.
func (s *secured) url(database string) string {
	return s.address(url.UserPassword("relay", postgresPassword), database)
}

// Ways to authenticate to the broker that differ in more than a setting's value.
const (
	byCertificate = "mutual"
	byPassword    = "plain"
	byToken       = "oauthbearer"
)

// credentialsLifetime is how long the broker lets a connection by a password live (KIP-368).
const credentialsLifetime = 2 * time.Second

// securedKafka is a broker with a listener for each way to be sure of the other side.
type securedKafka struct {
	*harness.Kafka
	authority *harness.Authority
	store     string // the file of the broker's certificate and key
	trusted   string // the file of the authority that it trusts
}

func newSecuredKafka(t *testing.T) *securedKafka {
	t.Helper()
	k := &securedKafka{authority: harness.NewAuthority(t), store: filepath.Join(t.TempDir(), "store.pem"), trusted: filepath.Join(t.TempDir(), "trusted.pem")}
	k.certify(t, k.authority)
	expired := filepath.Join(t.TempDir(), "expired.pem")
	writeStore(t, expired, k.authority, harness.Expired)
	const scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	lifetime := fmt.Sprint(credentialsLifetime.Milliseconds())
	k.Kafka = harness.NewKafka(t, harness.KafkaOptions{
		Listeners: []harness.KafkaListener{
			{Name: "MUTUAL", Protocol: "SSL"},
			{Name: "EXPIRED", Protocol: "SSL"},
			{Name: "PLAINTLS", Protocol: "SASL_SSL"},
			{Name: "SCRAM", Protocol: "SASL_PLAINTEXT"},
			{Name: "BEARER", Protocol: "SASL_SSL"},
		},
		Settings: map[string]string{
			"ssl.keystore.type": "PEM", "ssl.keystore.location": k.store, "ssl.truststore.type": "PEM", "ssl.truststore.location": k.trusted,
			"listener.name.mutual.ssl.client.auth":               "required",
			"listener.name.expired.ssl.keystore.location":        expired,
			"listener.name.plaintls.sasl.enabled.mechanisms":     "PLAIN",
			"listener.name.plaintls.plain.sasl.jaas.config":      fmt.Sprintf(`org.apache.kafka.common.security.plain.PlainLoginModule required user_relay="%s";`, kafkaPassword),
			"listener.name.scram.sasl.enabled.mechanisms":        "SCRAM-SHA-256,SCRAM-SHA-512",
			"listener.name.scram.scram-sha-256.sasl.jaas.config": scram,
			"listener.name.scram.scram-sha-512.sasl.jaas.config": scram,
			"listener.name.bearer.sasl.enabled.mechanisms":       "OAUTHBEARER",
			// Its default takes tokens without a signature, and looks at the rest of them.
			"listener.name.bearer.oauthbearer.sasl.jaas.config":           "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;",
			"listener.name.bearer.oauthbearer.connections.max.reauth.ms":  "3600000", // and no longer than the token
			"listener.name.plaintls.plain.connections.max.reauth.ms":      lifetime,
			"listener.name.scram.scram-sha-256.connections.max.reauth.ms": lifetime,
		},
	})
	k.setPassword(t, kadm.ScramSha256, kafkaPassword)
	k.setPassword(t, kadm.ScramSha512, kafkaPassword)
	return k
}

// certify gives the broker a certificate, and lets it trust those of the same authority, from its next start on.
func (k *securedKafka) certify(t *testing.T, a *harness.Authority) {
	t.Helper()
	writeStore(t, k.store, a)
	writeFile(t, k.trusted, readFile(t, a.File))
}

// setPassword changes the password of the user relay.
func (k *securedKafka) setPassword(t *testing.T, mechanism kadm.ScramMechanism, password string) {
	t.Helper()
	res, err := harness.Admin(t, k.Brokers()).AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{{User: "relay", Mechanism: mechanism, Iterations: 4096, Password: password}})
	if err == nil {
		err = res.Error()
	}
	if err != nil {
		t.Fatalf("set the password of the SCRAM user: %v", err)
	}
}

// access is a way to the broker: its address, and files whose contents are renewed.
type access struct {
	brokers   []string
	config    string // YAML
	secret    string // the file of the password or the token
	cert, key string // the files of the relay's certificate
}

// access gives a way in with a secret; settings of kafka.tls, as YAML, win over those that fit.
func (k *securedKafka) access(t *testing.T, way, secret string) access {
	t.Helper()
	a := access{secret: filepath.Join(t.TempDir(), "secret")}
	writeFile(t, a.secret, secret+"\n")
	listener := "SCRAM"
	sasl := fmt.Sprintf("sasl: { mechanism: %s, username: relay, password_file: %q }\n", way, a.secret)
	tls := fmt.Sprintf("tls: { enabled: true, ca_file: %q", k.authority.File)
	switch way {
	case byCertificate:
		a.cert, a.key = k.authority.Issue(t, fmt.Sprintf("relay%d", time.Now().UnixNano()))
		listener, sasl, tls = "MUTUAL", "", fmt.Sprintf("%s, cert_file: %q, key_file: %q }\n", tls, a.cert, a.key)
	case byToken:
		listener, sasl, tls = "BEARER", fmt.Sprintf("sasl: { mechanism: oauthbearer, token_file: %q }\n", a.secret), tls+" }\n"
	case byPassword:
		listener, tls = "PLAINTLS", tls+" }\n"
	default:
		tls = ""
	}
	a.brokers, a.config = []string{k.Nodes[0].Listeners[listener]}, "kafka:\n"
	for _, part := range []string{sasl, tls} {
		if part != "" {
			a.config += "  " + part
		}
	}
	return a
}

// relayToken is one of the user relay, without a signature.
func relayToken(expires time.Time) string {
	claims := fmt.Sprintf(`{"sub":"relay","iat":%d,"exp":%.3f}`, time.Now().Add(-time.Hour).Unix(), float64(expires.UnixMilli())/1000)
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + "."
}

// writeStore makes the file that Kafka reads a key and its certificate from.
func writeStore(t *testing.T, store string, a *harness.Authority, changes ...func(*x509.Certificate)) {
	t.Helper()
	cert, key := a.Issue(t, "kafka", changes...)
	writeFile(t, store, readFile(t, key)+readFile(t, cert))
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// writeFile replaces a file at once, as whoever renews a secret should.
func writeFile(t *testing.T, name, content string) {
	t.Helper()
	next := name + ".next"
	if err := os.WriteFile(next, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, name); err != nil {
		t.Fatal(err)
	}
}
