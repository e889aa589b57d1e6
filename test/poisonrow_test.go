package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// poisoned is a row that the contract calls poison, what must be said of it, and of where.
type poisoned struct {
	id                            string
	aggregate, key, payload, head any
	shard, at                     any
	reason, where                 string
}

// everyPoison is one of each kind; good is a topic.
func everyPoison(good string) []poisoned {
	const table = "table public.outbox"
	return []poisoned{
		{"null-topic", nil, "k", poisonMark, nil, nil, nil, "aggregate_type is NULL", table},
		{"empty-topic", "", "k", poisonMark, nil, nil, nil, "0 characters", table},
		{"long-topic", strings.Repeat("x", 250), "k", poisonMark, nil, nil, nil, "250 characters", table},
		{"bad-topic", "a b", "k", poisonMark, nil, nil, nil, "outside [a-zA-Z0-9._-]", table},
		{"dot", ".", "k", poisonMark, nil, nil, nil, "is not a topic", table},
		{"dots", "..", "k", poisonMark, nil, nil, nil, "is not a topic", table},
		{"internal", "__consumer_offsets", "k", poisonMark, nil, nil, nil, "internal to Kafka", table},
		{"null-key", good, nil, poisonMark, nil, nil, nil, "aggregate_id is NULL", table},
		{"null-payload", good, "k", nil, nil, nil, nil, "the payload is NULL", table},
		{"no-object", good, "k", poisonMark, `["` + poisonMark + `"]`, nil, nil, "the headers are no JSON object", table},
		{"no-json", good, "k", poisonMark, poisonMark, nil, nil, "the headers are not JSON", table},
		{"negative", good, "k", poisonMark, nil, -1, nil, "no partition number", table},
		{"beyond", good, "k", poisonMark, nil, 2, nil, "partition 2 is beyond the", ""}, // of the table, or of the topic while its partitions are not known
		{"no-time", good, "k", poisonMark, nil, nil, "infinity", "no time that a record can carry", table},
	}
}

// Each row that the contract calls poison meets the policy by itself, and is told by all but its payload. Its neighbours arrive.
func TestEveryPoisonRowMeetsThePolicy(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"skip", "dead_letter", "stop"} {
		t.Run(policy, func(t *testing.T) {
			if policy == "stop" {
				long(t) // a decision a row
			}
			kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
			good, dead := s.name+".good", s.name+".dead"
			kafka.CreateTopic(t, good, 2, 1, nil)
			kafka.CreateTopic(t, dead, 1, 1, nil)
			harness.Exec(t, s.conn, `drop table outbox`)
			harness.Exec(t, s.conn, `create table outbox (id text, aggregate_type text, aggregate_id text, payload text, headers text, shard int, at timestamptz)`)
			relay := s.startRelaying(t, kafka.Brokers(), fmt.Sprintf(`
outbox:
  topic: ${aggregate_type}
  columns: { partition: shard, timestamp: at }
  allowed_topics: ['%s.*', '*']
  tombstone_on_null: false
  on_poison: %s
  dead_letter: { topic: %s }
`, s.name, policy, dead))
			rows := everyPoison(good)
			for i, r := range rows {
				harness.Exec(t, s.conn, `insert into outbox values ($1, $2, $3, 'good', null, null, null)`, fmt.Sprint("good-", i), good, "k")
				harness.Exec(t, s.conn, `insert into outbox values ($1, $2, $3, $4, $5, $6, $7::text::timestamptz)`, r.id, r.aggregate, r.key, r.payload, r.head, r.shard, r.at)
			}
			harness.Exec(t, s.conn, `insert into outbox values ('good-last', $1, 'k', 'good', null, null, null)`, good)
			if policy == "stop" {
				s.leaveOutEach(t, relay, rows)
			}
			awaitIDs(t, kafka.Brokers(), len(rows)+1, false, good)
			for i, r := range harness.ReadAll(t, kafka.Brokers(), good) {
				if want := fmt.Sprint("good-", i); i < len(rows) && harness.Header(r, "id") != want {
					t.Errorf("record %d has id %s, not %s", i, harness.Header(r, "id"), want)
				}
			}
			for _, r := range rows {
				told := slices.IndexFunc(strings.Split(relay.Log(), "\n"), func(line string) bool {
					return strings.Contains(line, r.id) && strings.Contains(line, r.reason) && strings.Contains(line, r.where) && strings.Contains(line, "1:0/")
				})
				if told < 0 {
					t.Errorf("%s is not told, with %q", r.id, r.reason)
				}
			}
			if policy == "dead_letter" {
				checkEachBuried(t, kafka.Brokers(), dead, rows)
			}
			checkSilent(t, relay, poisonMark)
		})
	}
}

// leaveOutEach decides about each row as it blocks the relay.
func (s *stage) leaveOutEach(t *testing.T, relay *harness.Relay, rows []poisoned) {
	t.Helper()
	for _, r := range rows {
		var at string
		harness.Eventually(t, patience, "blocked by "+r.id, func() error {
			st, err := relay.Status()
			if err == nil && (st.State != cdc.Halted || !strings.Contains(st.Reason, fmt.Sprintf("%q", r.id))) {
				err = fmt.Errorf("it is %s (%s)", st.State, st.Reason)
			}
			_, at, _ = strings.Cut(st.Reason, "--skip ")
			return err
		})
		at, _, _ = strings.Cut(at, " ")
		s.decide(t, "--skip", at)
	}
}

// checkEachBuried compares the dead letters with the rows: each once, with the reason and the payload.
func checkEachBuried(t *testing.T, brokers []string, dead string, rows []poisoned) {
	t.Helper()
	awaitIDs(t, brokers, len(rows), false, dead)
	found := letters(t, brokers, dead)
	for _, r := range rows {
		letter := found[r.id]
		if letter == nil {
			t.Errorf("%s has no dead letter", r.id)
			continue
		}
		if reason := harness.Header(letter, "outrider-reason"); !strings.Contains(reason, r.reason) {
			t.Errorf("%s: the letter's reason is %q", r.id, reason)
		}
		if r.payload != nil && string(letter.Value) != r.payload {
			t.Errorf("%s: the letter's value is %q", r.id, letter.Value)
		}
	}
}
