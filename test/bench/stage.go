package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// partitions of every topic.
const partitions = 6

// stage is what one measurement has for itself: a database with an outbox, a topic, and a name for its relay.
type stage struct {
	bench *bench
	name  string // of the relay, its database and its aggregate type
	conn  *pgx.Conn
	kafka *kgo.Client
	admin *kadm.Client

	delivery string // of the relay
}

func (b *bench) newStage(ctx context.Context, delivery string) (s *stage, err error) {
	b.runs++
	s = &stage{bench: b, name: fmt.Sprintf("bench%d", b.runs), delivery: delivery}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(context.WithoutCancel(ctx)))
		}
	}()
	if s.conn, err = pgx.Connect(ctx, b.pg.URL()); err != nil {
		return s, err
	}
	if _, err = s.conn.Exec(ctx, "create database "+s.name); err != nil {
		return s, err
	}
	if err = s.conn.Close(ctx); err != nil {
		return s, err
	}
	if s.conn, err = pgx.Connect(ctx, b.pg.DatabaseURL(s.name)); err != nil {
		return s, err
	}
	if _, err = s.conn.Exec(ctx, `create table public.outbox (id uuid not null default gen_random_uuid() primary key, aggregate_type text not null,
		aggregate_id text not null, event_type text not null, payload jsonb, headers jsonb not null default '{}', created_at timestamptz not null default now())`); err != nil {
		return s, err
	}
	if s.kafka, err = kgo.NewClient(kgo.SeedBrokers(b.kafka.Brokers()...)); err != nil {
		return s, err
	}
	s.admin = kadm.NewClient(s.kafka)
	return s, s.createTopic(ctx, s.topic())
}

// createTopic makes a topic and returns when its partitions have leaders: a client that asks before waits for seconds.
func (s *stage) createTopic(ctx context.Context, name string) error {
	made, err := s.admin.CreateTopic(ctx, partitions, 1, nil, name)
	if err == nil {
		err = made.Err
	}
	if err != nil {
		return err
	}
	return await(ctx, 30*time.Second, 20*time.Millisecond, func() error {
		ends, err := s.admin.ListEndOffsets(ctx, name)
		if err == nil {
			err = ends.Error()
		}
		return err
	})
}

func (s *stage) topic() string { return "outbox.event." + s.name }

// url is the database over the transport under measurement.
func (s *stage) url() string {
	if s.bench.transport == "tcp" {
		return s.bench.pg.DatabaseURL(s.name)
	}
	return fmt.Sprintf("postgres://postgres@/%s?%s", s.name, url.Values{"host": {s.bench.pg.Dir}, "port": {strconv.Itoa(s.bench.pg.Port)}}.Encode())
}

// startRelay starts the relay's binary.
func (s *stage) startRelay() (*harness.Relay, error) {
	return harness.RunRelay(harness.RelayOptions{Name: s.name, Postgres: s.url(), Kafka: s.bench.kafka.Brokers(), Config: "kafka: { delivery: " + s.delivery + " }\n"})
}

// startRelaying starts it and returns when it relays: its publication and slot are there.
func (s *stage) startRelaying(ctx context.Context) (*harness.Relay, error) {
	relay, err := s.startRelay()
	if err != nil {
		return nil, err
	}
	err = await(ctx, 30*time.Second, 20*time.Millisecond, func() error {
		st, err := relay.Status()
		if err == nil && st.State != cdc.Relaying {
			err = fmt.Errorf("the relay is %s (%s)", st.State, st.Reason)
		}
		return err
	})
	if err != nil {
		relay.Kill()
	}
	return relay, err
}

// stop ends a relay in order.
func stop(ctx context.Context, relay *harness.Relay) error {
	relay.Signal(syscall.SIGTERM)
	err := await(ctx, 40*time.Second, 5*time.Millisecond, func() error {
		if relay.Running() {
			return errors.New("the relay has been asked to stop and still runs")
		}
		return nil
	})
	relay.Kill()
	return err
}

// delivered is the number of records in the topic, markers included.
func (s *stage) delivered(ctx context.Context) (int64, error) {
	ends, err := s.admin.ListEndOffsets(ctx, s.topic())
	if err != nil {
		return 0, err
	}
	var sum int64
	ends.Each(func(o kadm.ListedOffset) { sum += max(0, o.Offset) })
	return sum, nil
}

// close drops what the next measurement should not be slowed down by.
func (s *stage) close(ctx context.Context) error {
	var errs []error
	if s.conn != nil {
		// A walsender may outlive its client by a moment.
		_, err := s.conn.Exec(ctx, `select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where database = current_database() and active`)
		errs = append(errs, err)
		_, err = s.conn.Exec(ctx, `select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database()`)
		errs = append(errs, err, s.conn.Close(ctx))
	}
	if s.kafka != nil {
		_, err := s.admin.DeleteTopics(ctx, s.topic())
		errs = append(errs, err)
		s.kafka.Close()
	}
	return errors.Join(errs...)
}

// await asks at a pace until check returns nil, and gives its last error when that takes longer than patience.
func await(ctx context.Context, patience, pace time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %s: %w", patience, err)
		case <-tick.C:
		}
	}
}
