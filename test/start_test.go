package test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

func TestFirstStartCreatesPublicationAndSlot(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), "")
	harness.WriteRows(t, s.conn, s.kind, 1, 3, 10) // before the slot: not sent, and that is said
	relay := s.relaying(t)
	if log := relay.Log(); !strings.Contains(log, `"rows_not_sent_public.outbox":3`) {
		t.Error("the log does not say that 3 rows are not sent")
	}
	var tables []string
	queryRow(t, s.conn, `select array_agg(schemaname || '.' || tablename) from pg_publication_tables where pubname = 'outrider'`, nil, &tables)
	if len(tables) != 1 || tables[0] != "public.outbox" {
		t.Errorf("publication outrider holds %v", tables)
	}
	var plugin string
	var temporary bool
	queryRow(t, s.conn, `select plugin, temporary from pg_replication_slots where slot_name = $1`, []any{s.slot()}, &plugin, &temporary)
	if plugin != "pgoutput" || temporary {
		t.Errorf("the slot has plugin %s, temporary %t", plugin, temporary)
	}
	harness.Exec(t, s.conn, `delete from public.outbox`)
	harness.WriteRows(t, s.conn, s.kind, 4, 100, 10)
	s.awaitDelivered(t, harness.NoRepeats)
}

// Made again, a slot would begin after rows that nobody would miss.
func TestMissingSlotIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), "")
	relay := s.relaying(t)
	harness.WriteRows(t, s.conn, s.kind, 1, 100, 10)
	s.awaitDelivered(t, harness.NoRepeats)
	if code := relay.Stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	harness.Eventually(t, patience, "the slot is dropped", func() error { // its walsender may still be ending
		_, err := s.conn.Exec(t.Context(), `select pg_drop_replication_slot($1)`, s.slot())
		return err
	})
	checkNoSlot := func() {
		t.Helper()
		var slots int
		queryRow(t, s.conn, `select count(*) from pg_replication_slots where slot_name = $1`, []any{s.slot()}, &slots)
		if slots != 0 {
			t.Error("there is a slot again")
		}
	}
	wanted := fmt.Sprintf("slot %s is gone: it does not exist", s.slot())

	t.Run("WaitingIsBlockedNotReady", func(t *testing.T) {
		relay := s.launch(t)
		if st := relay.AwaitState(t, cdc.Halted, patience); !strings.Contains(st.Reason, wanted) || !strings.Contains(st.Reason, "--accept-loss") {
			t.Errorf("reason %q", st.Reason)
		}
		if body, code, err := relay.Get("/readyz"); err != nil || code != 503 || !strings.Contains(body, wanted) {
			t.Errorf("/readyz answers %d %q, %v", code, body, err)
		}
		if code := relay.Stop(t); code != 0 {
			t.Errorf("exit code %d of a blocked relay that was stopped", code)
		}
		checkNoSlot()
	})
	t.Run("ExitingIs20", func(t *testing.T) {
		s.config = "on_blocked: exit\n"
		relay := s.launch(t)
		if code := relay.ExitCode(t, patience); code != 20 {
			t.Errorf("exit code %d, not 20", code)
		}
		if last := lastLine(t, relay); !strings.Contains(last, wanted) || !strings.Contains(last, "--accept-loss") {
			t.Errorf("the last line is %s", last)
		}
		checkNoSlot()
	})
}

func TestWhatPostgresLacksEndsTheStartWith10(t *testing.T) {
	t.Parallel()
	bare := harness.NewPostgres(t, harness.PostgresOptions{
		Settings: map[string]string{"wal_level": "replica"},
		HBA:      "host all guarded all scram-sha-256\nlocal all all trust\nhost all all all trust\nhost replication all all trust\n",
	})
	conn := bare.Connect(t)
	harness.CreateOutbox(t, conn)
	harness.Exec(t, conn, `create role guarded login replication password 'right'`)
	harness.Exec(t, conn, `create role plain login`)
	harness.Exec(t, conn, `create role reader login replication`)

	whole := sharedPostgres(t)
	empty := whole.NewDatabase(t)
	filled := whole.NewDatabase(t)
	owner := harness.Connect(t, filled)
	harness.CreateOutbox(t, owner)
	suffix := strings.TrimPrefix(owner.Config().Database, "t")
	harness.Exec(t, owner, `create role plain`+suffix+` login`)
	harness.Exec(t, owner, `create role reader`+suffix+` login replication`)

	cases := []struct {
		name, url string
		says      []string // what is wrong, and what to do
	}{
		{"WrongPassword", as(t, bare.URL(), "guarded", "wrong"), []string{"28P01", "pg_hba.conf"}},
		{"WALLevel", bare.URL(), []string{"wal_level", "alter system set wal_level = logical", "restart"}},
		{"NoDatabase", whole.DatabaseURL("nowhere"), []string{`database "nowhere" does not exist`, "postgres.url"}},
		{"NoTable", empty, []string{"public.outbox", "does not exist"}},
		{"NoReplicationRole", as(t, filled, "plain"+suffix, ""), []string{`alter role "plain` + suffix + `" replication`}},
		{"NoRightToCreate", as(t, filled, "reader"+suffix, ""), []string{"permission denied for database", `create schema outrider authorization "reader` + suffix + `"`}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			relay := harness.StartRelay(t, harness.RelayOptions{Name: uniqueName(t), Postgres: c.url, Kafka: []string{"127.0.0.1:1"}})
			if code := relay.ExitCode(t, patience); code != 10 {
				t.Errorf("exit code %d, not 10", code)
			}
			last := lastLine(t, relay)
			for _, says := range c.says {
				if !strings.Contains(last, says) {
					t.Errorf("%s\ndoes not say %q", last, says)
				}
			}
		})
	}
}

// as is a URL with another user and password.
func as(t *testing.T, to, user, password string) string {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}
