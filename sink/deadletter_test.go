package sink

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/sink/record"
)

const letters = "outrider.dead-letter"

// withLetters is a session that is never run, under the policy DeadLetter: topic a and the dead-letter topic have a leader.
func withLetters(t *testing.T, partitions int32, change ...func(*Config)) (*session, *leader) {
	t.Helper()
	s := newIdle(t, partitions, append([]func(*Config){func(cfg *Config) { cfg.OnPoison = DeadLetter }}, change...)...)
	s.addQueues(s.topic(letters), 1)
	l := s.newLeader(1)
	for _, name := range []string{"a", letters} {
		for _, q := range s.topics[name].queues {
			s.follow(q, l)
			q.proven = true
		}
	}
	return s, l
}

// sentTo gives what l would send to a topic now, as the values' first words, and the parcels.
func (s *session) sentTo(l *leader, topic string) (rows []string, parcels []parcel) {
	s.t.Helper()
	for _, p := range s.gatherAll(l) {
		if p.queue.topic.name != topic {
			s.t.Fatalf("%s is sent a batch, and %s was to be", p.queue, topic)
		}
		parcels = append(parcels, p)
		err := p.batch.wire.Records(func(_ int, rec record.Record) bool {
			row, _, _ := strings.Cut(string(rec.Value), " ")
			rows = append(rows, row)
			return true
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return rows, parcels
}

// expect checks what is sent to a topic, and acks it.
func (s *session) expect(l *leader, topic, rows string) {
	s.t.Helper()
	got, parcels := s.sentTo(l, topic)
	if fmt.Sprint(got) != "["+rows+"]" {
		s.t.Fatalf("%s is sent rows %s, not [%s]", topic, got, rows)
	}
	for _, p := range parcels {
		s.answer(l, p, 0)
	}
}

func (s *session) expectOldest(want uint64) {
	s.t.Helper()
	if got := s.Oldest(); got != want {
		s.t.Fatalf("the oldest unacked number is %d, not %d", got, want)
	}
}

// allAcked checks that nothing is left, in the counts either.
func (s *session) allAcked() {
	s.t.Helper()
	s.expectOldest(^uint64(0))
	if records, bytes := s.InFlight(); records != 0 || bytes != 0 || s.err != nil {
		s.t.Fatalf("%d records in %d bytes are left (%v)", records, bytes, s.err)
	}
}

func TestNothingPassesADeadLetterInItsPartition(t *testing.T) {
	s, l := withLetters(t, 1)
	for range 3 {
		s.batch("a", 0, 1, 10)
	}
	_, sent := s.sentTo(l, "a")
	s.answer(l, sent[0], 10)
	for _, behind := range sent[1:] {
		s.answer(l, behind, 45)
	}
	s.expectOldest(0)
	s.batch("a", 0, 1, 10)
	s.expect(l, letters, "0")
	s.expect(l, "a", "1 2 3")
	s.allAcked()
}

// withHeaders is shards with a column of headers.
var withHeaders = table("shards", "id", oidInt8, "topic", oidText, "shard", oidInt4, "key", oidText, "payload", oidText, "headers", oidText)

func TestUnroutableRowHoldsThePlaceThatItWouldHaveHad(t *testing.T) {
	s, l := withLetters(t, 2)
	give := func(shard, headers string) {
		s.Begin()
		defer s.End()
		id := fmt.Sprint(s.next)
		e := event(withHeaders, id, "a", shard, "k", id+" payload", headers)
		e.CommitTime, e.Position = time.Now(), decoder.Position{Timeline: 1, LSN: 100, Ordinal: s.next}
		if err := s.give("a", 0, e); err != nil {
			t.Fatal(err)
		}
	}
	give("0", "{}")
	give("0", "[]")
	give("1", "{}")
	give("0", "{}")
	sent := s.gatherAll(l)
	var letter []parcel
	for _, p := range sent {
		if p.queue.topic.deadLetter {
			letter = append(letter, p)
			continue
		}
		if p.batch.first == 3 {
			t.Fatal("a row passes the one that became a dead letter")
		}
		s.answer(l, p, 0)
	}
	if len(sent) != 3 || len(letter) != 1 {
		t.Fatalf("%d batches are sent, %d of them letters", len(sent), len(letter))
	}
	s.expectOldest(1)
	if more := s.gatherAll(l); len(more) != 0 {
		t.Fatal("the queue goes on before the letter is acked")
	}
	s.answer(l, letter[0], 0)
	s.expect(l, "a", "3")
	s.allAcked()
}

// The same while its topic's partitions are not known yet, or it is the first that names the topic.
func TestUnroutableRowClosesTheLobbyThatItWouldHaveWaitedIn(t *testing.T) {
	for poison, others := range map[int]string{0: "1 2", 1: "0 2"} {
		s, l := withLetters(t, 1)
		for i := range 3 {
			headers := "{}"
			if i == poison {
				headers = "[]"
			}
			s.Begin()
			id := fmt.Sprint(s.next)
			e := event(withHeaders, id, "new", "0", "k", id+" payload", headers)
			e.CommitTime, e.Position = time.Now(), decoder.Position{Timeline: 1, LSN: 100, Ordinal: s.next}
			if err := s.give("new", 0, e); err != nil {
				t.Fatal(err)
			}
			s.End()
		}
		topic := s.topics["new"]
		s.addQueues(topic, 1)
		s.follow(topic.queues[0], l)
		topic.queues[0].proven = true
		s.expectOldest(0)
		s.expect(l, letters, fmt.Sprint(poison))
		s.expect(l, "new", others)
		s.allAcked()
	}
}

// A row that names the dead letters' topic goes there as a letter, and must not wait behind a place of its own.
func TestRowForTheDeadLettersBecomesALetter(t *testing.T) {
	for _, known := range []bool{true, false} {
		s, l := withLetters(t, 1)
		topic := s.topics[letters]
		queues := topic.queues
		if !known {
			topic.queues = nil
		}
		s.append(letters, 0, 10)
		topic.queues = queues
		s.empty(topic)
		s.expect(l, letters, "0")
		s.allAcked()
	}
}

// The checkpoint must not pass a dead letter that is appended behind one with a larger number, in its batch or in the next.
func TestDeadLettersComeOutOfTurn(t *testing.T) {
	for _, batches := range []int{1, 2} {
		s, l := withLetters(t, 1)
		for range 3 {
			s.append("later", 0, 10)
		}
		s.append("a", 7, 10) // no such partition
		if batches == 2 {
			s.topics[letters].queues[0].close()
		}
		s.expectOldest(0)
		later := s.topics["later"]
		later.trouble = time.Now().Add(-time.Hour)
		s.mu.Lock()
		s.withoutTopic(later, codeUnknownTopic)
		s.mu.Unlock()
		s.expectOldest(0)
		s.append("later", 0, 10)
		s.addQueues(later, 1)
		s.follow(later.queues[0], l)
		later.queues[0].proven = true
		s.append("later", 0, 10)
		if batches == 2 {
			s.topics[letters].queues[0].close()
		}
		s.expectOldest(0)
		s.expect(l, letters, "3 0 1 2")
		s.expectOldest(4)
		s.expect(l, "later", "4 5")
		s.allAcked()
	}
}

// The letter's ack may come before that of a batch ahead of its place, and that batch may be refused: nothing is unsure.
func TestPlaceOfADeadLetterIsNoAckedBatch(t *testing.T) {
	s, l := withLetters(t, 1)
	s.batch("a", 0, 1, 10)
	_, ahead := s.sentTo(l, "a")
	s.Begin()
	e := event(withHeaders, "1", "a", "0", "k", "1 payload", "[]")
	e.CommitTime, e.Position = time.Now(), decoder.Position{Timeline: 1, LSN: 100, Ordinal: 1}
	if err := s.give("a", 0, e); err != nil {
		t.Fatal(err)
	}
	s.End()
	l.inFlight = 0 // a letter waits for no other request
	s.expect(l, letters, "1")
	l.inFlight = 1
	s.answer(l, ahead[0], 10)
	s.expect(l, letters, "0")
	s.allAcked()
}

// A batch of letters that is taken apart must not release a place before the last of them is acked, nor forget one.
func TestDividedLettersReleaseTheirPlaces(t *testing.T) {
	s, l := withLetters(t, 2)
	s.batch("a", 0, 1, 10)
	s.batch("a", 1, 1, 10)
	_, sent := s.sentTo(l, "a")
	for _, p := range sent {
		s.answer(l, p, 10)
	}
	s.batch("a", 0, 1, 10)
	s.batch("a", 1, 1, 10)
	rows, sent := s.sentTo(l, letters)
	if len(sent) != 1 || len(rows) != 2 {
		t.Fatalf("rows %s are sent in %d batches", rows, len(sent))
	}
	s.answer(l, sent[0], 10)
	s.expect(l, letters, "0 1")
	s.expect(l, "a", "2 3")
	s.allAcked()
}

func TestForbiddenTopicsQueueBecomesDeadLetters(t *testing.T) {
	s, l := withLetters(t, 1)
	s.batch("a", 0, 2, 10)
	s.batch("a", 0, 1, 10)
	s.append("a", 0, 10)
	_, sent := s.sentTo(l, "a")
	q := s.topics["a"].queues[0]
	q.barred = time.Now().Add(-time.Hour)
	for _, p := range sent {
		s.answer(l, p, 29)
	}
	s.append("a", 0, 10)
	q.retryAt = time.Time{}
	s.expectOldest(0)
	s.expect(l, letters, "0 1 2 3")
	s.expectOldest(4)
	s.expect(l, "a", "4")
	s.allAcked()
}

func TestDeadLetterSaysWhatItWas(t *testing.T) {
	s, l := withLetters(t, 1)
	s.append("a", 0, 10)
	_, sent := s.sentTo(l, "a")
	s.answer(l, sent[0], 87)
	want := map[string]string{"id": "0", "outrider-reason": "INVALID_RECORD", "outrider-topic": "a", "outrider-position": "test:1:0/64:0"}
	for _, p := range s.gatherAll(l) {
		err := p.batch.wire.Records(func(_ int, rec record.Record) bool {
			if string(rec.Key) != "key-0" || string(rec.Value) != "0 xxxxxxxxxx" {
				t.Errorf("the letter has key %q and value %q", rec.Key, rec.Value)
			}
			if last := rec.Headers[len(rec.Headers)-1]; string(last.Key) != "outrider-position" {
				t.Errorf("the last header is %s", last.Key)
			}
			for _, h := range rec.Headers {
				if !strings.HasPrefix(string(h.Value), want[string(h.Key)]) || want[string(h.Key)] == "" {
					t.Errorf("header %s is %q", h.Key, h.Value)
				}
				delete(want, string(h.Key))
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(want) > 0 {
		t.Errorf("headers are missing: %v", want)
	}
}

// A row that no topic took may be too large for the dead letters' topic as well.
func TestDeadLetterThatIsTooLargeIsCut(t *testing.T) {
	s, l := withLetters(t, 1)
	s.append("a", 0, 1000)
	_, sent := s.sentTo(l, "a")
	s.answer(l, sent[0], 10)
	var sizes []int
	var marked string
	for range 3 {
		_, sent := s.sentTo(l, letters)
		if len(sent) != 1 {
			t.Fatalf("%d letters are sent", len(sent))
		}
		err := sent[0].batch.wire.Records(func(_ int, rec record.Record) bool {
			sizes = append(sizes, len(rec.Value))
			for _, h := range rec.Headers {
				if string(h.Key) == "outrider-truncated" {
					marked += string(h.Value) + " "
				}
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		code := int16(10)
		if len(sizes) == 3 {
			code = 0
		}
		s.answer(l, sent[0], code)
	}
	if sizes[0] != 1002 || sizes[1] >= sizes[0]/2+1 || sizes[2] >= sizes[1]/2+1 || sizes[2] == 0 || marked != "1002 1002 " {
		t.Errorf("letters of %d bytes were sent, marked %q", sizes, marked)
	}
	s.allAcked()
}

func TestDeadLetterLargerThanABatchIsCutAtOnce(t *testing.T) {
	s, l := withLetters(t, 1, func(cfg *Config) { cfg.BatchBytes = 5000 })
	s.append("a", 0, 20_000)
	_, sent := s.sentTo(l, "a")
	s.answer(l, sent[0], 10)
	_, sent = s.sentTo(l, letters)
	if len(sent) != 1 || sent[0].batch.wire.Len() > 5000 {
		t.Fatalf("the letter takes %d bytes", sent[0].batch.wire.Len())
	}
}

// What the dead letters' own topic refuses for another reason has nowhere to go.
func TestRefusedDeadLetterStopsTheRelay(t *testing.T) {
	s, l := withLetters(t, 1)
	s.append("a", 0, 10)
	for _, topic := range []string{"a", letters} {
		_, sent := s.sentTo(l, topic)
		s.answer(l, sent[0], 87)
	}
	var p *Poison
	if !errors.As(s.err, &p) || p.Where != "partition "+letters+"/0" || p.Position != "1:0/64:0" {
		t.Fatalf("the session ends with %v", s.err)
	}
	s.expectOldest(0)
	// To send it to the topic that has just refused it would be a decision that brings it back here.
	if _, _, advice, options := p.Blocked(); fmt.Sprint(options) != "[skip]" || strings.Contains(advice, "dead_letter") {
		t.Errorf("what may be decided is %s: %s", options, advice)
	}
}

func TestADecisionOverridesThePolicyForOneEvent(t *testing.T) {
	for _, decided := range []Policy{Skip, DeadLetter} {
		s, l := withLetters(t, 1, func(cfg *Config) { cfg.OnPoison, cfg.Decided = Stop, map[string]Policy{"1:0/64:0": decided} })
		s.append("a", 0, 10)
		_, sent := s.sentTo(l, "a")
		s.answer(l, sent[0], 87)
		if decided == DeadLetter {
			s.expect(l, letters, "0")
		}
		s.allAcked()
		if err := s.tryAppend("a", 9, 10); !errors.As(err, new(*Poison)) {
			t.Errorf("the next one under %s: %v", decided, err)
		}
	}
}

// Without position headers a refused record has no position, and no decision is about it.
func TestADecisionThatIsNoneIsAboutNoEvent(t *testing.T) {
	s, l := withLetters(t, 1, func(cfg *Config) { cfg.OnPoison, cfg.Routing.OmitPosition = Stop, true })
	s.append("a", 0, 10)
	_, sent := s.sentTo(l, "a")
	s.answer(l, sent[0], 87)
	if !errors.As(s.err, new(*Poison)) {
		t.Errorf("the session ends with %v", s.err)
	}
}

func TestNoRowIsRoutedToTheDeadLetters(t *testing.T) {
	s, _ := withLetters(t, 1, func(cfg *Config) { cfg.OnPoison = Stop })
	var p *Poison
	if err := s.tryAppend(letters, 0, 10); !errors.As(err, &p) || !strings.Contains(p.Reason, "dead_letter.topic") {
		t.Errorf("it is taken: %v", err)
	}
}
