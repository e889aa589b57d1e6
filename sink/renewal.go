package sink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/outrider-relay/outrider/sink/broker"
)

// renewInterval is Config.RenewInterval where that is zero: a quarter of the day for which brokers remember a producer
// without a batch or marker (producer.id.expiration.ms). A constant, but for failpoint_on.go.
var renewInterval = 6 * time.Hour

// keepAlive repeats the empty transaction, so that the coordinator and the leaders go on to know this producer: what they
// have forgotten they do not fence. A leader that cannot do so while they still remember ends its session.
func (f *fence) keepAlive(ctx context.Context) error {
	tick := time.NewTicker(min(f.k.cfg.RenewInterval, f.expiry.least()/4))
	defer tick.Stop()
	renewed := time.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		began := time.Now()
		bounded, cancel := context.WithDeadline(ctx, renewed.Add(f.expiry.least()/2))
		err := f.renew(bounded)
		late := errors.Is(bounded.Err(), context.DeadlineExceeded)
		cancel()
		if err != nil && late && ctx.Err() == nil {
			return fmt.Errorf("for %s the transaction that keeps brokers from forgetting this producer could not be repeated, and they may do so after %s; the session starts over: %w",
				f.expiry.least()/2, f.expiry.least(), err)
		}
		if err != nil {
			return err
		}
		renewed = began
	}
}

// renew repeats the empty transaction over every registered partition, and lets idle ones be scanned from its marker on:
// retention may take what lies before it.
func (f *fence) renew(ctx context.Context) error {
	failpoint("renewal begins")
	all, idle := f.everything()
	ends := f.idleEnds(ctx, idle)
	without := maps.Clone(f.without) // a topic that is forbidden just now is tried again with the next renewal
	if err := f.emptyTransaction(ctx, all, without); err != nil {
		return err
	}
	if err := f.findMarkers(ctx, reachable(ends, without)); err != nil {
		return err
	}
	failpoint("renewed")
	return nil
}

// everything is every registered partition, and those of them that have nothing to be acked.
func (f *fence) everything() (all, idle []*scanned) {
	f.k.mu.Lock()
	defer f.k.mu.Unlock()
	for at, p := range f.registered {
		all = append(all, p)
		t := f.k.topics[at.topic]
		if t == nil || int(at.partition) >= len(t.queues) || t.queues[at.partition].empty() {
			idle = append(idle, &scanned{Registration: Registration{Topic: at.topic, Partition: at.partition}, marker: -1, since: time.Now()})
		}
	}
	return all, idle
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

// markerRounds is how often a renewal looks for its markers. One that is not found is left for the next renewal.
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
			// While the tail is not empty, events above the checkpoint may lie anywhere in the log.
			if known := f.registered[place{p.Topic, p.Partition}]; p.marker >= 0 && f.k.tail == nil && known != nil {
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
