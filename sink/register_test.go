package sink

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What a restart has to look for lies at the noted offset or above only when everything that was under way at the ack is
// stored. One event too early, and it would be published twice.
func TestNoteIsDueWhenAllThatWasUnderWayIsStored(t *testing.T) {
	s := newIdle(t, 1, exactlyOnce(newMemory()))
	q, l := s.topics["a"].queues[0], s.newLeader(1)
	q.ready, q.proven = true, true
	s.follow(q, l)
	for range 2 {
		s.batch("a", 0, 5, 10)
	}
	sent := s.gatherAll(l)
	s.answer(l, sent[0], 0) // events 0 to 4, while 5 to 9 are under way
	for next, due := range map[uint64]bool{0: false, 5: false, 9: false, 10: true} {
		clear(s.fence.notes)
		q.note = &note{s.next, sent[0].batch.offset}
		s.Stored(next)
		if _, noted := s.fence.notes[place{"a", 0}]; noted != due {
			t.Errorf("noted is %v when all below %d is stored", noted, next)
		}
	}
}

// A restart that begins at the base of a batch finds its own batch there, or knows that the log is another one.
func TestAckNotesItsBaseOffset(t *testing.T) {
	s := newIdle(t, 1, exactlyOnce(newMemory()))
	q, l := s.topics["a"].queues[0], s.newLeader(1)
	q.ready, q.proven = true, true
	s.follow(q, l)
	for range 3 {
		s.batch("a", 0, 5, 10)
	}
	sent := s.gatherAll(l)
	for i, base := range []int64{40, 50, 60} {
		l.answered([]parcel{sent[i]}, &produce.Response{Topics: []produce.ResponseTopic{{Topic: "a", Partitions: []produce.ResponsePartition{{BaseOffset: base}}}}}, nil)
	}
	if q.note == nil || *q.note != (note{15, 40}) {
		t.Fatalf("noted %+v, not the first ack and the event after the last one", q.note)
	}
	s.Stored(15)
	if at := s.fence.notes[place{"a", 0}]; at != 40 {
		t.Errorf("a restart begins at %d, not at 40", at)
	}
	// A marker and an ack may be due at once.
	s.fence.registered[place{"a", 0}] = &scanned{note: &note{15, 70}}
	q.note = &note{15, 60}
	s.Stored(16)
	if at := s.fence.notes[place{"a", 0}]; at != 70 {
		t.Errorf("a restart begins at %d, not at the later one of two places, 70", at)
	}
}

// While events that Kafka holds have not been met, those above the checkpoint may lie anywhere in the log.
func TestNothingIsNotedBeforeTheTailIsMet(t *testing.T) {
	s := newIdle(t, 1, exactlyOnce(newMemory()))
	q := s.topics["a"].queues[0]
	s.tail = newTail()
	s.annotate(q, 40)
	if q.note != nil {
		t.Errorf("noted %+v", q.note)
	}
	s.tail = nil
	if s.annotate(q, 40); q.note == nil {
		t.Error("nothing is noted once it is")
	}
}

// A record in a partition that is not on record would be missed by a restart.
func TestRegistrationComesBeforeTheFirstRecord(t *testing.T) {
	c, m := newCluster(t, kfake.SeedTopics(1, "a", "b")), newMemory()
	m.register("b", 0, 0, false)
	s := newSession(t, c, exactlyOnce(m))
	m.gate = make(chan struct{})
	s.run()
	s.append("a", 0, 10)
	s.until("its leader is known", func() bool { t := s.topics["a"]; return len(t.queues) == 1 && t.queues[0].leader != nil })
	s.append("b", 0, 10) // by the same leader, in one request with whatever else may go
	s.until("b is acked", func() bool { return s.topics["b"].queues != nil && s.topics["b"].queues[0].empty() && s.records == 1 })
	if q := s.topics["a"].queues[0]; q.inFlight > 0 || q.nextSeq > 0 {
		t.Fatal("records are under way to a partition that is not on record")
	}
	close(m.gate)
	s.drain()
	if r, known := m.at("a", 0); !known || r.ScanFrom != 0 || r.Owned {
		t.Errorf("registered as %+v", r)
	}
	s.checkDelivered("a")
	s.checkDelivered("b")
}

// unreadable makes brokers refuse to read topic a until allowed is set, and counts how often that was tried.
func (c *cluster) unreadable() (allowed *atomic.Bool, tries *atomic.Int32) {
	allowed, tries = new(atomic.Bool), new(atomic.Int32)
	c.ControlKey(kmsg.Fetch.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		asked := req.(*kmsg.FetchRequest).Topics
		if allowed.Load() || len(asked) == 0 || asked[0].Topic != "a" {
			return nil, nil, false
		}
		tries.Add(1)
		res := req.ResponseKind().(*kmsg.FetchResponse)
		res.Topics = []kmsg.FetchResponseTopic{{Topic: "a", Partitions: []kmsg.FetchResponseTopicPartition{{ErrorCode: 29}}}}
		return res, nil, true
	})
	return allowed, tries
}

// What cannot be read back cannot be delivered exactly once. That is one trouble, however often it is tried and the topic is
// described as if nothing were wrong.
func TestPartitionThatCannotBeReadWaits(t *testing.T) {
	c, m := newCluster(t, kfake.SeedTopics(1, "a", "b")), newMemory()
	allowed, tries := c.unreadable()
	asked := c.asked(kmsg.Metadata)
	s := startSession(t, c, exactlyOnce(m))
	s.append("a", 0, 10)
	s.append("b", 0, 10)
	s.until("b is acked, and a is in trouble", func() bool { return s.records == 1 && s.troubles.worst() != "" })
	if _, known := m.at("a", 0); known {
		t.Error("a is registered, and a restart could not read it")
	}
	for range 3 {
		n := tries.Load()
		s.refreshes(asked, 1)
		s.until("it is tried again", func() bool { return tries.Load() > n })
		if trouble := s.Trouble(); !strings.HasPrefix(trouble, "read a: TOPIC_AUTHORIZATION_FAILED") {
			t.Fatalf("the trouble is %q", trouble)
		}
	}
	allowed.Store(true)
	s.drain()
	s.checkDelivered("a")
	s.checkDelivered("b")
	s.until("it is well again", func() bool { return s.troubles.worst() == "" })
	if said := s.logs.with(`"subject"`); len(said) != 2 {
		t.Errorf("one right that was missing and came is told in %d lines: %q", len(said), said)
	}
}

// Whatever keeps a partition from being registered keeps its rows waiting, and is said when it lasts.
func TestPartitionThatCannotBeRegisteredSaysWhy(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "a"))
	var mended atomic.Bool
	c.ControlKey(kmsg.ListOffsets.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if mended.Load() {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		res.Topics = []kmsg.ListOffsetsResponseTopic{{Topic: "a", Partitions: []kmsg.ListOffsetsResponseTopicPartition{{ErrorCode: 78}}}}
		return res, nil, true
	})
	s := startSession(t, c, exactlyOnce(newMemory()))
	s.append("a", 0, 10)
	s.until("it says why", func() bool { return strings.Contains(s.troubles.worst(), "OFFSET_NOT_AVAILABLE") })
	mended.Store(true)
	s.drain()
	s.until("it is well again", func() bool { return s.troubles.worst() == "" })
}

// To whoever waits it is one whether a topic is forbidden to be written or to be read.
func TestPartitionThatCannotBeReadIsGivenUpUnderSkip(t *testing.T) {
	c, m := newCluster(t, kfake.SeedTopics(1, "a", "b")), newMemory()
	c.unreadable()
	s := startSession(t, c, exactlyOnce(m), func(cfg *Config) { cfg.OnPoison, cfg.Topics.Wait = Skip, time.Millisecond })
	s.append("a", 0, 10)
	s.append("b", 0, 10)
	s.drain()
	s.checkDelivered("b")
	if n := s.cfg.Stats.Poison(); n != 1 {
		t.Errorf("%d rows are given up", n)
	}
}

// Places to scan from may lag: that is what keeps saves small.
func TestNotesAreWrittenTogether(t *testing.T) {
	c, m := newCluster(t, kfake.SeedTopics(4, "a")), newMemory()
	s := startSession(t, c, exactlyOnce(m))
	for i := range 400 {
		s.append("a", int32(i%4), 10)
	}
	s.drain()
	before := m.registers
	s.Stored(s.next)
	if m.registers != before {
		t.Errorf("%d writes by a save", m.registers-before)
	}
	if _, err := s.fence.writeNotes(t.Context()); err != nil || m.registers != before+1 {
		t.Errorf("%d writes of the notes of 4 partitions, %v", m.registers-before, err)
	}
	s.end()
	if _, err := tryStart(t, c, exactlyOnce(m)); err != nil {
		t.Errorf("the next session: %v", err)
	}
}

// However far the checkpoint lags, the first batch of a partition that this session has registered is known to be ours.
func TestFirstBatchOfAFreshPartitionIsOwnedAtOnce(t *testing.T) {
	s := newIdle(t, 1, exactlyOnce(newMemory()))
	q, l := s.topics["a"].queues[0], s.newLeader(1)
	q.ready, q.proven, q.fresh = true, true, true
	s.follow(q, l)
	for range 2 {
		s.batch("a", 0, 5, 10)
	}
	for i, p := range s.gatherAll(l) {
		s.answer(l, p, 0)
		if at, noted := s.fence.notes[place{"a", 0}]; !noted || at != 0 {
			t.Errorf("after the ack of batch %d a restart begins at %d (%v)", i, at, noted)
		}
	}
}

// A broker may say that it has a batch without saying where.
func TestDuplicateWithoutAnOffsetNotesNothing(t *testing.T) {
	s := newIdle(t, 1, exactlyOnce(newMemory()))
	q, l := s.topics["a"].queues[0], s.newLeader(1)
	q.ready, q.proven = true, true
	s.follow(q, l)
	s.batch("a", 0, 5, 10)
	p := s.gatherAll(l)[0]
	l.answered([]parcel{p}, &produce.Response{Topics: []produce.ResponseTopic{{Topic: "a", Partitions: []produce.ResponsePartition{{ErrorCode: 46, BaseOffset: -1}}}}}, nil)
	if q.note != nil || !q.empty() {
		t.Errorf("noted %+v", q.note)
	}
}

// The first batch of a fresh partition is the only one below which nothing of ours lies.
func TestDuplicateWithoutAnOffsetIsNotFollowedByAnOwnedOne(t *testing.T) {
	s := newIdle(t, 1, exactlyOnce(newMemory()))
	q, l := s.topics["a"].queues[0], s.newLeader(1)
	q.ready, q.proven, q.fresh = true, true, true
	s.follow(q, l)
	for range 2 {
		s.batch("a", 0, 5, 10)
	}
	sent := s.gatherAll(l)
	l.answered(sent[:1], &produce.Response{Topics: []produce.ResponseTopic{{Topic: "a", Partitions: []produce.ResponsePartition{{ErrorCode: 46, BaseOffset: -1}}}}}, nil)
	s.answer(l, sent[1], 0)
	if at, noted := s.fence.notes[place{"a", 0}]; noted {
		t.Errorf("with nothing stored, a restart begins at %d, behind the first batch", at)
	}
}
