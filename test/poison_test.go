package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// poisonMark is in the payload of every poison row, and must be in no output.
const poisonMark = "canary-in-a-poison-row"

// insertPoison commits a row of its own, and gives its id.
func (s *stage) insertPoison(t *testing.T, aggregate *string, size int) (id string) {
	t.Helper()
	err := s.conn.QueryRow(t.Context(), `insert into public.outbox (aggregate_type, aggregate_id, event_type, payload)
		values ($1, 'k3', 'Poison', jsonb_build_object('n', 500, 'canary', $2::text, 'pad', repeat('x', $3))) returning id::text`, aggregate, poisonMark, size).Scan(&id)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// surround writes 1,000 good rows around a poison one, and gives its id and an LSN before its commit.
func (s *stage) surround(t *testing.T, aggregate *string, size int) (id, before string) {
	t.Helper()
	harness.WriteRows(t, s.conn, s.aggregate("good"), 1, 499, 100)
	before = s.commit(t, func() { id = s.insertPoison(t, aggregate, size) })
	harness.WriteRows(t, s.conn, s.aggregate("good"), 501, 1001, 100)
	return id, before
}

// tight is a topic that takes records of 20,000 bytes at most.
var tight = map[string]string{"max.message.bytes": "20000"}

// poisonRows are those that cannot be delivered, each with what its topic is made from, and what the reason must say.
func poisonRows(s *stage) []struct {
	name      string
	aggregate *string
	size      int
	reason    string
} {
	text := func(s string) *string { return &s }
	return []struct {
		name      string
		aggregate *string
		size      int
		reason    string
	}{
		{"too large", text(s.aggregate("good")), 200_000, "MESSAGE_TOO_LARGE"},
		{"no aggregate", nil, 10, "aggregate_type is NULL"},
		{"no topic name", text("with space"), 10, "outbox.event.with space"},
		{"a topic that is too long", text(strings.Repeat("x", 250)), 10, "249"},
	}
}

func TestPoisonRowStopsTheRelayBeforeItIsConfirmed(t *testing.T) {
	t.Parallel()
	for i := range poisonRows(&stage{}) {
		s := newStage(t, sharedPostgres(t))
		row := poisonRows(s)[i]
		t.Run(row.name, func(t *testing.T) {
			kafka := sharedKafka(t)
			kafka.CreateTopic(t, s.topic("good"), 3, 1, tight)
			relay := s.startRelaying(t, kafka.Brokers(), "")
			id, before := s.surround(t, row.aggregate, row.size)
			st := relay.AwaitState(t, cdc.Halted, 20*time.Second)
			for _, want := range []string{row.reason, id, "position"} {
				if !strings.Contains(st.Reason, want) {
					t.Errorf("the reason has no %q: %s", want, st.Reason)
				}
			}
			harness.Eventually(t, 10*time.Second, "release of the slot", func() error {
				if pid := s.walsender(t); pid != 0 {
					return fmt.Errorf("held by %d", pid)
				}
				return nil
			})
			if s.confirmedBeyond(t, before) {
				t.Errorf("the slot has let go of the poison row, beyond %s", before)
			}
			if body, code, err := relay.Get("/readyz"); err != nil || code != 503 || !strings.Contains(body, "blocked") {
				t.Errorf("/readyz: %d %s %v", code, body, err)
			}
			if body, code, err := relay.Get("/healthz"); err != nil || code != 200 {
				t.Errorf("/healthz: %d %s %v", code, body, err)
			}
			checkSilent(t, relay, poisonMark)
			if code := relay.Stop(t); code != 0 {
				t.Errorf("exit code %d of a blocked relay", code)
			}
			relay.AwaitLog(t, "stopped while not relaying (blocked)", patience) // not: nothing is left in flight
		})
	}
}

func TestPoisonRowIsExitCode21WhereAskedFor(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	kafka.CreateTopic(t, s.topic("good"), 3, 1, tight)
	relay := s.startRelaying(t, kafka.Brokers(), "on_blocked: exit")
	aggregate := s.aggregate("good")
	id, before := s.surround(t, &aggregate, 200_000)
	if code := relay.ExitCode(t, 20*time.Second); code != 21 {
		t.Errorf("exit code %d", code)
	}
	lines := strings.Split(relay.Log(), "\n")
	last := lines[len(lines)-1]
	for _, want := range []string{id, "MESSAGE_TOO_LARGE", "on_poison"} {
		if !strings.Contains(last, want) {
			t.Errorf("the last line has no %q: %s", want, last)
		}
	}
	if s.confirmedBeyond(t, before) {
		t.Errorf("the slot has let go of the poison row, beyond %s", before)
	}
}

func TestSkippedPoisonRowIsTheOnlyOneMissing(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	kafka.CreateTopic(t, s.topic("good"), 3, 1, tight)
	relay := s.startRelaying(t, kafka.Brokers(), "outbox: { on_poison: skip }")
	harness.WriteRows(t, s.conn, s.aggregate("good"), 1, 499, 100)
	var ids []string
	for _, row := range poisonRows(s) {
		ids = append(ids, s.insertPoison(t, row.aggregate, row.size))
	}
	harness.WriteRows(t, s.conn, s.aggregate("good"), 501, 1000, 100)
	harness.Exec(t, s.conn, `delete from public.outbox where id = any($1::uuid[])`, ids) // of what is expected; the log has them
	harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, 20*time.Second, s.topic("good"))
	for i, row := range poisonRows(s) {
		if !strings.Contains(relay.Log(), ids[i]) {
			t.Errorf("%s: left out in silence", row.name)
		}
	}
	relay.AwaitState(t, cdc.Relaying, 10*time.Second)
	st, err := relay.Status()
	if err != nil || st.Records.Poison != int64(len(ids)) {
		t.Errorf("%d poison rows are counted, not %d: %v", st.Records.Poison, len(ids), err)
	}
	if len(st.Sessions) > 0 {
		t.Errorf("sessions ended: %v", st.Sessions)
	}
	body, _, err := relay.Get("/metrics")
	if want := fmt.Sprintf(`outrider_poison_total{policy="skip"} %d`, len(ids)); err != nil || !strings.Contains(body, want) {
		t.Errorf("/metrics has no %s: %v", want, err)
	}
	checkSilent(t, relay, poisonMark)
}

// checkSilent fails the test if a secret is in anything that the relay says.
func checkSilent(t *testing.T, r *harness.Relay, secrets ...string) {
	t.Helper()
	said := map[string]string{"the log": r.Log()}
	for _, path := range []string{"/", "/status", "/history", "/metrics", "/readyz", "/healthz"} {
		body, _, err := r.Get(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		said[path] = body
	}
	for where, text := range said {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s tells %q", where, secret)
			}
		}
	}
}
