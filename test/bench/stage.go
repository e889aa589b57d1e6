package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// stage is what one scene has for itself: a database with an outbox, and a number of partitions for each relay's topic.
type stage struct {
	bench      *bench
	name       string // of the database, and how names in it begin
	partitions int
	conn       *pgx.Conn
	kafka      *kgo.Client
	admin      *kadm.Client
	topics     []string
}

const (
	// aggregateType of every row.
	aggregateType = "order"
	// publication of public.outbox.
	publication = "bench"
)

func (b *bench) newStage(ctx context.Context, partitions int) (s *stage, err error) {
	b.stages++
	s = &stage{bench: b, name: fmt.Sprintf("bench%d", b.stages), partitions: partitions}
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
	for _, sql := range []string{
		`create table public.outbox (id uuid not null default gen_random_uuid() primary key, aggregate_type text not null,
			aggregate_id text not null, event_type text not null, payload jsonb, headers jsonb not null default '{}', created_at timestamptz not null default now())`,
		`create publication ` + publication + ` for table public.outbox with (publish = 'insert')`,
	} {
		if _, err = s.conn.Exec(ctx, sql); err != nil {
			return s, err
		}
	}
	if s.kafka, err = kgo.NewClient(kgo.SeedBrokers(b.kafka.Brokers()...)); err != nil {
		return s, err
	}
	s.admin = kadm.NewClient(s.kafka)
	return s, nil
}

// host is where the server is to be found over a transport.
func (s *stage) host(transport string) string {
	if transport == "unix" {
		return s.bench.pg.Dir
	}
	return "127.0.0.1"
}

// url is the database over a transport.
func (s *stage) url(transport string) string {
	if transport == "tcp" {
		return s.bench.pg.DatabaseURL(s.name)
	}
	return fmt.Sprintf("postgres://postgres@/%s?%s", s.name, url.Values{"host": {s.bench.pg.Dir}, "port": {strconv.Itoa(s.bench.pg.Port)}}.Encode())
}

// createSlot makes a slot that begins now.
func (s *stage) createSlot(ctx context.Context, slot string) error {
	_, err := s.conn.Exec(ctx, `select pg_create_logical_replication_slot($1, 'pgoutput')`, slot)
	return err
}

// walsender is the process that serves a slot; 0 when none does.
func (s *stage) walsender(ctx context.Context, slot string) (pid int, err error) {
	err = s.conn.QueryRow(ctx, `select coalesce(max(active_pid), 0) from pg_replication_slots where slot_name = $1`, slot).Scan(&pid)
	return pid, err
}

// dropSlots drops those of the stage, which would hold back what the next scene writes.
func (s *stage) dropSlots(ctx context.Context) error {
	// A walsender may outlive its client by a moment.
	_, err := s.conn.Exec(ctx, `select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where database = current_database() and active`)
	if err != nil {
		return err
	}
	_, err = s.conn.Exec(ctx, `select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database()`)
	return err
}

// close drops what the next scene should not be slowed down by.
func (s *stage) close(ctx context.Context) error {
	var errs []error
	if s.conn != nil {
		errs = append(errs, s.dropSlots(ctx), s.conn.Close(ctx), s.dropDatabase(ctx))
	}
	if s.kafka != nil {
		for _, topic := range s.topics {
			_, err := s.admin.DeleteTopics(ctx, topic)
			errs = append(errs, err)
		}
		s.kafka.Close()
	}
	return errors.Join(errs...)
}

func (s *stage) dropDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.bench.pg.URL())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `drop database if exists `+s.name+` with (force)`)
	return errors.Join(err, conn.Close(ctx))
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
