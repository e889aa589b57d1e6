package test

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// present makes the server use a certificate for the connections from now on.
func (s *secured) present(t *testing.T, a *harness.Authority, changes ...func(*x509.Certificate)) {
	t.Helper()
	conn := s.Connect(t)
	var before, after time.Time
	queryRow(t, conn, `select pg_conf_load_time()`, nil, &before)
	cert, key := a.Issue(t, "postgres", changes...)
	s.SetCertificate(t, a, cert, key)
	harness.Exec(t, conn, `select pg_reload_conf()`)
	harness.Eventually(t, patience, "a reload", func() error { // which a session that begins later has seen
		queryRow(t, s.Connect(t), `select pg_conf_load_time()`, nil, &after)
		if !after.After(before) {
			return fmt.Errorf("the last one was at %s", after)
		}
		return nil
	})
}

// certified is how the role of that name reaches a database, by the certificate in two files.
func (s *secured) certified(database, cert, key string) string {
	return s.address(url.User("certified"), database, "sslcert", cert, "sslkey", key)
}

func TestPostgresThatIsNotSureOfUsOrWeOfItEndsTheStartWith10(t *testing.T) {
	t.Parallel()
	pg := securedPostgres(t)
	others := harness.NewAuthority(t)
	database := strings.TrimPrefix(harness.Connect(t, pg.NewDatabase(t)).Config().Database, "/")
	relay := url.UserPassword("relay", postgresPassword)
	oldCert, oldKey := pg.authority.Issue(t, "certified", harness.Expired)
	wrongCert, wrongKey := pg.authority.Issue(t, "somebody")
	for _, c := range []struct {
		name      string
		authority *harness.Authority // of the server
		change    func(*x509.Certificate)
		url, says string
	}{
		{"another authority", pg.authority, nil, pg.address(relay, database, "sslrootcert", others.File), "unknown authority"},
		{"a password alone", pg.authority, nil, pg.address(url.User("certified"), database), "28000"},
		{"no TLS", pg.authority, nil, pg.address(relay, database, "sslmode", "disable"), "pg_hba.conf"},
		{"wrong password", pg.authority, nil, pg.address(url.UserPassword("relay", "wrong-"+postgresPassword), database), "28P01"},
		{"a certificate of somebody else", pg.authority, nil, pg.certified(database, wrongCert, wrongKey), "28000"},
		{"an expired certificate of ours", pg.authority, nil, pg.certified(database, oldCert, oldKey), "certificate"},
		{"another host", pg.authority, harness.Elsewhere, pg.url(database), "cannot validate certificate for 127.0.0.1"},
		{"an expired certificate", pg.authority, harness.Expired, pg.url(database), "expired"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.change != nil {
				pg.present(t, c.authority, c.change)
			}
			relay := harness.StartRelay(t, harness.RelayOptions{Name: uniqueName(t), Postgres: c.url, Kafka: []string{"127.0.0.1:1"}})
			if code := relay.ExitCode(t, patience); code != 10 {
				t.Errorf("exit code %d", code)
			}
			if last := lastLine(t, relay); !strings.Contains(last, c.says) {
				t.Errorf("the last line does not say %q: %s", c.says, last)
			}
			checkUntold(t, "the log", relay.Log(), postgresPassword, url.QueryEscape(postgresPassword))
		})
	}
}

// Where a secret is renewed, there is a time in which the relay has the old one. It degrades, and goes on once it has the new.
func TestPostgresIsReachedBySecretsAsTheyAre(t *testing.T) {
	t.Parallel()
	pg, kafka := securedPostgres(t), sharedKafka(t)
	// renewed runs a relay that loses its connections when the server has changed, and the new secret a moment later.
	renewed := func(t *testing.T, s *stage, to string, env []string, change, follow func(), reason string) {
		t.Helper()
		relay := harness.StartRelay(t, harness.RelayOptions{Name: s.name, Postgres: to, Kafka: kafka.Brokers(), Env: env})
		relay.AwaitState(t, cdc.Relaying, patience)
		kafka.CreateTopic(t, s.topic("a"), 3, 1, nil)
		harness.WriteRows(t, s.conn, s.aggregate("a"), 1, 100, 10)
		harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, patience, s.topic("a"))
		change()
		harness.Exec(t, s.conn, terminateAll, s.name)
		awaitDegraded(t, relay, reason, patience)
		harness.WriteRows(t, s.conn, s.aggregate("a"), 101, 200, 10)
		follow()
		relay.AwaitState(t, cdc.Relaying, patience)
		harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, patience, s.topic("a"))
		checkUntold(t, "the log", relay.Log(), postgresPassword, url.QueryEscape(postgresPassword), readFile(t, pg.authority.File))
	}
	t.Run("a password", func(t *testing.T) {
		s := newStage(t, pg.Postgres)
		file := filepath.Join(t.TempDir(), "password")
		writeFile(t, file, postgresPassword+"\n")
		const next = "next-" + postgresPassword
		renewed(t, s, pg.address(url.User("relay"), s.conn.Config().Database), []string{"OUTRIDER_POSTGRES_PASSWORD_FILE=" + file},
			func() { harness.Exec(t, s.conn, fmt.Sprintf(`alter role relay password '%s'`, next)) },
			func() { writeFile(t, file, next+"\n") }, "28P01")
	})
	t.Run("certificates", func(t *testing.T) {
		s := newStage(t, pg.Postgres)
		cert, key := pg.authority.Issue(t, "certified")
		next := harness.NewAuthority(t)
		renewed(t, s, pg.certified(s.conn.Config().Database, cert, key), nil,
			func() { pg.present(t, next) },
			func() {
				nextCert, nextKey := next.Issue(t, "certified")
				writeFile(t, key, readFile(t, nextKey))
				writeFile(t, cert, readFile(t, nextCert))
				writeFile(t, pg.authority.File, readFile(t, next.File))
			}, "unknown authority")
	})
}
