package sink

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outrider-relay/outrider/sink/route"
)

// hates answers every batch for topic a that holds a record whose key is bad with code. Where named is set it names the record
// (record_errors), else it refuses the batch.
func (c *cluster) hates(bad string, code int16, named bool) {
	c.ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.ProduceRequest)
		if req.Topics[0].Topic != "a" {
			return nil, nil, false
		}
		part := req.Topics[0].Partitions[0]
		var b kmsg.RecordBatch
		if err := b.ReadFrom(part.Records); err != nil {
			return nil, err, true
		}
		index := int32(-1)
		for i, raw := 0, b.Records; i < int(b.NumRecords); i++ {
			var r kmsg.Record
			if err := r.ReadFrom(raw); err != nil {
				return nil, err, true
			}
			if string(r.Key) == bad {
				index = int32(i)
			}
			raw = raw[len(r.AppendTo(nil)):]
		}
		if index < 0 {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.ProduceResponse)
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic = req.Topics[0].Topic
		answer := kmsg.NewProduceResponseTopicPartition()
		answer.Partition, answer.ErrorCode = part.Partition, code
		if named {
			e := kmsg.NewProduceResponseTopicPartitionErrorRecord()
			e.RelativeOffset = index
			answer.ErrorRecords = append(answer.ErrorRecords, e)
		}
		topic.Partitions = append(topic.Partitions, answer)
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
}

func TestOneBadRecordAmongAThousand(t *testing.T) {
	const bad = 777
	for _, c := range []struct {
		name  string
		code  int16
		named bool
	}{
		{"too large", 10, false},
		{"too large and named", 10, true},
		{"list too large", 18, false},
		{"invalid timestamp and named", 32, true},
		{"invalid", 87, false},
		{"invalid and named", 87, true},
	} {
		for _, policy := range []Policy{Stop, Skip, DeadLetter} {
			t.Run(c.name+", "+string(policy), func(t *testing.T) {
				t.Parallel()
				kafka := newCluster(t, kfake.SeedTopics(1, "a", "outrider.dead-letter"))
				kafka.hates("key-777", c.code, c.named)
				s := startSession(t, kafka, func(cfg *Config) { cfg.OnPoison = policy })
				s.batches("a", 0, 10, 100, 20)
				s.Begin()
				s.End()
				if policy != Stop {
					s.drain()
					s.checkDelivered("a", bad)
					if letters := kafka.read("outrider.dead-letter")[0]; len(letters) != map[Policy]int{DeadLetter: 1}[policy] {
						t.Errorf("%d dead letters", len(letters))
					}
					if n := s.cfg.Stats.Poison(); n != 1 || len(s.logs.with(`"id":"777"`)) != 1 {
						t.Errorf("%d poison events are counted, logged: %q", n, s.logs.with("777"))
					}
					return
				}
				go func() { _ = s.Drain(t.Context()) }()
				err := s.fails()
				var p *Poison
				if !errors.As(err, &p) || p.ID != "777" || !strings.HasSuffix(p.Position, "1:0/64:777") || p.Where != "partition a/0" || !strings.Contains(p.Reason, errorName(c.code)) {
					t.Fatalf("Run ended with %#v", err)
				}
				if oldest := s.Oldest(); oldest > bad {
					t.Errorf("the oldest unacked number is %d, beyond the poison event's %d", oldest, bad)
				}
				for _, r := range kafka.read("a")[0] {
					if n, _, _ := strings.Cut(string(r.Value), " "); len(n) == 3 && n >= "777" {
						t.Fatalf("record %s is behind the poison event, and was sent", n)
					}
				}
			})
		}
	}
}

func TestRowsThatCannotBeRoutedMeetThePolicy(t *testing.T) {
	for _, policy := range []Policy{Stop, Skip} {
		s := newIdle(t, 3, func(cfg *Config) { cfg.OnPoison = policy; cfg.Log = cfg.Log.Output(&logs{}) })
		for reason, e := range map[string]error{
			"beyond the 3":    s.tryAppend("a", 3, 10),
			"outside [a-zA-Z": s.tryAppend("an order", 0, 10),
		} {
			var p *Poison
			switch {
			case policy == Skip && e != nil:
				t.Errorf("%s: error %v under skip", reason, e)
			case policy == Stop && (!errors.As(e, &p) || p.ID != "0" || p.Position != "1:0/64:0" || !strings.Contains(p.Reason, reason) || p.Where != "table public.shards"):
				t.Errorf("%s: error %v under stop", reason, e)
			}
		}
		if n := s.cfg.Stats.Poison(); n != 2 {
			t.Errorf("%d poison events are counted, not 2", n)
		}
		if records, _ := s.InFlight(); records != 0 || s.next != 0 {
			t.Errorf("%d records were taken", records)
		}
	}
}

// A row that waited for its topic's partitions, and is found to name none of them, must keep the checkpoint back as any other
// poison event does: what is acked while the session ends is still stored.
func TestPoisonOfTheLobbyHoldsTheCheckpointBack(t *testing.T) {
	for rows, shards := range map[string][]int32{"alone": {3}, "between others": {0, 3, 0}} {
		s := newIdle(t, 1, func(cfg *Config) { cfg.OnPoison = Stop })
		for _, shard := range shards {
			s.append("b", shard, 10)
		}
		s.mu.Lock()
		s.size(s.topics["b"], 3)
		var p *Poison
		if !errors.As(s.err, &p) || !strings.Contains(p.Reason, "beyond the topic's 3") {
			t.Errorf("%s: the session ends with %v", rows, s.err)
		}
		for _, q := range s.topics["b"].queues { // those with the rest are acked yet
			q.open, q.batches = batch{}, nil
		}
		s.mu.Unlock()
		if oldest, bad := s.Oldest(), uint64(len(shards)/2); oldest > bad {
			t.Errorf("%s: the oldest unacked number is %d, beyond the poison event's %d", rows, oldest, bad)
		}
	}
}

func TestMessagesThatCannotBeReadMeetThePolicy(t *testing.T) {
	s := newIdle(t, 1, func(cfg *Config) { cfg.OnPoison = Stop; cfg.Routing = route.Settings{} })
	for content, want := range map[string]string{
		`{"id": "e-1", "aggregate_id": "1"}`: `poison event at position 1:0/16B3748:7 (id "e-1", logical message orders): the content has no payload (null makes a tombstone)`,
		`secret`:                             `poison event at position 1:0/16B3748:7 (id "", logical message orders): the content is not JSON in UTF-8`,
	} {
		s.Begin()
		_, err := s.Append(message(content), 0)
		s.End()
		var p *Poison
		if !errors.As(err, &p) || p.Error() != want {
			t.Errorf("%s: error %v, want %s", content, err, want)
		}
	}
}

// A row may carry a header named id; the event's own comes first.
func TestPoisonIsNamedByTheEventsOwnID(t *testing.T) {
	s := newIdle(t, 1, func(cfg *Config) { cfg.Routing = route.Settings{} })
	routed, err := s.router.Route(event(outbox, "own", "order", "42", "X", "{}", `{"id": "forged"}`), commitTime)
	if err != nil {
		t.Fatal(err)
	}
	var p Poison
	if p.identify(routed.Record); p.ID != "own" {
		t.Errorf("the event is called %q", p.ID)
	}
}

// Batches that were filled before the first refusal must not make later ones large again.
func TestRefusedSizesOnlyShrink(t *testing.T) {
	s := newIdle(t, 1)
	a := s.topics["a"]
	q, l := a.queues[0], s.newLeader(1)
	s.follow(q, l)
	q.proven = true
	for range 3 {
		s.batch("a", 0, 100, 1000)
	}
	for last := a.batchBytes; len(q.batches) < 40; last = a.batchBytes {
		sent := s.gatherAll(l)
		for i, p := range sent {
			s.answer(l, p, []int16{0, 10}[min(1, max(0, p.batch.count()-9+i))])
		}
		if a.batchBytes > last {
			t.Fatalf("batches of %d bytes are made after %d were refused", a.batchBytes, last)
		}
		if q.empty() {
			break
		}
	}
}

// An attempt whose outcome is unknown may have been appended. If the batch then counts as poison, the next one gets its
// sequence numbers, and the broker takes it for a repetition: lost, and acked.
func TestPoisonAfterAnUnknownOutcomeEndsTheSession(t *testing.T) {
	for name, fail := range map[string]func(*session, *leader, parcel){
		"time-out":        func(s *session, l *leader, p parcel) { s.answer(l, p, 7) },
		"connection lost": func(_ *session, l *leader, p parcel) { l.answered([]parcel{p}, nil, errors.New("reset")) },
	} {
		s := newIdle(t, 1, func(cfg *Config) { cfg.OnPoison = Skip })
		q, l := s.topics["a"].queues[0], s.newLeader(1)
		s.follow(q, l)
		s.batch("a", 0, 1, 10)
		s.batch("a", 0, 1, 10)
		fail(s, l, s.gatherAll(l)[0])
		q.retryAt = time.Time{}
		s.answer(l, s.gatherAll(l)[0], 10)
		if s.err == nil || errors.As(s.err, new(*Poison)) {
			t.Errorf("%s: the session ends with %v", name, s.err)
		}
	}
}

// A topic that may not be written any more: its rows are given up after topics.wait under skip, and never under stop.
func TestForbiddenTopicIsGivenUpUnderSkip(t *testing.T) {
	for _, policy := range []Policy{Stop, Skip} {
		s := newIdle(t, 2, func(cfg *Config) { cfg.OnPoison = policy; cfg.Topics.Wait = time.Minute })
		q, l := s.topics["a"].queues[0], s.newLeader(1)
		s.follow(q, l)
		s.append("a", 0, 10)
		s.answer(l, s.gatherAll(l)[0], 0)
		for range 3 {
			s.batch("a", 0, 5, 10)
		}
		s.append("a", 0, 10)
		refuse := func(after time.Duration) {
			t.Helper()
			q.retryAt = time.Time{}
			if !q.barred.IsZero() {
				q.barred = time.Now().Add(-after)
			}
			sent := s.gatherAll(l)
			if len(sent) == 0 {
				t.Fatal("nothing is tried")
			}
			for _, p := range sent {
				s.answer(l, p, 29)
			}
		}
		refuse(0)
		refuse(59 * time.Second)
		if records, _ := s.InFlight(); records != 16 {
			t.Fatalf("%s: %d of 16 records are left before the time", policy, records)
		}
		refuse(61 * time.Second)
		records, bytes := s.InFlight()
		if policy == Stop {
			if records != 16 || s.err != nil {
				t.Fatalf("under stop %d of 16 records are left, %v", records, s.err)
			}
			continue
		}
		if records != 0 || bytes != 0 || s.Oldest() != ^uint64(0) || s.cfg.Stats.Poison() != 16 || s.err != nil {
			t.Fatalf("%d records in %d bytes are left, oldest %d, %d counted, error %v", records, bytes, s.Oldest(), s.cfg.Stats.Poison(), s.err)
		}
		s.leaders[l.id] = l
		s.lead(t.Context(), s.topics["a"], &metadata.ResponsePartition{LeaderID: l.id}, map[int32]string{l.id: "here:9092"})
		if trouble := s.Trouble(); trouble != "" {
			t.Errorf("nothing waits any more, and the trouble is %q", trouble)
		}
		// What comes next is numbered as if nothing had been: the broker has seen none of it.
		s.append("a", 0, 10)
		q.retryAt = time.Time{}
		if sent := s.gatherAll(l); len(sent) != 1 || sent[0].batch.seq != 1 {
			t.Fatal("the queue does not go on from where the broker stands")
		}
	}
}

// Its rows are given up, and no partition of it is led any more: nothing will be said of these that clears their troubles.
func TestTopicThatWasGivenUpLeavesNoTrouble(t *testing.T) {
	s := newIdle(t, 1, func(cfg *Config) { cfg.OnPoison = Skip })
	a, l := s.topics["a"], s.newLeader(1)
	q := a.queues[0]
	s.follow(q, l)
	s.batch("a", 0, 1, 10)
	for range 3 {
		s.answer(l, s.gatherAll(l)[0], codeUnknownTopic)
		q.retryAt = time.Time{}
	}
	if s.withoutTopic(a, codeUnknownTopic); !strings.Contains(s.troubles.worst(), "a/0") {
		t.Fatalf("the trouble is %q", s.troubles.worst())
	}
	s.cfg.Topics.Wait = time.Nanosecond
	s.answer(l, s.gatherAll(l)[0], codeUnknownTopic)
	if s.withoutTopic(a, codeUnknownTopic); s.records != 0 || s.troubles.worst() != "" {
		t.Fatalf("%d rows are left, and the trouble is %q", s.records, s.troubles.worst())
	}
}
