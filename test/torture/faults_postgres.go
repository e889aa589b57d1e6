package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/test/harness"
)

// Faults of Postgres, and of what is in it.

// shutdownPatience is what a shutdown in order may take: a relay that answers is gone at once, and one that does not after
// wal_sender_timeout.
const shutdownPatience = 20 * time.Second

// hung books a shutdown that took too long.
func (s *stage) hung(how harness.Shutdown, took time.Duration) {
	what := "Postgres"
	if how == harness.Fast {
		what = "a fast shutdown of Postgres"
	}
	s.tally.violate(stuckRelay, "%s has not ended within %s\n%s\n%s", what, took.Round(time.Second), s.seats[0].describe(), s.seats[1].describe())
}

func restartPostgres(how harness.Shutdown) func(context.Context, *nemesis) error {
	return func(ctx context.Context, n *nemesis) error {
		primary, _ := n.database.now()
		if took, err := primary.Stop(how, shutdownPatience); err != nil {
			n.hung(how, took)
		}
		if how != harness.Fast {
			n.tally.count(func(r *Report) { r.Kills++ })
		}
		n.hold(0, 2*time.Second)
		return primary.Start(ctx)
	}
}

func killWalsender(ctx context.Context, n *nemesis) error {
	var pid int
	err := n.database.query(ctx, `select coalesce(max(active_pid), 0) from pg_replication_slots where slot_name = $1`, []any{slotName}, &pid)
	if err != nil || pid == 0 {
		return skip(fmt.Errorf("there is no walsender: %w", err))
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return skip(err)
	}
	n.tally.count(func(r *Report) { r.Kills++ })
	return await(ctx, time.Minute, func() error { return n.database.exec(ctx) }) // it recovers by itself
}

func promoteStandby(how harness.Shutdown) func(context.Context, *nemesis) error {
	return func(ctx context.Context, n *nemesis) error {
		if err := n.database.awaitCopies(ctx, 10*time.Second); err != nil {
			return skip(err)
		}
		if how != harness.Fast {
			n.tally.count(func(r *Report) { r.Kills++ })
		}
		return n.promote(ctx, how)
	}
}

func restartStandby(ctx context.Context, n *nemesis) error {
	_, standby := n.database.now()
	if _, err := standby.Stop(harness.Fast, shutdownPatience); err != nil {
		return err
	}
	n.hold(0, 2*time.Second)
	return standby.Start(ctx)
}

func cutStandby(_ context.Context, n *nemesis) error {
	n.database.link.Refuse()
	n.database.link.Cut()
	n.hold(100*time.Millisecond, 4*time.Second)
	n.database.link.Accept()
	return nil
}

func lockCheckpoint(ctx context.Context, n *nemesis) error {
	conn, err := pgx.Connect(ctx, n.database.url())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, statement := range []string{`begin`, `select from outrider.checkpoint for update`} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	n.hold(500*time.Millisecond, 6*time.Second)
	_, err = conn.Exec(ctx, `rollback`)
	return err
}

func impatientPostgres(ctx context.Context, n *nemesis) error {
	const renew = `select pg_terminate_backend(pid) from pg_stat_activity where usename = 'relay'`
	if err := n.database.exec(ctx, `alter role relay set wal_sender_timeout = '1s'`, renew); err != nil {
		return err
	}
	n.hold(2*time.Second, 6*time.Second)
	return n.database.exec(ctx, `alter role relay reset wal_sender_timeout`, renew)
}

func rotatePostgresPassword(ctx context.Context, n *nemesis) error {
	back := n.availability.take() // a relay that is cut off meanwhile cannot come back
	defer back()
	defer n.unfit()()
	next := n.nextSecret()
	if err := n.database.exec(ctx, `alter role relay password '`+next+`'`); err != nil {
		return err
	}
	if n.chance(2) {
		if err := terminateAll(ctx, n); err != nil {
			return err
		}
	}
	n.hold(0, 2*time.Second)
	return n.tell("postgres", next)
}

func alterTable(ctx context.Context, n *nemesis) error {
	if err := n.database.exec(ctx, `alter table public.outbox add column note text not null default 'none'`); err != nil {
		return err
	}
	n.hold(500*time.Millisecond, 4*time.Second)
	return n.database.exec(ctx, `alter table public.outbox drop column note`)
}

func alterPublication(ctx context.Context, n *nemesis) error {
	err := n.database.exec(ctx, `create table if not exists torture.other (n bigint primary key)`, `alter publication outrider add table torture.other`,
		`insert into torture.other select coalesce(max(n), 0) + i from torture.other, generate_series(1, 100) i group by i`)
	if err != nil {
		return err
	}
	n.hold(500*time.Millisecond, 3*time.Second)
	return n.database.exec(ctx, `alter publication outrider drop table torture.other`)
}

func rewriteTable(ctx context.Context, n *nemesis) error {
	return n.database.exec(ctx, `vacuum full public.outbox`)
}

func switchWAL(ctx context.Context, n *nemesis) error {
	return n.database.exec(ctx, `checkpoint`, `select pg_switch_wal()`)
}

// hugeRows are more than are in flight, or in one batch.
const hugeRows = 20_000

func hugeTransaction(ctx context.Context, n *nemesis) error {
	w := &writer{stage: n.stage, rng: n.rng}
	defer w.disconnect()
	_, err := w.transact(ctx, "huge", hugeRows)
	return err
}
