package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outrider-relay/outrider/test/harness"
)

// checker compares what comes out of Kafka with the journal, record by record. Its state belongs to the journal's mutex.
type checker struct {
	relay        string // its name
	seed         uint64
	journal      *journal
	tally        *tally
	availability *availability

	last   map[lane]uint32    // version of an aggregate in a partition
	grown  map[string]int     // how often a topic has got a partition more
	newest [aggregates]uint32 // version in its topic
	gaps   []gap              // below newest, for the next look at the topics
	next   map[int16]int64    // offset after the last one read, by place
	digest map[int16]digest   // of what was read
	from   map[int16]int64    // where digest begins, by place
	low    int                // every transaction before it is complete
}

// lane is an aggregate in a partition.
type lane struct {
	aggregate uint8
	place     int16
}

// digest sums up records, whatever their order.
type digest struct {
	records int64
	sum     uint64
}

func (d digest) with(r *kgo.Record) digest {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d %s", r.Offset, harness.Header(r, "id")) // a hash takes everything
	return digest{d.records + 1, d.sum + h.Sum64()}
}

func newChecker(s *stage) *checker {
	return &checker{
		relay: relayName, seed: s.plan.Seed, journal: s.journal, tally: s.tally, availability: s.availability,
		last: make(map[lane]uint32), grown: make(map[string]int), next: make(map[int16]int64), digest: make(map[int16]digest), from: make(map[int16]int64),
	}
}

func topics() []string {
	all := []string{deadLetters}
	for _, k := range kinds {
		all = append(all, topicPrefix+k)
	}
	return all
}

// read follows all topics, uncommitted records included, until ctx ends.
func (c *checker) read(ctx context.Context, brokers []string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topics()...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadUncommitted()), kgo.KeepControlRecords(), kgo.MetadataMinAge(100*time.Millisecond), kgo.MetadataMaxAge(time.Second),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }), kgo.FetchMaxWait(200*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	for ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(c.take)
	}
	return nil
}

// take checks a record.
func (c *checker) take(r *kgo.Record) {
	j := c.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	at := j.places.of(r.Topic, r.Partition)
	if r.Offset < c.next[at] {
		return // read again: the client has started over
	}
	c.next[at] = r.Offset + 1
	if r.Attrs.IsControl() {
		return
	}
	c.digest[at] = c.digest[at].with(r)
	c.availability.delivered()
	here := fmt.Sprintf("  record   %s/%d@%d, position %s", r.Topic, r.Partition, r.Offset, harness.Header(r, "outrider-position"))
	id, err := parseEventID(harness.Header(r, "id"))
	tx, row := j.find(id)
	if err != nil || tx == nil {
		c.tally.violate(invented, "nobody has written event %q\n%s", harness.Header(r, "id"), here)
		return
	}
	fault := func(kind, format string, args ...any) {
		c.tally.violate(kind, "%s\n%s\n%s", fmt.Sprintf(format, args...), j.describe(tx, id.row), here)
	}
	if row.copies < 255 {
		row.copies++
	}
	switch {
	case tx.outcome == aborted, tx.outcome == forgotten, row.fate == undone:
		fault(invented, "the event was rolled back, or is gone")
		return
	case row.copies > 1 && j.mayRepeat(tx, row):
		row.pardoned = true
		return
	case row.copies > 1:
		fault(repeatedEvent, "the event is there again")
		return
	}
	row.place, row.offset = at, r.Offset
	if err := c.content(r, id, row); err != nil {
		fault(altered, "%v", err)
	}
	if err := c.position(r, tx, row); err != nil {
		fault(misplaced, "%v", err)
	}
	c.order(r, row, fault)
	c.follow(r, row, here)
}

// content compares a record with what was written.
func (c *checker) content(r *kgo.Record, id eventID, row *row) error {
	e := newEvent(id, int(row.aggregate), row.version, "")
	version := harness.Header(r, "version")
	switch {
	case r.Topic == deadLetters && row.fate == live:
		return fmt.Errorf("it is a dead letter, for the reason %q", harness.Header(r, "outrider-reason"))
	case r.Topic != deadLetters && (row.fate == letter || row.fate == stray):
		return errors.New("it is no dead letter")
	case r.Topic != deadLetters && r.Topic != topicPrefix+e.kind:
		return fmt.Errorf("its topic is not %s%s", topicPrefix, e.kind)
	case string(r.Key) != e.key:
		return fmt.Errorf("its key is %q, not %q", r.Key, e.key)
	case version != fmt.Sprint(row.version):
		return fmt.Errorf("its version is %s, not %d", version, row.version)
	case harness.Header(r, "event_type") != eventType:
		return fmt.Errorf("its event type is %q", harness.Header(r, "event_type"))
	case harness.Header(r, "outrider-truncated") != "":
		return nil // then its sum cannot be right
	case harness.Header(r, "sum") != checksum(c.seed, id.String(), string(r.Key), version, string(r.Value)):
		return fmt.Errorf("its checksum is wrong: the value begins with %.60q", r.Value)
	}
	return nil
}

// position compares what a record says about its place in the log with what its transaction's other records say, and what
// the witness does. Either may come first.
func (c *checker) position(r *kgo.Record, tx *transaction, row *row) error {
	told, ordinal, err := parsePosition(c.relay, harness.Header(r, "outrider-position"))
	switch {
	case err != nil:
		return err
	case tx.told != position{} && tx.told != told:
		return fmt.Errorf("its position is of the commit %s, that of others of its transaction %s", told, tx.told)
	case tx.witnessed && told != tx.at:
		return fmt.Errorf("its position is of the commit %s, and it was %s", told, tx.at)
	case row.ordinal >= 0 && ordinal != row.ordinal:
		return fmt.Errorf("its position has ordinal %d, and it is %d", ordinal, row.ordinal)
	}
	tx.told, row.ordinal = told, ordinal
	return nil
}

// parsePosition reads relay:timeline:LSN:ordinal.
func parsePosition(relay, text string) (at position, ordinal int32, err error) {
	parts := strings.Split(text, ":")
	if len(parts) != 4 || parts[0] != relay {
		return at, 0, fmt.Errorf("%q is no position of relay %s", text, relay)
	}
	timeline, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil {
		return at, 0, err
	}
	lsn, err := pglogrepl.ParseLSN(parts[2])
	if err != nil {
		return at, 0, err
	}
	n, err := strconv.ParseInt(parts[3], 10, 32)
	return position{uint32(timeline), lsn}, int32(n), err
}

// order wants the versions of an aggregate to rise within a partition.
func (c *checker) order(r *kgo.Record, row *row, fault func(string, string, ...any)) {
	if r.Topic == deadLetters {
		return // a dead letter's place is another topic's
	}
	l := lane{row.aggregate, row.place}
	last := c.last[l]
	if row.version <= last {
		fault(misordered, "version %d comes after version %d", row.version, last)
	}
	c.last[l] = max(last, row.version)
}
