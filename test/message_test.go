package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

const messagesAlone = `
kafka: { delivery: exactly-once }
outbox: { tables: [], logical_messages: { prefixes: [orders, billing] }, on_poison: dead_letter, dead_letter: { topic: %s } }
`

// emit emits logical messages in one transaction.
func (s *stage) emit(t *testing.T, messages ...[2]string) {
	t.Helper()
	for _, m := range messages {
		harness.Exec(t, s.conn, `select pg_logical_emit_message($1::bool, $2, replace($3, 'ORDER', $4))`, !strings.HasPrefix(m[0], "!"), strings.TrimPrefix(m[0], "!"), m[1], s.aggregate("order"))
	}
}

// No table at all: the publication that the relay makes is empty.
func TestLogicalMessagesAreEventsWithoutATable(t *testing.T) {
	t.Parallel()
	s := newStage(t, sharedPostgres(t))
	kafka := sharedKafka(t)
	kafka.CreateTopic(t, s.topic("order"), 1, 1, nil)
	dead := s.topic("dead")
	kafka.CreateTopic(t, dead, 1, 1, nil)
	r := s.startRelaying(t, kafka.Brokers(), fmt.Sprintf(messagesAlone, dead))

	const order = `"aggregate_type": "ORDER", "aggregate_id": "42", "event_type": "OrderPlaced", `
	harness.WriteRows(t, s.conn, s.aggregate("order"), 1, 3, 10) // not published
	harness.Exec(t, s.conn, `begin`)
	s.emit(t, [2]string{"orders", `{` + order + `"payload": "rolled back"}`})
	harness.Exec(t, s.conn, `rollback`)
	s.emit(t, [2]string{"!orders", `{` + order + `"payload": "not transactional"}`}, [2]string{"!others", `{}`}, [2]string{"others", `{` + order + `"payload": "of others"}`})
	harness.Exec(t, s.conn, `begin`)
	s.emit(t,
		[2]string{"orders", `{"id": "e-1", ` + order + `"payload": {"n":  1.50, "s": "\u00e9 é"}, "headers": {"tenant": "acme"}}`},
		[2]string{"others", `{` + order + `"payload": "of others"}`},
		[2]string{"orders", `secret`},
		[2]string{"billing", `{` + order + `"payload": "text"}`},
		[2]string{"orders", `{` + order + `"payload": null}`})
	harness.Exec(t, s.conn, `commit`)

	harness.AwaitRecords(t, kafka.Brokers(), 3, patience, s.topic("order"))
	var got []string
	for _, rec := range harness.ReadAll(t, kafka.Brokers(), s.topic("order")) {
		value := "<null>"
		if rec.Value != nil {
			value = string(rec.Value)
		}
		position := harness.Header(rec, "outrider-position")
		line := fmt.Sprintf("%s %s ordinal%s", rec.Key, value, position[strings.LastIndexByte(position, ':'):])
		for _, h := range rec.Headers[:len(rec.Headers)-1] {
			line += fmt.Sprintf(" %s=%s", h.Key, h.Value)
		}
		got = append(got, line)
	}
	want := []string{
		`42 {"n":  1.50, "s": "\u00e9 é"} ordinal:0 id=e-1 event_type=OrderPlaced tenant=acme`,
		`42 "text" ordinal:2 event_type=OrderPlaced`,
		`42 <null> ordinal:3 event_type=OrderPlaced`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("records\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	// What cannot be read is a dead letter whole.
	harness.AwaitRecords(t, kafka.Brokers(), 1, patience, dead)
	for _, rec := range harness.ReadAll(t, kafka.Brokers(), dead) {
		if reason := harness.Header(rec, "outrider-reason"); string(rec.Value) != "secret" || reason != "the content is not JSON in UTF-8" {
			t.Errorf("dead letter %q for the reason %q", rec.Value, reason)
		}
	}

	r.AwaitLog(t, "a logical message of ours is not transactional", patience)
	metrics, _, err := r.Get("/metrics")
	if err != nil || !strings.Contains(metrics, `outrider_ignored_total{kind="message"} 1`+"\n") {
		t.Errorf("%v; not counted in\n%s", err, metrics)
	}
	if !strings.Contains(r.Log(), "logical message orders") || strings.Contains(r.Log(), "secret") {
		t.Error("the log does not name the prefix of the poison message, or shows its content")
	}
}

// mixed writes transactions of 1 to 20 events, each with the next number of its key, some as rows and some as messages, until
// stop ends, and gives the number of events by key.
func mixed(t *testing.T, conn *pgx.Conn, stop context.Context, seed uint64, aggregate string) <-chan map[string]int {
	t.Helper()
	done := make(chan map[string]int, 1)
	go func() {
		rng := rand.New(rand.NewPCG(seed, 0))
		written := make(map[string]int)
		defer func() { done <- written }()
		for stop.Err() == nil {
			key, n := fmt.Sprintf("k%d", rng.IntN(10)), 1+rng.IntN(20)
			var batch pgx.Batch
			for i := range n {
				payload := fmt.Sprintf(`{"n": %d}`, written[key]+i+1)
				if rng.IntN(2) == 0 {
					batch.Queue(`insert into outbox (aggregate_type, aggregate_id, event_type, payload) values ($1, $2, 'Counted', $3)`, aggregate, key, payload)
				} else {
					batch.Queue(`select pg_logical_emit_message(true, 'orders', $1)`, fmt.Sprintf(`{"aggregate_type": %q, "aggregate_id": %q, "payload": %s}`, aggregate, key, payload))
				}
			}
			if err := conn.SendBatch(context.WithoutCancel(stop), &batch).Close(); err != nil { // one transaction
				t.Errorf("write: %v", err)
				return
			}
			written[key] += n
		}
	}()
	return done
}

func TestKillsRepeatNoMessage(t *testing.T) {
	t.Parallel()
	s := newStage(t, sharedPostgres(t))
	kafka := sharedKafka(t)
	kafka.CreateTopic(t, s.topic("order"), 3, 1, nil)
	const config = `
kafka: { delivery: exactly-once }
outbox: { logical_messages: { prefixes: [orders] } }
`
	r := s.startRelaying(t, kafka.Brokers(), config)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := mixed(t, s.conn, ctx, seed, s.aggregate("order"))
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 5 {
		harness.Eventually(t, patience, "records flow", func() error {
			if st, err := r.Status(); err != nil || st.Records.Relayed < 1+rng.Int64N(500) {
				return fmt.Errorf("%d relayed, %w", st.Records.Relayed, err)
			}
			return nil
		})
		r.Kill()
		r = s.start(t, kafka.Brokers(), config)
	}
	r.AwaitState(t, cdc.Relaying, 30*time.Second)
	stop()
	checkExactly(t, kafka.Brokers(), <-done, s.topic("order"))
}
