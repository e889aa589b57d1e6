package sink

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// proven makes a session whose partition 0 of topic a has acked a record, so that five batches may be in flight.
func proven(t *testing.T, c *cluster, change ...func(*Config)) *session {
	t.Helper()
	s := startSession(t, c, change...)
	s.append("a", 0, 10)
	s.until("the partition has acked", func() bool { return s.records == 0 })
	return s
}

// A broker remembers five batches. What is sent ahead of an unacked one must not make it forget that one.
func TestNothingIsSentFiveBatchesAheadOfAnUnackedOne(t *testing.T) {
	s := newIdle(t, 1)
	q, l := s.topics["a"].queues[0], s.newLeader(1)
	s.follow(q, l)
	q.proven = true
	for range 12 {
		s.batch("a", 0, 10, 10)
	}
	sent := s.gatherAll(l)
	if len(sent) != 5 {
		t.Fatalf("%d batches are in flight, not 5", len(sent))
	}
	s.answer(l, sent[0], 7) // REQUEST_TIMED_OUT: perhaps appended
	for _, p := range sent[1:] {
		s.answer(l, p, 0)
	}
	q.retryAt = time.Time{}
	again := s.gatherAll(l)
	if len(again) != 1 || again[0].batch != sent[0].batch {
		t.Fatalf("%d batches are sent, not only the unacked one", len(again))
	}
	s.answer(l, again[0], 0)
	if more := s.gatherAll(l); len(more) != 5 || more[0].batch.seq != 50 {
		t.Fatalf("%d batches follow", len(more))
	}
}

// newLeader makes one that is not run.
func (s *session) newLeader(id int32) *leader {
	return &leader{k: s.Kafka, id: id, wake: make(chan struct{}, 1)}
}

// gatherAll takes what l would send, as requests of one batch each.
func (s *session) gatherAll(l *leader) (all []parcel) {
	s.t.Helper()
	for {
		parcels, _ := l.gather(time.Now())
		if len(parcels) == 0 {
			return all
		}
		for _, p := range parcels {
			if err := s.seal(p.batch); err != nil {
				s.t.Fatal(err)
			}
		}
		l.inFlight += len(parcels) - 1
		all = append(all, parcels...)
	}
}

// answer answers a request of one batch. Offsets are like sequence numbers.
func (s *session) answer(l *leader, p parcel, code int16) {
	l.answered([]parcel{p}, &produce.Response{Topics: []produce.ResponseTopic{{
		Topic:      p.queue.topic.name,
		Partitions: []produce.ResponsePartition{{Partition: p.queue.partition, ErrorCode: code, BaseOffset: int64(p.batch.seq)}},
	}}}, nil)
}

// After append, a broker that answers with an error has the batch: sent again, it is acked and not appended.
func TestBatchesAppendedWithAnErrorAreNotRepeated(t *testing.T) {
	for _, code := range []int16{7, 20} {
		c := newCluster(t, kfake.SeedTopics(1, "a"))
		s := startSession(t, c)
		c.Fault(produceFault("a", 0, code, 3))
		for range 10 {
			s.batch("a", 0, 10, 10)
		}
		s.drain()
		s.checkDelivered("a")
	}
}

func TestLostConnectionsNeitherLoseNorRepeat(t *testing.T) {
	for name, cut := range map[string]func(*cluster){
		"within a request": func(c *cluster) { c.cutRequest.Store(true) },
		"before an answer": func(c *cluster) { c.cutAnswer.Store(true) },
	} {
		for _, known := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				c := newCluster(t, kfake.SeedTopics(1, "a"))
				s := startSession(t, c)
				s.append("a", 0, 10)
				if known {
					s.until("the partition has acked", func() bool { return s.records == 0 })
				} else {
					s.until("the partition is known", func() bool { return len(s.topics["a"].queues) == 1 })
				}
				for range 3 {
					s.batch("a", 0, 10, 1000)
				}
				cut(c)
				for range 9 {
					s.batch("a", 0, 10, 1000)
				}
				s.drain()
				s.checkDelivered("a")
			})
		}
	}
}

// Whether the batch was written cannot be known; the next session finds out.
func TestGapAtTheFirstUnackedBatchEndsTheSession(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "a"))
	s := proven(t, c)
	c.Fault(produceFault("a", 0, 45, 1))
	s.batch("a", 0, 10, 10)
	s.batch("a", 0, 10, 10)
	s.Begin()
	s.End()
	go func() { _ = s.Drain(t.Context()) }()
	if err := s.fails(); !strings.Contains(err.Error(), "OUT_OF_ORDER_SEQUENCE_NUMBER") || !strings.Contains(err.Error(), "a/0") {
		t.Errorf("%q does not name error and partition", err)
	}
}

// A leader without memory of a producer takes any first sequence, so the second batch would overtake a refused first one.
func TestPartitionHasOneBatchInFlightUntilItsFirstAck(t *testing.T) {
	s := newIdle(t, 1)
	q, l := s.topics["a"].queues[0], s.newLeader(1)
	s.follow(q, l)
	for range 10 {
		s.batch("a", 0, 1, 10)
	}
	for _, code := range []int16{19, 3, 7, 0} {
		q.retryAt = time.Time{}
		sent := s.gatherAll(l)
		if len(sent) != 1 || sent[0].batch.seq != 0 {
			t.Fatalf("before the answer %s %d batches are in flight, not only the first", errorName(code), len(sent))
		}
		s.answer(l, sent[0], code)
	}
	if sent := s.gatherAll(l); len(sent) != 5 {
		t.Fatalf("%d batches are in flight after the first ack, not 5", len(sent))
	}
}

func TestNothingOvertakesTheFirstBatchOfAPartition(t *testing.T) {
	for _, code := range []int16{19, 6, 3} {
		c := newCluster(t, kfake.SeedTopics(1, "a"))
		s := startSession(t, c)
		c.Fault(produceFault("a", 0, code, 1))
		for range 5 {
			s.batch("a", 0, 10, 10)
		}
		s.drain()
		s.checkDelivered("a")
	}
}

func TestOrderOutlivesLeadersThatMove(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(3), kfake.SeedTopics(6, "a"))
	s := startSession(t, c, func(cfg *Config) { cfg.BatchBytes = 2 << 10 })
	var movers sync.WaitGroup
	for round := range 30 {
		movers.Go(c.ShufflePartitionLeaders)
		for shard := range int32(6) {
			for range 10 + round {
				s.append("a", shard, 100)
			}
		}
		movers.Wait()
	}
	s.drain()
	s.checkDelivered("a")
}

// The old leader acks after the queue has moved on: what is behind must not wait for a chance to be looked at.
func TestAnswerOfAFormerLeaderWakesTheNewOne(t *testing.T) {
	s := newIdle(t, 1)
	q, before, after := s.topics["a"].queues[0], s.newLeader(1), s.newLeader(2)
	s.follow(q, before)
	s.batch("a", 0, 1, 10)
	s.batch("a", 0, 1, 10)
	sent := s.gatherAll(before)
	s.follow(q, after)
	if more := s.gatherAll(after); len(sent) != 1 || len(more) != 0 {
		t.Fatalf("%d batches are sent to the old leader and %d to the new one, not 1 and 0", len(sent), len(more))
	}
	s.answer(before, sent[0], 0)
	select {
	case <-after.wake:
	default:
		t.Fatal("the new leader is not told that it may send")
	}
	if more := s.gatherAll(after); len(more) != 1 {
		t.Fatalf("%d batches are sent to the new leader, not 1", len(more))
	}
}

// Everything behind the refused batch is lost with the connection, and still the refused one has to be dealt with.
func TestRefusedBatchIsDividedAfterALostConnection(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "a"))
	s := proven(t, c)
	c.Fault(produceFault("a", 0, 87, 1))
	requests := 0
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		switch requests++; requests {
		case 1:
			s.until("all are in flight", func() bool { return s.topics["a"].queues[0].inFlight == 4 })
		case 2:
			return nil, errors.New("hang up"), true
		}
		return nil, nil, false
	})
	for range 4 {
		s.batch("a", 0, 10, 10)
	}
	s.drain()
	s.checkDelivered("a")
}

// The naive model is the set of all numbers appended and not acked.
func TestOldestIsTheSmallestUnackedNumber(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		s := newIdle(t, 4, func(cfg *Config) { cfg.BatchBytes = 400 })
		q := s.topics["a"].queues
		unacked := make(map[uint64]bool)
		numbers := make(map[*batch][]uint64)
		var flying []parcel
		for range 300 {
			now := time.Now()
			switch i := rnd.IntN(4); rnd.IntN(5) {
			case 0, 1:
				batches := len(q[i].batches)
				unacked[s.next] = true
				s.append("a", int32(i), rnd.IntN(100))
				if len(q[i].batches) > batches { // the rows before this one
					sent := s.sent["a"][int32(i)]
					b := q[i].batches[batches]
					numbers[b] = sent[len(sent)-1-b.count() : len(sent)-1]
				}
			case 2:
				rows := q[i].open.count()
				b := q[i].next(now, true)
				if b == nil {
					continue
				}
				if numbers[b] == nil {
					sent := s.sent["a"][int32(i)]
					numbers[b] = sent[len(sent)-rows:]
				}
				if err := s.seal(b); err != nil {
					t.Fatal(err)
				}
				b.inFlight = true
				q[i].inFlight++
				flying = append(flying, parcel{q[i], b})
			default:
				if len(flying) == 0 {
					continue
				}
				j := rnd.IntN(len(flying))
				p := flying[j]
				flying = slices.Delete(flying, j, j+1)
				p.batch.inFlight = false
				p.queue.inFlight--
				answer := &produce.ResponsePartition{BaseOffset: int64(p.batch.seq), ErrorCode: []int16{0, 0, 7, 6}[rnd.IntN(4)]}
				s.settle(p, answer, now)
				p.queue.retryAt = time.Time{}
				if answer.ErrorCode == 0 {
					for _, n := range numbers[p.batch] {
						delete(unacked, n)
					}
				}
			}
			want := uint64(math.MaxUint64)
			for n := range unacked {
				want = min(want, n)
			}
			if got := s.Oldest(); got != want || s.err != nil {
				t.Fatalf("seed %d: oldest is %d, not %d (%v)", seed, got, want, s.err)
			}
		}
	}
}

// newIdle makes a session that is never run: topic a has partitions, and no leader.
func newIdle(t testing.TB, partitions int32, change ...func(*Config)) *session {
	t.Helper()
	s := &session{t: t, sent: make(map[string]map[int32][]uint64)}
	cfg := Config{Name: "test", Brokers: []string{"nowhere:1"}, Routing: shardRouting}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if s.Kafka, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	a := &topic{name: "a", batchBytes: s.cfg.BatchBytes}
	s.topics["a"] = a
	s.addQueues(a, partitions)
	return s
}
