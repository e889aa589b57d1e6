package test

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// route is a stage with one topic of a secured broker, and the way there.
type route struct {
	*stage
	access
	kafka *securedKafka
}

func newRoute(t *testing.T, kafka *securedKafka, way, secret string) *route {
	t.Helper()
	r := &route{stage: newStage(t, sharedPostgres(t)), access: kafka.access(t, way, secret), kafka: kafka}
	kafka.CreateTopic(t, r.topic("a"), 3, 1, nil)
	return r
}

func (r *route) relaying(t *testing.T) *harness.Relay {
	t.Helper()
	return r.startRelaying(t, r.brokers, r.config)
}

func (r *route) awaitDelivered(t *testing.T) {
	t.Helper()
	harness.AwaitDelivered(t, r.conn, r.kafka.Brokers(), harness.NoRepeats, patience, r.topic("a"))
}

// undisturbed is for Throughout: the relay relays, and no session of its has ended.
func undisturbed(relay *harness.Relay) error {
	st, err := relay.Status()
	if err == nil && (st.State != cdc.Relaying || len(st.Sessions) > 0) {
		err = fmt.Errorf("%s (%s), ended sessions %v", st.State, st.Reason, st.Sessions)
	}
	return err
}

// checkNothingLost wants that no request was on a connection that the broker cut.
func checkNothingLost(t *testing.T, relay *harness.Relay) {
	t.Helper()
	if body, _, err := relay.Get("/metrics"); err != nil || strings.Contains(body, `produce_retries_total{code="lost"}`) {
		t.Errorf("requests were lost with connections that the broker cut: %v", err)
	}
}

// Secrets and certificates of both sides (scram-sha-256 is that of a password that changes), right, wrong and renewed, on a broker that is restarted once, at the end.
func TestKafkaIsReachedBySecretsAsTheyAre(t *testing.T) {
	t.Parallel()
	kafka := newSecuredKafka(t)
	t.Run("together", func(t *testing.T) {
		for _, way := range []string{byCertificate, byPassword, "scram-sha-512"} {
			t.Run("delivers by "+way, func(t *testing.T) { t.Parallel(); delivers(t, kafka, way) })
		}
		t.Run("outlives credentials", func(t *testing.T) { t.Parallel(); outlivesCredentials(t, kafka) })
		t.Run("follows a password", func(t *testing.T) { t.Parallel(); followsPassword(t, kafka) })
		t.Run("follows a token", func(t *testing.T) { t.Parallel(); followsToken(t, kafka) })
		t.Run("refuses and is refused", func(t *testing.T) { t.Parallel(); refusesAndIsRefused(t, kafka) })
	})
	t.Run("follows certificates", func(t *testing.T) { followsCertificates(t, kafka) })
}

func delivers(t *testing.T, kafka *securedKafka, way string) {
	r := newRoute(t, kafka, way, kafkaPassword)
	r.relaying(t)
	harness.WriteRows(t, r.conn, r.aggregate("a"), 1, 5000, 300)
	r.awaitDelivered(t)
}

func outlivesCredentials(t *testing.T, kafka *securedKafka) {
	r := newRoute(t, kafka, byPassword, kafkaPassword)
	relay := r.relaying(t)
	writer := harness.StartWriter(t, r.url, 2*time.Millisecond, 100, r.aggregate("a"))
	harness.Throughout(t, 3*credentialsLifetime, "relaying", func() error { return undisturbed(relay) })
	writer.Stop(t)
	r.awaitDelivered(t)
	checkNothingLost(t, relay)
}

// The broker learns the new password first, so that there is a time in which the file holds the wrong one.
func followsPassword(t *testing.T, kafka *securedKafka) {
	r := newRoute(t, kafka, "scram-sha-256", kafkaPassword)
	relay := r.relaying(t)
	harness.WriteRows(t, r.conn, r.aggregate("a"), 1, 100, 10)
	r.awaitDelivered(t)
	const next = "next-" + kafkaPassword
	kafka.setPassword(t, kadm.ScramSha256, next)
	st := awaitDegraded(t, relay, "the broker refuses user name or password", patience)
	if strings.Contains(st.Reason, kafkaPassword) {
		t.Errorf("the reason shows the password: %s", st.Reason)
	}
	harness.WriteRows(t, r.conn, r.aggregate("a"), 101, 200, 10)
	writeFile(t, r.secret, next)
	relay.AwaitState(t, cdc.Relaying, patience)
	r.awaitDelivered(t)
}

// A token that is renewed in time is never missed; one that is not ends the relaying until it is.
func followsToken(t *testing.T, kafka *securedKafka) {
	const lifetime = 4 * time.Second
	r := newRoute(t, kafka, byToken, relayToken(time.Now().Add(lifetime)))
	relay := r.relaying(t)
	writer := harness.StartWriter(t, r.url, 2*time.Millisecond, 100, r.aggregate("a"))
	renewed := time.Now()
	harness.Throughout(t, 2*lifetime, "relaying", func() error {
		if time.Since(renewed) > lifetime/4 {
			renewed = time.Now()
			writeFile(t, r.secret, relayToken(renewed.Add(lifetime)))
		}
		return undisturbed(relay)
	})
	checkNothingLost(t, relay)
	st := awaitDegraded(t, relay, `the broker refuses the token: {"status":"invalid_token"}`, patience)
	if strings.Contains(st.Reason, "eyJ") {
		t.Errorf("the reason shows a token: %s", st.Reason)
	}
	writeFile(t, r.secret, relayToken(time.Now().Add(time.Hour)))
	relay.AwaitState(t, cdc.Relaying, patience)
	writer.Stop(t)
	r.awaitDelivered(t)
}

// What is wrong from the start ends the start, with the reason in the last line and the secret in none.
func refusesAndIsRefused(t *testing.T, kafka *securedKafka) {
	s := newStage(t, sharedPostgres(t))
	others := harness.NewAuthority(t)
	at := func(listener, tls string, certificate ...string) access {
		if len(certificate) > 0 {
			tls += fmt.Sprintf(", cert_file: %q, key_file: %q", certificate[0], certificate[1])
		}
		return access{brokers: []string{kafka.Nodes[0].Listeners[listener]}, config: "kafka: { tls: { enabled: true, " + tls + " } }\n"}
	}
	issue := func(a *harness.Authority, name string, changes ...func(*x509.Certificate)) []string {
		cert, key := a.Issue(t, name, changes...)
		return []string{cert, key}
	}
	ours, theirs := fmt.Sprintf("ca_file: %q", kafka.authority.File), fmt.Sprintf("ca_file: %q", others.File)
	elsewhere := kafka.access(t, byToken, relayToken(time.Now().Add(time.Hour)))
	elsewhere.brokers = []string{kafka.Nodes[0].Listeners["PLAINTLS"]}
	for name, c := range map[string]struct {
		access
		says string
	}{
		"wrong password, plain":           {kafka.access(t, byPassword, "wrong-"+kafkaPassword), "refuses user name or password"},
		"wrong password, scram":           {kafka.access(t, "scram-sha-512", "wrong-"+kafkaPassword), "refuses user name or password"},
		"wrong token":                     {kafka.access(t, byToken, "eyJhbGciOiJub25lIn0.e30."), "the broker refuses the token: {"},
		"expired token":                   {kafka.access(t, byToken, relayToken(time.Now().Add(-time.Hour))), `the broker refuses the token: {"status":"invalid_token"}`},
		"a mechanism of another listener": {elsewhere, "does not offer this mechanism, only: PLAIN"},
		"another authority":               {at("MUTUAL", theirs), "ca_file must hold its issuer"},
		"an expired certificate":          {at("EXPIRED", ours), "expired"},
		"another host":                    {at("MUTUAL", ours+", server_name: elsewhere.example"), "kafka.tls.server_name"},
		"no certificate of ours":          {at("MUTUAL", ours), "certificate"},
		"ours of another authority":       {at("MUTUAL", ours, issue(others, "relay")...), "certificate"},
		"ours expired":                    {at("MUTUAL", ours, issue(kafka.authority, "relay-of-old", harness.Expired)...), "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			relay := s.start(t, c.brokers, c.config)
			if code := relay.ExitCode(t, patience); code != 11 {
				t.Errorf("exit code %d", code)
			}
			if last := lastLine(t, relay); !strings.Contains(last, c.says) {
				t.Errorf("the last line does not say %q: %s", c.says, last)
			}
			checkUntold(t, "the log", relay.Log(), kafkaPassword, "eyJ")
			var slots int
			queryRow(t, s.conn, `select count(*) from pg_replication_slots where slot_name = $1`, []any{s.slot()}, &slots)
			if slots > 0 {
				t.Error("a slot was left behind, which nobody reads")
				s.dropSlot(t)
			}
		})
	}
}

// Both sides get certificates of another authority, the broker first.
func followsCertificates(t *testing.T, kafka *securedKafka) {
	r := newRoute(t, kafka, byCertificate, "")
	relay := r.relaying(t)
	harness.WriteRows(t, r.conn, r.aggregate("a"), 1, 100, 10)
	r.awaitDelivered(t)
	next := harness.NewAuthority(t)
	kafka.certify(t, next)
	kafka.Nodes[0].Kill()
	if err := kafka.Nodes[0].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitDegraded(t, relay, "kafka.tls.ca_file must hold its issuer", patience)
	harness.WriteRows(t, r.conn, r.aggregate("a"), 101, 200, 10)
	writeFile(t, kafka.authority.File, readFile(t, next.File)) // which is the relay's ca_file
	awaitDegraded(t, relay, "certificate", patience)
	cert, key := next.Issue(t, "relay")
	writeFile(t, r.key, readFile(t, key))
	writeFile(t, r.cert, readFile(t, cert))
	relay.AwaitState(t, cdc.Relaying, patience)
	r.awaitDelivered(t)
}
