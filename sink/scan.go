package sink

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go/protocol/metadata"
	"golang.org/x/sync/errgroup"

	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/sink/broker"
	"github.com/outrider-relay/outrider/sink/record"
	"github.com/outrider-relay/outrider/sink/route"
)

// scanned is a registered partition on its way through the scan.
type scanned struct {
	Registration
	next   int64 // offset to read on from
	marker int64 // offset of our own abort marker of this epoch; -1 until it is read
	end    bool  // the present round is over
	whole  bool  // and has read to the high watermark
	barred bool  // and may not be read
	ended  int64 // a leader's log ended below that offset, up to which this relay had written; 0: none did
	since  time.Time
	// reminded is when a renewal last read a marker of this session's there.
	reminded time.Time
	note     *note // where a restart may begin to scan once everything up to its number is stored
}

const (
	// fetchWait is how long a broker may wait for a marker that is still being written.
	fetchWait = 100 * time.Millisecond
	// fetchBytes bounds what one answer brings, of all partitions or of one; a larger batch comes alone.
	fetchBytes = 1 << 20
)

// markerPatience is how long a partition may stay without our marker before it is named. A constant, but for failpoint_on.go.
var markerPatience = 30 * time.Second

// scan fences every registered partition and reads what is in it from where it is registered to our marker. What it
// finds of ours is the tail: events that Kafka holds and the checkpoint does not know. It proves its own completeness: each
// offset in between is there, whoever wrote it.
func (f *fence) scan(ctx context.Context) (*tail, error) {
	s := &scan{fence: f, ids: make(map[int64]bool), tail: newTail(), prefix: []byte(f.k.cfg.Name + ":")}
	s.ids[f.k.producerID] = true
	for _, id := range f.ledger.Producers() {
		s.ids[id] = true
	}
	var left []*scanned
	f.ledger.EachPartition(func(topic string, partition int32, scanFrom int64, owned bool) {
		p := &scanned{Registration: Registration{topic, partition, scanFrom, owned}, next: scanFrom, marker: -1, since: time.Now()}
		left = append(left, p)
	})
	left, err := s.leaveForgotten(ctx, left)
	if err != nil {
		return nil, err
	}
	s.all = left
	began := time.Now()
	for len(left) > 0 {
		// The transaction is repeated as long as a marker is missing: its end is answered before the markers are written,
		// and a partition without a leader at that moment may never get one.
		if err := f.emptyTransaction(ctx, left, f.without); err != nil {
			return nil, err
		}
		left = reachable(left, f.without)
		if err := s.round(ctx, left); err != nil {
			return nil, s.judgeBeyond(err)
		}
		left = s.readable(left)
		if err := s.judgeMarkers(left); err != nil {
			return nil, err
		}
		left = s.unmarked(left)
		if len(left) > 0 {
			pause(ctx, min(max(metadataMinAge, time.Since(began)/20), time.Second)) // every round dials anew
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	if err := s.judgeBeyond(nil); err != nil {
		return nil, err
	}
	f.marked = s.all
	s.tail.sort()
	return s.tail, f.leaveOut(ctx, s.all)
}

// reachable leaves out partitions of topics that are unknown or forbidden.
func reachable(parts []*scanned, without map[string]int16) []*scanned {
	kept := parts[:0:0]
	for _, p := range parts {
		if _, gone := without[p.Topic]; !gone {
			kept = append(kept, p)
		}
	}
	return kept
}

// readable leaves out topics that the round could not read for want of the right to. The transaction has not missed it: to
// write is another right.
func (s *scan) readable(parts []*scanned) []*scanned {
	for _, p := range parts {
		if p.barred {
			s.without[p.Topic] = codeTopicForbidden
		}
	}
	return reachable(parts, s.without)
}

// scan is the work of one start.
type scan struct {
	*fence
	ids    map[int64]bool // producer ids of ours
	prefix []byte         // of our position headers
	all    []*scanned

	mu     sync.Mutex // held while a record set is read: leaders answer at the same time
	tail   *tail
	beyond *Verdict // on events that the database cannot have committed; nil: none were found

	// barren is the number of rounds in a row that found a high watermark everywhere and a marker nowhere, since when.
	barren      int
	barrenSince time.Time
}

// unmarked are the partitions whose marker has not been read, with those named that have been waiting for long.
func (s *scan) unmarked(parts []*scanned) []*scanned {
	left := parts[:0:0]
	for _, p := range parts {
		if p.marker >= 0 {
			continue
		}
		if p.whole && (planted("no fence") || planted("the answer to EndTxn is taken for the barrier")) {
			continue
		}
		left = append(left, p)
		if time.Since(p.since) > s.patience {
			s.k.setTrouble("fence", fmt.Sprintf("partition %s/%d has no marker of ours after %s (without a leader, it gets none); the start waits for it", p.Topic, p.Partition, s.patience))
		}
	}
	if len(left) == 0 {
		s.k.clearTrouble("fence")
	}
	return left
}

// barrenRounds is how many rounds without any marker, over as long as markerPatience, prove that the cluster writes none.
const barrenRounds = 10

// judgeMarkers refuses a cluster that ends transactions and never writes a marker: nothing there stops a predecessor. It
// must not misfire on one that is slow. There a transaction is not over before its markers are in the logs, and the next
// one, with which a round begins, is not let in; and a partition whose marker may be missing for want of a leader cannot be
// read to its high watermark.
func (s *scan) judgeMarkers(read []*scanned) error {
	barren := len(read) > 0
	for _, p := range s.all {
		barren = barren && p.marker < 0
	}
	for _, p := range read {
		barren = barren && p.whole
	}
	if !barren {
		s.barren = 0
		return nil
	}
	if s.barren++; s.barren == 1 {
		s.barrenSince = time.Now()
	}
	if s.barren <= barrenRounds || time.Since(s.barrenSince) < s.patience {
		return nil
	}
	return &permanent{fmt.Errorf("exactly-once is not to be had from this Kafka: it has ended %d transactions over %d partitions and written no marker of them into any log (none in %s/%d up to its end at offset %d, for one), so nothing there stops a relay that was replaced; set kafka.delivery: at-least-once",
		s.barren, len(read), read[0].Topic, read[0].Partition, read[0].next)}
}

// round reads each partition to its marker, or to its present end, from all leaders at once.
func (s *scan) round(ctx context.Context, parts []*scanned) error {
	topics := make(map[string]bool)
	for _, p := range parts {
		p.end, p.whole, p.barred = false, false, false
		topics[p.Topic] = true
	}
	names := make([]string, 0, len(topics))
	for name := range topics {
		names = append(names, name)
	}
	var cluster *metadata.Response
	err := s.k.onAnyBroker(ctx, broker.IsPermanent, func(conn *broker.Conn) (err error) {
		cluster, err = describe(ctx, conn, names)
		return err
	})
	if err != nil {
		return err
	}
	readers, readCtx := errgroup.WithContext(ctx)
	for addr, group := range byLeader(cluster, parts) {
		readers.Go(func() error { return s.readFrom(readCtx, addr, group) })
	}
	return readers.Wait()
}

// byLeader groups partitions by their leader's address; those without a leader wait for the next round.
func byLeader(cluster *metadata.Response, parts []*scanned) map[string][]*scanned {
	addrs := make(map[int32]string)
	for _, b := range cluster.Brokers {
		addrs[b.NodeID] = net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
	}
	leaders := make(map[place]string)
	for _, t := range cluster.Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode == 0 {
				leaders[place{t.Name, p.PartitionIndex}] = addrs[p.LeaderID]
			}
		}
	}
	groups := make(map[string][]*scanned)
	for _, p := range parts {
		if addr := leaders[place{p.Topic, p.Partition}]; addr != "" {
			groups[addr] = append(groups[addr], p)
		}
	}
	return groups
}

// incomplete is the verdict on a log with a hole: what was in it cannot be known, except after a clean stop, when nothing was.
func (s *scan) incomplete(p *scanned, next int64) error {
	if s.ledger.Complete() {
		p.next = next
		return nil
	}
	return &Verdict{
		Name:   "tail incomplete",
		Reason: fmt.Sprintf("partition %s/%d no longer has its offsets %d to %d (compaction, retention or DeleteRecords): what this relay had published there after its checkpoint cannot be known", p.Topic, p.Partition, p.next, next-1),
		Advice: "Publish what was not found again", Option: "accept-repeats",
	}
}

// lostData is the verdict on a partition of which something that we had written is gone.
func lostData(p Registration, how string) error {
	return &Verdict{
		Name:   "kafka lost data",
		Reason: fmt.Sprintf("partition %s/%d: %s: the topic was deleted and made anew, or its log was truncated", p.Topic, p.Partition, how),
		Advice: "What consumers have not read of it is gone from Kafka: publish it again from the table, and go on", Option: "accept-loss",
	}
}

// takeAll reads the batches of a record set, up to our marker. It tells whether there was any.
func (s *scan) takeAll(p *scanned, set []byte) (some bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p.marker < 0 {
		b, rest, ok, err := record.Next(set)
		if err != nil {
			return some, fmt.Errorf("scan %s/%d: %w", p.Topic, p.Partition, err)
		}
		if !ok {
			break
		}
		some, set = true, rest
		if err := s.take(p, &b); err != nil {
			return some, err
		}
	}
	return some, nil
}

// take reads one batch: each offset must be there, and what is ours goes into the tail. Our own marker of this epoch ends the
// partition's scan.
func (s *scan) take(p *scanned, b *record.Stored) error {
	if b.LastOffset < p.next {
		return nil // an answer begins with the segment's batch in which the offset lies, or before
	}
	if b.LastOffset >= p.ScanFrom { // as all of them are, but where a leader's log has ended below
		if err := s.above(p, b); err != nil {
			return err
		}
	}
	p.next = b.LastOffset + 1
	if b.Control && b.ProducerID == s.k.producerID && b.ProducerEpoch == s.k.epoch {
		p.marker = b.BaseOffset
		failpoint("marker read")
	}
	if 0 <= p.marker && p.marker < p.ended {
		return lostData(p.Registration, fmt.Sprintf("its log ended at offset %d or before, below %d, where this relay had written", p.marker, p.ended))
	}
	return nil
}

// above reads a batch from where the partition is registered on.
func (s *scan) above(p *scanned, b *record.Stored) error {
	if b.BaseOffset > max(p.next, p.ScanFrom) {
		if err := s.incomplete(p, b.BaseOffset); err != nil {
			return err
		}
	}
	if err := s.checkOwned(p, b); err != nil {
		return err
	}
	// Within a batch of somebody else, compaction takes nothing of ours.
	if b.Control || !s.ids[b.ProducerID] {
		return nil
	}
	return s.data(p, b)
}

// checkOwned refuses any other batch where one of ours began.
func (s *scan) checkOwned(p *scanned, b *record.Stored) error {
	if p.Owned && b.BaseOffset <= p.ScanFrom && (b.BaseOffset != p.ScanFrom || !s.ids[b.ProducerID]) {
		return lostData(p.Registration, fmt.Sprintf("at offset %d, where a batch of this relay began, lies another one", p.ScanFrom))
	}
	return nil
}

// data takes the records of a batch of ours.
func (s *scan) data(p *scanned, b *record.Stored) error {
	failpoint("batch scanned")
	var refused error
	err := b.Records(func(offset int64, rec record.Record) bool {
		if offset < p.next {
			return true // a batch comes whole, also when the offset asked for lies within
		}
		if offset > p.next {
			refused = s.incomplete(p, offset)
		}
		if refused == nil {
			p.next = offset + 1
			refused = s.found(p, offset, &rec)
		}
		return refused == nil
	})
	if err != nil {
		return fmt.Errorf("scan %s/%d: %w", p.Topic, p.Partition, err)
	}
	if refused == nil && p.next <= b.LastOffset {
		refused = s.incomplete(p, b.LastOffset+1)
	}
	return refused
}

// found takes a record that one of our sessions wrote.
func (s *scan) found(p *scanned, offset int64, rec *record.Record) error {
	var position, id []byte
	for _, h := range rec.Headers {
		switch string(h.Key) {
		case route.HeaderPosition:
			position = h.Value // the last one: the relay's own
		case route.HeaderID:
			if id == nil {
				id = route.PlainID(h.Value) // the first one
			}
		}
	}
	text, ok := bytes.CutPrefix(position, s.prefix)
	at, err := decoder.ParsePosition(string(text))
	if !ok || err != nil {
		return fmt.Errorf("scan %s/%d: a record of this relay at offset %d has no position of its own (%q)", p.Topic, p.Partition, offset, position)
	}
	above, possible := s.ledger.Above(at.Timeline, uint64(at.LSN))
	if !possible {
		s.impossible(at, fmt.Sprintf("partition %s/%d, offset %d", p.Topic, p.Partition, offset))
		return nil
	}
	if above && !s.tail.add(at, id) {
		s.k.cfg.Log.Warn().Stringer("position", at).Str("topic", p.Topic).Int32("partition", p.Partition).Int64("offset", offset).
			Msg("Kafka holds this event twice, as it does after repeats were accepted")
	}
	return nil
}
