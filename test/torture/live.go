package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
)

// The slot against Kafka, while everything runs: what the slot has let go of must be there already. That shows a confirmation
// that comes too early without any crash.

// liveEvery is the time between two looks.
const liveEvery = 500 * time.Millisecond

// snapshot is a look at the slot, and then at the ends of the topics.
type snapshot struct {
	confirmed pglogrepl.LSN
	ends      map[place]int64
	gaps      []gap // seen before
}

// live looks again and again until ctx ends.
func (s *stage) live(ctx context.Context) error {
	for ctx.Err() == nil {
		pause(ctx, liveEvery)
		if shot, err := s.look(ctx); err == nil {
			s.compare(ctx, shot)
		}
	}
	return nil
}

// look reads the slot first.
func (s *stage) look(ctx context.Context) (shot snapshot, err error) {
	shot.gaps = s.checker.takeGaps()
	defer func() {
		if err != nil {
			s.checker.keepGaps(shot.gaps)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.database.url())
	if err != nil {
		return shot, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var lsn string
	if err := conn.QueryRow(ctx, `select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1`, slotName).Scan(&lsn); err != nil {
		return shot, err
	}
	if shot.confirmed, err = pglogrepl.ParseLSN(lsn); err != nil {
		return shot, err
	}
	ends, err := s.cluster.admin.ListEndOffsets(ctx, topics()...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return shot, err
	}
	shot.ends = make(map[place]int64)
	ends.Each(func(o kadm.ListedOffset) { shot.ends[place{o.Topic, o.Partition}] = o.Offset })
	return shot, nil
}

// compare waits until the checker has read as far as the snapshot goes, and then looks at the events that the slot has let go of since
// the last comparison.
func (s *stage) compare(ctx context.Context, shot snapshot) {
	for s.checker.behind(shot) != nil || pglogrepl.LSN(s.witness.read.Load()) < shot.confirmed {
		if pause(ctx, 20*time.Millisecond); ctx.Err() != nil {
			return
		}
	}
	// A verdict may let the slot go further than Kafka: that is known when its fault has ended.
	s.verdicts.RLock()
	defer s.verdicts.RUnlock()
	j := s.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	for ; s.compared < len(j.witnessed) && j.witnessed[s.compared].end <= shot.confirmed; s.compared++ {
		tx := j.witnessed[s.compared]
		for i := range tx.rows {
			r := &tx.rows[i]
			if r.fate == undone || j.mayBeLost(tx) || r.copies > 0 && r.offset < shot.ends[j.places.names[r.place]] {
				continue
			}
			s.tally.violate(confirmedEarly, "the slot was confirmed up to %s, and only then came an event from below\n%s", shot.confirmed, j.describe(tx, uint32(i)))
			break // one of a transaction shows it
		}
	}
	s.checker.fill(shot)
	s.tally.count(func(r *Report) { r.LiveChecks++ })
}

// behind is nil when everything before the ends has been read.
func (c *checker) behind(shot snapshot) error {
	c.journal.mu.Lock()
	defer c.journal.mu.Unlock()
	for at, end := range shot.ends {
		if c.next[c.journal.places.of(at.topic, at.partition)] < end {
			return fmt.Errorf("the checker has read %s up to %d of %d", at, c.next[c.journal.places.of(at.topic, at.partition)], end)
		}
	}
	return nil
}
