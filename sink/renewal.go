package sink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/outrider-relay/outrider/sink/broker"
)

// renewInterval is Config.RenewInterval where that is zero: a quarter of the day for which brokers remember a producer
// without a batch or marker (producer.id.expiration.ms). A constant, but for failpoint_on.go.
var renewInterval = 6 * time.Hour

// keepAlive repeats the empty transaction, so that the coordinator and the leaders go on to know this producer: what they
// have forgotten they do not fence. A leader that cannot do so while they still remember ends its session.
func (f *fence) keepAlive(ctx context.Context) error {
	tick := time.NewTicker(min(f.k.cfg.RenewInterval, f.k.expiry.least()/4))
	defer tick.Stop()
	renewed := time.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		began := time.Now()
		bounded, cancel := context.WithDeadline(ctx, renewed.Add(f.k.expiry.least()/2))
		err := f.renew(bounded)
		late := errors.Is(bounded.Err(), context.DeadlineExceeded)
		cancel()
		if err != nil && late && ctx.Err() == nil {
			return fmt.Errorf("for %s the transaction that keeps brokers from forgetting this producer could not be repeated, and they may do so after %s; the session starts over: %w",
				f.k.expiry.least()/2, f.k.expiry.least(), err)
		}
		if err != nil {
			return err
		}
		renewed = began
	}
}

// renew repeats the empty transaction over every registered partition until each of them is known to have been reminded, and
// lets idle ones be scanned from its marker on: retention may take what lies before it.
func (f *fence) renew(ctx context.Context) error {
	failpoint("renewal begins")
	began := time.Now()
	pace := backoff.ExponentialBackOff{InitialInterval: metadataMinAge, RandomizationFactor: 0.5, Multiplier: 1.5, MaxInterval: 10 * time.Second}
	left := f.everything()
	for {
		ends := f.idleEnds(ctx, f.idle(left))
		without := maps.Clone(f.without) // a topic that is forbidden just now is tried again with the next renewal
		if err := f.emptyTransaction(ctx, left, without); err != nil {
			return err
		}
		if err := f.findMarkers(ctx, reachable(ends, without)); err != nil {
			return err
		}
		if left = f.unreminded(reachable(left, without), began); len(left) == 0 {
			break
		}
		waits := fmt.Sprintf("partition %s/%d has had no marker of ours, and no ack, since %s (without a leader, it gets none)", left[0].Topic, left[0].Partition, began.UTC().Format(time.RFC3339))
		if time.Since(began) > f.patience {
			f.k.setTrouble("renewal", waits+"; retried")
		}
		pause(ctx, pace.NextBackOff())
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s: %w", waits, err)
		}
	}
	f.k.clearTrouble("renewal")
	failpoint("renewed")
	return nil
}

// everything is every registered partition.
func (f *fence) everything() []*scanned {
	f.k.mu.Lock()
	defer f.k.mu.Unlock()
	return slices.Collect(maps.Values(f.registered))
}

// queueOf is a partition's queue; nil where no row has been for its topic. Kafka.mu is held.
func (f *fence) queueOf(p *scanned) *queue {
	if t := f.k.topics[p.Topic]; t != nil && int(p.Partition) < len(t.queues) {
		return t.queues[p.Partition]
	}
	return nil
}

// idle are those of the partitions that have nothing to be acked, to be read up to a marker.
func (f *fence) idle(parts []*scanned) (idle []*scanned) {
	f.k.mu.Lock()
	defer f.k.mu.Unlock()
	for _, p := range parts {
		if q := f.queueOf(p); q == nil || q.empty() {
			idle = append(idle, &scanned{Registration: Registration{Topic: p.Topic, Partition: p.Partition}, marker: -1, since: time.Now()})
		}
	}
	return idle
}

// unreminded are those of the partitions whose leader may not have heard of this producer since: no marker of ours was read
// there, and no batch was acked. A transaction that has ended proves nothing: a partition without a leader gets no marker.
func (f *fence) unreminded(parts []*scanned, since time.Time) (left []*scanned) {
	f.k.mu.Lock()
	defer f.k.mu.Unlock()
	for _, p := range parts {
		if q := f.queueOf(p); p.reminded.Before(since) && (q == nil || q.ackedAt.Before(since)) {
			left = append(left, p)
		}
	}
	return left
}

// idleEnds are the partitions whose present end is known: the marker will lie there, or after it.
func (f *fence) idleEnds(ctx context.Context, parts []*scanned) (known []*scanned) {
	cluster, err := f.describe(ctx, parts)
	if err != nil {
		return nil // the renewal itself is what matters, and says what is wrong
	}
	for addr, group := range byLeader(cluster, parts) {
		conn, err := broker.Dial(ctx, addr, &f.k.cfg.Conn)
		if err != nil {
			continue
		}
		for _, p := range group {
			if p.next, err = offsetOf(ctx, conn, p.Topic, p.Partition, -1); err == nil {
				known = append(known, p)
			}
		}
		_ = conn.Close()
	}
	return known
}

// markerRounds is how often a renewal looks for its markers before it asks for them again.
const markerRounds = 5

// findMarkers reads idle partitions up to the marker that has just been asked for. A batch of this session that is sent
// from now on lies above it.
func (f *fence) findMarkers(ctx context.Context, parts []*scanned) error {
	s := &scan{fence: f, ids: make(map[int64]bool), tail: newTail()} // no record is of interest
	for range markerRounds {
		parts = slices.DeleteFunc(parts, func(p *scanned) bool { return p.marker >= 0 })
		if len(parts) == 0 {
			return nil
		}
		if err := s.round(ctx, parts); err != nil {
			// The log was cut there just now: nothing that a running session needs.
			f.k.cfg.Log.Debug().Err(err).Msg("markers of a renewal")
			return ctx.Err()
		}
		f.k.mu.Lock()
		for _, p := range parts {
			known := f.registered[place{p.Topic, p.Partition}]
			if p.marker < 0 || known == nil {
				continue
			}
			known.reminded = time.Now()
			if f.k.tail == nil { // else events above the checkpoint may lie anywhere in the log
				known.note = &note{f.k.next, p.marker}
			}
		}
		f.collect()
		f.k.mu.Unlock()
		pause(ctx, metadataMinAge)
	}
	return ctx.Err()
}

// describe asks where the partitions are, once.
func (f *fence) describe(ctx context.Context, parts []*scanned) (cluster *metadata.Response, err error) {
	var topics []string
	for _, p := range parts {
		if !slices.Contains(topics, p.Topic) {
			topics = append(topics, p.Topic)
		}
	}
	err = f.k.onAnyBroker(ctx, func(error) bool { return false }, func(conn *broker.Conn) (err error) {
		cluster, err = describe(ctx, conn, topics)
		return err
	})
	return cluster, err
}
