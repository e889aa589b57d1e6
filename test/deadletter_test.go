package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// deadLetters is the topic of a stage's dead letters, and the settings that name it.
func (s *stage) deadLetters() (topic, config string) {
	topic = s.name + ".dead"
	return topic, fmt.Sprintf("outbox: { on_poison: dead_letter, dead_letter: { topic: %s } }\n", topic)
}

// letters reads the dead letters by event id, and fails the test where one is there twice.
func letters(t *testing.T, brokers []string, topic string) map[string]*kgo.Record {
	t.Helper()
	byID := make(map[string]*kgo.Record)
	for _, r := range harness.ReadAll(t, brokers, topic) {
		id := firstHeader(r, "id")
		if byID[id] != nil {
			t.Errorf("the dead letter of event %s is there twice", id)
		}
		byID[id] = r
	}
	return byID
}

func TestPoisonRowsBecomeDeadLetters(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	topic, config := s.deadLetters()
	kafka.CreateTopic(t, s.topic("good"), 3, 1, tight)
	kafka.CreateTopic(t, topic, 2, 1, map[string]string{"max.message.bytes": "50000"})
	relay := s.startRelaying(t, kafka.Brokers(), config)
	harness.WriteRows(t, s.conn, s.aggregate("good"), 1, 499, 100)
	var ids []string
	for _, row := range poisonRows(s) {
		ids = append(ids, s.insertPoison(t, row.aggregate, row.size))
	}
	harness.WriteRows(t, s.conn, s.aggregate("good"), 501, 1000, 100)
	harness.Exec(t, s.conn, `delete from public.outbox where id = any($1::uuid[])`, ids)
	harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, 20*time.Second, s.topic("good"))
	awaitIDs(t, kafka.Brokers(), len(ids), false, topic)
	found := letters(t, kafka.Brokers(), topic)
	for i, row := range poisonRows(s) {
		letter := found[ids[i]]
		if letter == nil {
			t.Errorf("%s: there is no dead letter", row.name)
			continue
		}
		intended := ""
		if row.aggregate != nil {
			intended = "outbox.event." + *row.aggregate
		}
		if got := harness.Header(letter, "outrider-topic"); got != intended {
			t.Errorf("%s: it was to go to %q, says the letter", row.name, got)
		}
		if reason := harness.Header(letter, "outrider-reason"); !strings.Contains(reason, row.reason) {
			t.Errorf("%s: the reason is %q", row.name, reason)
		}
		if last := letter.Headers[len(letter.Headers)-1]; last.Key != "outrider-position" || !strings.HasPrefix(string(last.Value), s.name+":1:") {
			t.Errorf("%s: the last header is %s %s", row.name, last.Key, last.Value)
		}
		if string(letter.Key) != "k3" && row.aggregate != nil || !strings.Contains(string(letter.Value), `"n": 500`) && row.size < 50_000 {
			t.Errorf("%s: key %q, value %.80s", row.name, letter.Key, letter.Value)
		}
		if cut := harness.Header(letter, "outrider-truncated"); (cut != "") != (row.size > 50_000) {
			t.Errorf("%s: cut from %q bytes to %d", row.name, cut, len(letter.Value))
		}
	}
	st := relay.AwaitState(t, cdc.Relaying, 10*time.Second)
	if st.Records.Poison != int64(len(ids)) || len(st.Sessions) > 0 {
		t.Errorf("%d poison rows are counted, not %d; sessions ended: %v", st.Records.Poison, len(ids), st.Sessions)
	}
	checkSilent(t, relay, poisonMark)
}

// Until its letter is acked a poison row holds the place that it has in its partition, over a kill of the relay too; then
// the tail of the dead letters' topic keeps it from being sent again.
func TestNothingPassesAPoisonRowBeforeItsLetterIsAcked(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	topic, config := s.deadLetters()
	config += "checkpoint: { interval: 1h }\n"
	kafka.CreateTopic(t, s.topic("good"), 1, 1, tight)
	kafka.CreateTopic(t, s.topic("other"), 1, 1, nil)
	relay := s.startRelaying(t, kafka.Brokers(), config)
	s.insertN(t, "good", 50)
	aggregate := s.aggregate("good")
	var poison string
	before := s.commit(t, func() { poison = s.insertPoison(t, &aggregate, 200_000) })
	s.insertN(t, "good", 50)
	for range 2 {
		s.insertN(t, "other", 20)
		awaitDegraded(t, relay, topic, 20*time.Second)
		harness.Eventually(t, 20*time.Second, "rows of another topic go on", func() error {
			if n := len(harness.ReadAll(t, kafka.Brokers(), s.topic("other"))); n%20 != 0 || n == 0 {
				return fmt.Errorf("there are %d", n)
			}
			return nil
		})
		if n := len(harness.ReadAll(t, kafka.Brokers(), s.topic("good"))); n != 50 {
			t.Fatalf("%d rows are there: some have passed the poison row, or are there twice", n)
		}
		relay.Kill()
		relay = s.start(t, kafka.Brokers(), config)
	}
	kafka.CreateTopic(t, topic, 1, 1, nil)
	awaitIDs(t, kafka.Brokers(), 100, false, s.topic("good"))
	relay.AwaitState(t, cdc.Relaying, 30*time.Second)
	relay.Kill()
	if s.confirmedBeyond(t, before) {
		t.Error("the slot has let go of what was not stored")
	}
	s.insertN(t, "good", 10)
	s.startRelaying(t, kafka.Brokers(), config)
	awaitIDs(t, kafka.Brokers(), 110, false, s.topic("good"))
	awaitIDs(t, kafka.Brokers(), 40, false, s.topic("other"))
	if found := letters(t, kafka.Brokers(), topic); len(found) != 1 || found[poison] == nil {
		t.Errorf("there are %d dead letters", len(found))
	}
}

func TestRowsOfAMissingTopicBecomeDeadLettersInTime(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	topic, config := s.deadLetters()
	kafka.CreateTopic(t, topic, 1, 1, nil)
	s.startRelaying(t, kafka.Brokers(), config+"kafka: { topics: { wait: 100ms } }\n")
	s.insertN(t, "nowhere", 30)
	awaitIDs(t, kafka.Brokers(), 30, false, topic)
	for _, r := range harness.ReadAll(t, kafka.Brokers(), topic) {
		if to, why := harness.Header(r, "outrider-topic"), harness.Header(r, "outrider-reason"); to != s.topic("nowhere") || !strings.Contains(why, "UNKNOWN_TOPIC") {
			t.Fatalf("a letter says %q, was to go to %q", why, to)
		}
	}
	kafka.CreateTopic(t, s.topic("nowhere"), 1, 1, nil)
	s.insertN(t, "nowhere", 10)
	awaitIDs(t, kafka.Brokers(), 40, false, topic, s.topic("nowhere"))
	if n := len(harness.ReadAll(t, kafka.Brokers(), s.topic("nowhere"))); n == 0 {
		t.Error("the topic is there, and its rows still become dead letters")
	}
}

func TestBlockedRelaySendsTheOneEventThatWasDecidedToTheDeadLetters(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	topic, config := s.deadLetters()
	config = strings.Replace(config, "on_poison: dead_letter", "on_poison: stop", 1)
	kafka.CreateTopic(t, s.topic("good"), 3, 1, tight)
	kafka.CreateTopic(t, topic, 1, 1, nil)
	relay := s.startRelaying(t, kafka.Brokers(), config)
	s.insertN(t, "good", 20)
	aggregate := s.aggregate("good")
	first := s.insertPoison(t, &aggregate, 200_000)
	s.insertN(t, "good", 20)
	second := s.insertPoison(t, &aggregate, 200_000)
	for i, poison := range []string{first, second} {
		harness.Eventually(t, 30*time.Second, "blocked by "+poison, func() error {
			st, err := relay.Status()
			if err == nil && (st.State != cdc.Halted || !strings.Contains(st.Reason, poison)) {
				err = fmt.Errorf("it is %s (%s)", st.State, st.Reason)
			}
			return err
		})
		st, err := relay.Status()
		if err != nil {
			t.Fatal(err)
		}
		_, position, _ := strings.Cut(st.Reason, "--dead-letter ")
		position, _, _ = strings.Cut(position, ",")
		s.decide(t, "--dead-letter", position)
		awaitIDs(t, kafka.Brokers(), i+1, false, topic)
	}
	relay.AwaitState(t, cdc.Relaying, 30*time.Second)
	awaitIDs(t, kafka.Brokers(), 40, false, s.topic("good"))
	if found := letters(t, kafka.Brokers(), topic); len(found) != 2 || found[first] == nil || found[second] == nil {
		t.Errorf("there are %d dead letters", len(found))
	}
}

// No checkpoint lies between two events of one transaction: what was decided about the first must still hold when the second
// blocks the relay, over a restart too.
func TestPoisonRowsOfOneTransactionAreDecidedOneByOne(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	topic, config := s.deadLetters()
	config = strings.Replace(config, "on_poison: dead_letter", "on_poison: stop", 1)
	kafka.CreateTopic(t, s.topic("good"), 3, 1, nil)
	kafka.CreateTopic(t, topic, 1, 1, nil)
	relay := s.startRelaying(t, kafka.Brokers(), config)
	harness.Exec(t, s.conn, `insert into outbox (aggregate_type, aggregate_id, event_type, payload)
		select case when i % 10 = 5 then 'no topic!' else $1 end, 'k' || i, 'Happened', '{}' from generate_series(1, 30) i`, s.aggregate("good"))
	for i, decision := range []string{"--dead-letter", "--skip", "--dead-letter"} {
		ordinal := fmt.Sprintf(":%d", 10*i+4)
		var at string
		harness.Eventually(t, 30*time.Second, "blocked by the event"+ordinal, func() error {
			st, err := relay.Status()
			_, at, _ = strings.Cut(st.Reason, "--skip ")
			if err == nil && (st.State != cdc.Halted || !strings.HasSuffix(at, ordinal)) {
				err = fmt.Errorf("it is %s (%s)", st.State, st.Reason)
			}
			return err
		})
		if i == 1 {
			relay.Kill()
			relay = s.start(t, kafka.Brokers(), config)
			relay.AwaitState(t, cdc.Halted, 30*time.Second)
		}
		s.decide(t, decision, at)
	}
	relay.AwaitState(t, cdc.Relaying, 30*time.Second)
	awaitIDs(t, kafka.Brokers(), 27, false, s.topic("good"))
	awaitIDs(t, kafka.Brokers(), 2, false, topic)
	harness.Eventually(t, 10*time.Second, "nothing is left to be decided", func() error {
		var left bool
		err := s.conn.QueryRow(t.Context(), `select verdict is not null or decision is not null from outrider.checkpoint`).Scan(&left)
		if err == nil && left {
			err = fmt.Errorf("it still stands")
		}
		return err
	})
}
