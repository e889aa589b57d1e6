package main

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// owed counts the committed events that are not in Kafka, and gives the first of them.
func (c *checker) owed() (n int, first string) {
	j := c.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	complete := true
	for i := max(c.low, 1); i < len(j.transactions); i++ {
		tx := j.transactions[i]
		settled := tx.outcome != open && tx.outcome != unknown
		if tx.outcome == committed {
			for k := range tx.rows {
				if r := &tx.rows[k]; r.copies == 0 && r.fate != undone && !j.mayBeLost(tx) {
					if settled = false; n == 0 {
						first = j.describe(tx, uint32(k))
					}
					n++
				}
			}
		}
		if complete = complete && settled; complete {
			c.low = i
		}
	}
	return n, first
}

// finish is the last look, once everything had the time to arrive.
func (c *checker) finish(patience time.Duration) error {
	j := c.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	versions := make(map[uint8]map[uint32][]int16)
	for _, tx := range j.transactions[1:] {
		switch tx.outcome {
		case aborted, forgotten:
			c.tally.count(func(r *Report) { r.RolledBack++ })
			continue
		case open, unknown:
			return fmt.Errorf("transaction %d (%s) is %s at the end: %s", tx.number, tx.what, tx.outcome, tx.why)
		}
		c.tally.count(func(r *Report) { r.Transactions++ })
		for i := range tx.rows {
			c.account(tx, uint32(i), patience, versions)
		}
	}
	for a, seen := range versions {
		for v := uint32(1); v <= uint32(len(seen)); v++ {
			if len(seen[v]) != 1 {
				return fmt.Errorf("the writers have committed version %d of aggregate %d %d times", v, a, len(seen[v]))
			}
		}
		c.acrossPartitions(a, seen)
	}
	return nil
}

// account books a committed row, and in versions its place. j.mu is held.
func (c *checker) account(tx *transaction, index uint32, patience time.Duration, versions map[uint8]map[uint32][]int16) {
	j, r := c.journal, &tx.rows[index]
	if r.fate == undone {
		return
	}
	if versions[r.aggregate] == nil {
		versions[r.aggregate] = make(map[uint32][]int16)
	}
	versions[r.aggregate][r.version] = append(versions[r.aggregate][r.version], r.place)
	switch {
	case r.copies == 0 && j.mayBeLost(tx), r.pardoned:
		c.tally.count(func(rep *Report) { rep.Pardoned++ })
	case r.copies == 0:
		c.tally.violate(lostEvent, "a committed event has not come within %s of the end\n%s", patience, j.describe(tx, index))
	case j.places.names[r.place].topic == deadLetters:
		c.tally.count(func(rep *Report) { rep.Events++; rep.DeadLetters++ })
	default:
		c.tally.count(func(rep *Report) { rep.Events++ })
	}
}

// acrossPartitions looks at where the versions of an aggregate are, one after another: they go to another partition when their topic
// has grown, and at no other time. j.mu is held.
func (c *checker) acrossPartitions(aggregate uint8, versions map[uint32][]int16) {
	moves, last := 0, int16(nowhere)
	for v := uint32(1); v <= uint32(len(versions)); v++ {
		at := versions[v][0]
		if at == nowhere || c.journal.places.names[at].topic == deadLetters {
			continue
		}
		if last != nowhere && at != last {
			moves++
		}
		last = at
	}
	if topic := topicPrefix + kinds[int(aggregate)%len(kinds)]; moves > c.grown[topic] {
		c.tally.violate(misordered, "aggregate %d has moved %d times from one partition to another, and %s has grown %d times", aggregate, moves, topic, c.grown[topic])
	}
}

// forget has what a partition holds not count any more: it is about to be deleted. (A broker that is killed may show it again,
// since it notes where its logs begin only now and then.)
func (c *checker) forget(at place) (number int16) {
	c.journal.mu.Lock()
	defer c.journal.mu.Unlock()
	number = c.journal.places.of(at.topic, at.partition)
	c.digest[number], c.from[number] = digest{}, c.next[number]
	return number
}

// compareCommitted reads everything again, as a consumer that waits for the ends of transactions does: it must see the same.
func (c *checker) compareCommitted(ctx context.Context, brokers []string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topics()...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topics()...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return err
	}
	from := make(map[place]int64)
	c.journal.note(func() {
		for n, offset := range c.from {
			from[c.journal.places.names[n]] = offset
		}
	})
	left := make(map[place]int64)
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[place{o.Topic, o.Partition}] = o.Offset
		}
	})
	seen := make(map[place]digest)
	for len(left) > 0 && ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			at := place{r.Topic, r.Partition}
			if r.Offset >= left[at]-1 {
				delete(left, at)
			}
			if !r.Attrs.IsControl() && r.Offset >= from[at] {
				seen[at] = seen[at].with(r)
			}
		})
	}
	c.journal.mu.Lock()
	defer c.journal.mu.Unlock()
	once := make(map[place]digest)
	for n, d := range c.digest {
		if d.records > 0 {
			once[c.journal.places.names[n]] = d
		}
	}
	if !maps.Equal(once, seen) || len(left) > 0 {
		c.tally.violate(altered, "a consumer that reads only what is committed sees %v, and one that does not saw %v; not reached: %v", seen, once, left)
	}
	return nil
}
