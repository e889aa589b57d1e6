package sink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outrider-relay/outrider/decoder"
)

const ourID, ourOldID, otherID = 7, 6, 99

// newScan is one in epoch 3 of producer 7, which was producer 6 before.
func newScan(m *memory, l *logs) *scan {
	k := &Kafka{cfg: Config{Name: "test", Log: zerolog.New(l)}, producerID: ourID, epoch: 3}
	return &scan{fence: newFence(k, m), ids: map[int64]bool{ourID: true, ourOldID: true}, tail: newTail(), prefix: []byte("test:")}
}

// records is a batch in a log whose records have these position headers; one that is empty is left out. A record that is
// "gone" has been taken by compaction.
func records(base, producer int64, positions ...string) []byte {
	var all []kmsg.Record
	for i, position := range positions {
		rec := kmsg.Record{OffsetDelta: int32(i), Headers: []kmsg.Header{{Key: "id", Value: fmt.Append(nil, "id of ", position)}}}
		if position != "" {
			rec.Headers = append(rec.Headers, kmsg.Header{Key: "outrider-position", Value: []byte(position)})
		}
		if position != gone {
			all = append(all, rec)
		}
	}
	return logged(kmsg.RecordBatch{FirstOffset: base, ProducerID: producer, ProducerEpoch: 2, LastOffsetDelta: int32(len(positions)) - 1}, all...)
}

const gone = "gone"

func marker(base, producer int64, epoch int16) []byte {
	return logged(kmsg.RecordBatch{FirstOffset: base, ProducerID: producer, ProducerEpoch: epoch, Attributes: 0x30}, kmsg.Record{Key: make([]byte, 4), Value: make([]byte, 6)})
}

// logged is a batch as a broker sends it, by another encoder than ours.
func logged(b kmsg.RecordBatch, all ...kmsg.Record) []byte {
	for _, rec := range all {
		rec.Length = int32(len(rec.AppendTo(nil)) - 1) // its own length 0 takes a byte
		b.Records = rec.AppendTo(b.Records)
	}
	b.Magic, b.NumRecords = 2, int32(len(all))
	const lengthEnd, crcAt, crcEnd = 12, 17, 21
	b.Length = int32(len(b.AppendTo(nil)) - lengthEnd)
	wire := b.AppendTo(nil)
	binary.BigEndian.PutUint32(wire[crcAt:], crc32.Checksum(wire[crcEnd:], crc32.MakeTable(crc32.Castagnoli)))
	return wire
}

func at(lsn, ordinal uint64) string { return fmt.Sprintf("test:1:0/%X:%d", lsn, ordinal) }

// What is said of a log, batch by batch. The checkpoint is 100, WAL ends at 1000.
func TestScanJudgesWhatItReads(t *testing.T) {
	type log [][]byte
	owned := Registration{Topic: "a", ScanFrom: 10, Owned: true}
	for name, tc := range map[string]struct {
		from  Registration
		clean bool // the session before stopped with an empty tail
		log   log
		says  string // the error; empty: none
		tail  int    // events of ours above the checkpoint
	}{
		"ours":                         {from: owned, log: log{records(10, ourID, at(100, 0), at(100, 1)), records(12, ourOldID, at(200, 0))}, tail: 3},
		"ours below the checkpoint":    {from: owned, log: log{records(10, ourID, at(99, 0), at(100, 0))}, tail: 1},
		"others' in between":           {from: owned, log: log{records(10, ourID, at(100, 0)), records(11, otherID, "", at(500, 0)), marker(13, otherID, 3), records(14, ourID, at(100, 1))}, tail: 2},
		"an offset within a batch":     {from: Registration{Topic: "a", ScanFrom: 11}, log: log{records(10, ourID, at(100, 0), at(100, 1))}, tail: 1},
		"a hole between batches":       {from: owned, log: log{records(10, ourID, at(100, 0)), records(12, ourID, at(100, 1))}, says: "tail incomplete: partition a/0 no longer has its offsets 11 to 11"},
		"a hole within a batch":        {from: owned, log: log{records(10, ourID, at(100, 0), gone, at(100, 2))}, says: "tail incomplete: partition a/0 no longer has its offsets 11 to 11"},
		"a hole at its end":            {from: owned, log: log{records(10, ourID, at(100, 0), gone)}, says: "tail incomplete: partition a/0 no longer has its offsets 11 to 11"},
		"a hole within another's":      {from: owned, log: log{records(10, ourID, at(100, 0)), records(11, otherID, "", gone, ""), records(14, ourID, at(100, 1))}, tail: 2},
		"a batch before the offset":    {from: owned, log: log{records(8, otherID, "", ""), records(10, ourID, at(100, 0))}, tail: 1},
		"a hole before a marker":       {from: owned, log: log{marker(12, ourID, 3)}, says: "tail incomplete: partition a/0 no longer has its offsets 10 to 11"},
		"a hole after a clean stop":    {from: owned, clean: true, log: log{records(10, ourID, at(100, 0), gone, at(100, 2)), records(20, ourID, at(100, 3))}, tail: 3},
		"another's where ours was":     {from: owned, log: log{records(10, otherID, "")}, says: "kafka lost data: partition a/0: at offset 10"},
		"another's marker there":       {from: owned, log: log{marker(10, otherID, 3)}, says: "kafka lost data: partition a/0: at offset 10"},
		"another's across it":          {from: owned, log: log{records(9, otherID, "", "", "")}, says: "kafka lost data: partition a/0: at offset 10"},
		"ours across it":               {from: owned, log: log{records(9, ourID, at(100, 0), at(100, 1))}, says: "kafka lost data: partition a/0: at offset 10"},
		"another's, owned by nobody":   {from: Registration{Topic: "a", ScanFrom: 10}, log: log{records(10, otherID, "")}},
		"no position":                  {from: owned, log: log{records(10, ourID, "")}, says: "has no position of its own"},
		"no position to be read":       {from: owned, log: log{records(10, ourID, "test:what")}, says: "has no position of its own"},
		"another relay's position":     {from: owned, log: log{records(10, ourID, "tests:1:0/64:0")}, says: "has no position of its own"},
		"beyond the end of WAL":        {from: owned, log: log{records(10, ourID, at(1000, 0))}, says: "diverged: Kafka holds an event at position 1:0/3E8:0"},
		"several beyond it":            {from: owned, log: log{records(10, ourID, at(1000, 0), at(100, 0)), records(12, ourID, at(1000, 1))}, says: "or on a timeline that was left before; and 1 more like it"},
		"on a timeline that was left":  {from: owned, log: log{records(10, ourID, "test:2:0/64:0")}, says: "diverged: Kafka holds an event at position 2:0/64:0"},
		"an event twice":               {from: owned, log: log{records(10, ourID, at(100, 0), at(100, 0))}, tail: 1},
		"a batch of an ancient format": {from: owned, log: log{make([]byte, 100)}, says: "a format before version 2"},
	} {
		m, said := newMemory(), &logs{}
		m.complete = tc.clean
		s := newScan(m, said)
		p := &scanned{Registration: tc.from, next: tc.from.ScanFrom, marker: -1}
		var err error
		for _, b := range tc.log {
			if _, err = s.takeAll(p, b); err != nil {
				break
			}
		}
		if err = s.judgeBeyond(err); (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, not %q", name, err, tc.says)
		}
		left := 0
		for _, tx := range s.tail.transactions {
			left += tx.left
		}
		if err == nil && left != tc.tail {
			t.Errorf("%s: %d events in the tail, not %d", name, left, tc.tail)
		}
		if twice := len(said.with("holds this event twice")); (twice == 1) != (name == "an event twice") {
			t.Errorf("%s: said to be there twice %d times", name, twice)
		}
	}
}

// A marker proves that this session's epoch has reached the partition's leader; no other does.
func TestOnlyTheMarkerOfThisEpochEndsTheScan(t *testing.T) {
	s := newScan(newMemory(), &logs{})
	p := &scanned{Registration: Registration{Topic: "a"}, marker: -1}
	for base, b := range [][]byte{marker(0, ourID, 2), marker(1, otherID, 3), marker(2, ourOldID, 3), marker(3, ourID, 3)} {
		if p.marker >= 0 {
			t.Fatalf("the marker at %d, before %d, has ended the scan", p.marker, base)
		}
		if _, err := s.takeAll(p, b); err != nil {
			t.Fatal(err)
		}
	}
	if p.marker != 3 || p.next != 4 {
		t.Errorf("marker at %d, next offset %d", p.marker, p.next)
	}
}

// restart ends s and begins the next session of its relay.
func (s *session) restart(change ...func(*Config)) *session {
	s.t.Helper()
	s.end()
	next := newSession(s.t, s.c, change...)
	next.sent = s.sent
	next.run()
	return next
}

func TestRestartSkipsExactlyWhatKafkaHolds(t *testing.T) {
	c, m := newCluster(t, kfake.SeedTopics(2, "a")), newMemory()
	s := startSession(t, c, exactlyOnce(m))
	for i := range 100 {
		s.append("a", int32(i%2), 10)
	}
	s.drain()
	// 20 more arrive in one partition alone; then the relay dies, with nothing stored.
	sent := s.restart(exactlyOnce(m))
	if sent.Met() {
		t.Error("a stop now would count as clean, and Kafka holds 100 events above the checkpoint")
	}
	for i := range uint64(120) {
		shard := int32(i % 2)
		if i >= 100 {
			shard = 1
		}
		sent.Begin()
		taken, err := sent.Append(sent.row("a", shard, 10), i)
		sent.End()
		if err != nil || taken != (i >= 100) {
			t.Fatalf("event %d: taken %v, %v", i, taken, err)
		}
		if taken {
			sent.sent["a"][shard] = append(sent.sent["a"][shard], i)
		}
		sent.next++
	}
	sent.Begin()
	err := sent.Passed(decoder.Position{Timeline: 1, LSN: 100}, sent.next)
	sent.End()
	if err != nil || !sent.Met() {
		t.Errorf("at the commit: %v, tail %v", err, sent.tail)
	}
	sent.drain()
	sent.checkDelivered("a")
}

func TestScanReadsABatchLargerThanItAsksFor(t *testing.T) {
	large := "8000000"
	c, m := newCluster(t, kfake.SeedTopics(1, "b")), newMemory()
	if err := c.CreateTopic("a", 1, map[string]string{"max.message.bytes": large}); err != nil {
		t.Fatal(err)
	}
	s := startSession(t, c, exactlyOnce(m), func(cfg *Config) { cfg.MaxInFlightBytes = 64 << 20 })
	for _, size := range []int{10, fetchBytes + fetchBytes/4, 10} {
		s.append("a", 0, size)
	}
	s.drain()
	s = s.restart(exactlyOnce(m))
	if n := s.tail.transactions[transaction{1, 100}].left; n != 3 {
		t.Errorf("%d of 3 events are in the tail", n)
	}
}

// What the log itself says to a scan that begins where it does not.
func TestScanTellsALogThatWasCutFromOneThatLostItsEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		from  int64
		clean bool
		says  string
	}{
		"begins later":                     {2, false, "tail incomplete: partition a/0 no longer has its offsets 2 to 5"},
		"begins later, after a clean stop": {2, true, ""},
		"ends before":                      {1000, false, "kafka lost data: partition a/0: its log ended at offset"},
		"is whole":                         {7, false, ""},
	} {
		c, m := newCluster(t, kfake.SeedTopics(1, "a")), newMemory()
		filler := startSession(t, c)
		for range 10 {
			filler.append("a", 0, 10)
			filler.until("it is acked", func() bool { return filler.records == 0 })
		}
		filler.end()
		if err := c.DeleteRecords("a", 0, 6); err != nil {
			t.Fatal(err)
		}
		m.register("a", 0, tc.from, false)
		m.complete = tc.clean
		_, err := tryStart(t, c, exactlyOnce(m))
		var judged *Verdict
		if (err == nil) != (tc.says == "") || err != nil && (!errors.As(err, &judged) || !strings.Contains(err.Error(), tc.says)) {
			t.Errorf("a log that %s: %v, not %q", name, err, tc.says)
		}
	}
}

// A leader that was deposed without hearing of it has less of the log than its successor, where the marker lies.
func TestDeposedLeaderHasLostNothing(t *testing.T) {
	c, m := newCluster(t, kfake.SeedTopics(1, "a")), newMemory()
	s := startSession(t, c, exactlyOnce(m))
	for range 3 {
		s.append("a", 0, 10)
		s.until("it is acked", func() bool { return s.records == 0 })
	}
	s.end()
	m.register("a", 0, 2, true)
	fetched := c.answerFirst(kmsg.Fetch, 1, func(req kmsg.Request) kmsg.Response {
		res := req.ResponseKind().(*kmsg.FetchResponse)
		res.Topics = []kmsg.FetchResponseTopic{{Topic: "a", Partitions: []kmsg.FetchResponseTopicPartition{{ErrorCode: codeOffsetOutOfRange}}}}
		return res
	})
	c.answerFirst(kmsg.ListOffsets, 2, func(req kmsg.Request) kmsg.Response { // the earliest, then the latest
		res := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		res.Topics = []kmsg.ListOffsetsResponseTopic{{Topic: "a", Partitions: []kmsg.ListOffsetsResponseTopicPartition{{Offset: 0}}}}
		return res
	})
	k, err := tryStart(t, c, exactlyOnce(m))
	if err != nil || fetched.Load() < 2 {
		t.Fatalf("after %d answers: %v", fetched.Load(), err)
	}
	if n := k.tail.transactions[transaction{1, 100}].left; n != 1 {
		t.Errorf("%d events are in the tail, not the one from the place of registration on", n)
	}
}
