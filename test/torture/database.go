package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/test/harness"
)

// failoverMajor is the first PostgreSQL whose standbys keep copies of their primary's logical slots.
const failoverMajor = 17

// database is the primary and its standby. Who is which changes.
type database struct {
	link *harness.Proxy // the standby's way to its primary

	mu               sync.Mutex
	primary, standby *harness.Postgres
	term             int // promotions so far
}

// startDatabase starts both servers.
func startDatabase(ctx context.Context) (d *database, err error) {
	d = &database{}
	// A password for the relay alone: everybody else is trusted.
	const hba = "local all all trust\nhost all,replication relay 127.0.0.1/32 scram-sha-256\nhost all,replication all 127.0.0.1/32 trust\n"
	d.primary, err = harness.StartPostgres(ctx, harness.PostgresOptions{HBA: hba, Settings: map[string]string{
		"wal_sender_timeout": walSenderTimeout, "max_connections": "100", "max_wal_size": "512MB", "deadlock_timeout": "100ms", "autovacuum_naptime": "5s",
	}})
	if err != nil {
		return d, err
	}
	if d.link, err = harness.StartProxy(d.primary.Addr()); err != nil {
		return d, err
	}
	d.standby, err = d.primary.StartStandby(ctx, d.link.Addr())
	return d, err
}

// walSenderTimeout is when a relay that has vanished is noticed.
const walSenderTimeout = "5s"

func (d *database) close() (err error) {
	if d.link != nil {
		d.link.Close()
	}
	for _, p := range []*harness.Postgres{d.standby, d.primary} {
		if p != nil {
			err = errors.Join(err, p.Close())
		}
	}
	return err
}

// now gives the servers as they are.
func (d *database) now() (primary, standby *harness.Postgres) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.primary, d.standby
}

// url is the present primary's.
func (d *database) url() string {
	primary, _ := d.now()
	return primary.URL()
}

// terms is the number of promotions so far.
func (d *database) terms() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.term
}

// exec runs statements on the primary, each for itself, by a connection of their own.
func (d *database) exec(ctx context.Context, statements ...string) error {
	return execOn(ctx, d.url(), statements...)
}

func execOn(ctx context.Context, url string, statements ...string) error {
	ctx, cancel := context.WithTimeout(ctx, statementPatience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// query reads one row from the primary.
func (d *database) query(ctx context.Context, sql string, args []any, into ...any) error {
	return queryOn(ctx, d.url(), sql, args, into...)
}

func queryOn(ctx context.Context, url, sql string, args []any, into ...any) error {
	ctx, cancel := context.WithTimeout(ctx, statementPatience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return conn.QueryRow(ctx, sql, args...).Scan(into...)
}

// createSlot makes a logical slot, which follows a promotion where the server can do that.
func (d *database) createSlot(ctx context.Context, conn *pgx.Conn, name string) error {
	primary, _ := d.now()
	sql := `select pg_create_logical_replication_slot($1, 'pgoutput', false, false, true)`
	if primary.Major < failoverMajor {
		sql = `select pg_create_logical_replication_slot($1, 'pgoutput')`
	}
	_, err := conn.Exec(ctx, sql, name)
	return err
}

// followSlots lets the standby keep copies of the slots, and has nothing told to their readers before the standby has it. It is
// asked for once the slots are there: a standby that finds none looks less and less often.
func (d *database) followSlots(ctx context.Context) error {
	primary, standby := d.now()
	if primary.Major < failoverMajor {
		return nil
	}
	err := execOn(ctx, standby.URL(), `alter system set sync_replication_slots = on`, `alter system reset synchronized_standby_slots`, `select pg_reload_conf()`)
	if err != nil {
		return err
	}
	return execOn(ctx, primary.URL(), `alter system set synchronized_standby_slots = 'standby'`, `select pg_reload_conf()`)
}

// awaitCopies waits until the standby has copies of the slots that outlive a promotion. A slot that stands still is not copied.
func (d *database) awaitCopies(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, standby := d.now()
	for {
		var copies int
		err := d.exec(ctx, `select pg_log_standby_snapshot()`)
		if err == nil {
			err = queryOn(ctx, standby.URL(), `select count(*) from pg_replication_slots where synced and not temporary and slot_name = any ($1)`, []any{[]string{slotName, witnessName}}, &copies)
		}
		if err == nil && copies == 2 {
			return nil
		}
		if pause(ctx, 200*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("the standby has copies of %d slots of 2: %w", copies, errors.Join(err, ctx.Err()))
		}
	}
}

// promote makes the standby the primary, once the primary has been stopped in some way, and makes another standby.
func (s *stage) promote(ctx context.Context, how harness.Shutdown) error {
	d := s.database
	old, next := d.now()
	if err := execOn(ctx, next.URL(), `alter system reset synchronized_standby_slots`, `select pg_reload_conf()`); err != nil {
		return err
	}
	if took, err := old.Stop(how, shutdownPatience); err != nil {
		s.hung(how, took)
	}
	var promoted bool
	if err := queryOn(ctx, next.URL(), `select pg_promote(true, 60)`, nil, &promoted); err != nil || !promoted {
		return fmt.Errorf("promote: %t, %w", promoted, err)
	}
	history, err := historyOf(ctx, next.URL())
	if err != nil {
		return err
	}
	doubtful := s.journal.promoted(history)
	absent, err := absentOf(ctx, next.URL(), doubtful)
	if err != nil {
		return err
	}
	if len(absent) > 0 && how == harness.Fast {
		return fmt.Errorf("the standby lacks %d transactions of a primary that was stopped in order", len(absent))
	}
	s.journal.forget(absent)
	d.mu.Lock()
	d.primary, d.standby = next, nil
	d.term++
	d.mu.Unlock()
	d.link.SetTarget(next.Addr())
	for _, seat := range s.seats {
		seat.postgres.SetTarget(next.Addr())
		seat.postgres.Cut() // what still leads to the old one
	}
	if err := old.Close(); err != nil {
		return err
	}
	standby, err := next.StartStandby(ctx, d.link.Addr())
	if err != nil {
		return fmt.Errorf("make another standby: %w", err)
	}
	d.mu.Lock()
	d.standby = standby
	d.mu.Unlock()
	return d.followSlots(ctx)
}

// historyOf reads where each timeline ended.
func historyOf(ctx context.Context, url string) (history []branch, err error) {
	var text string
	err = queryOn(ctx, url, `select pg_read_file('pg_wal/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) || '.history')`, nil, &text)
	if err != nil {
		return nil, err
	}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		end, err := pglogrepl.ParseLSN(fields[1])
		if err != nil {
			return nil, err
		}
		history = append(history, branch{uint32(len(history)) + 1, end})
	}
	return history, nil
}

// absentOf gives those of the transactions that a server does not have.
func absentOf(ctx context.Context, url string, numbers []int64) (absent []int64, err error) {
	err = queryOn(ctx, url, `select coalesce(array_agg(n), '{}') from unnest($1::bigint[]) n where not exists (select from torture.ledger where number = n)`, []any{numbers}, &absent)
	return absent, err
}
