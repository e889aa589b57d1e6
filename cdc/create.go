package cdc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// createPublication makes the publication for the configured tables. It belongs to the very first start only: made
// later, it would hide that what was written in between is missing. Two relays may come here at once; one of them finds it made.
func createPublication(ctx context.Context, conn *pgx.Conn, pg *Postgres) error {
	if len(pg.Tables) == 0 && len(pg.Prefixes) == 0 {
		return findings{{
			"publication " + pg.Publication + " does not exist", "which tables it should hold is not said",
			"set outbox.tables, or create publication " + quoteName(pg.Publication) + " for table ... with (publish = 'insert')",
		}}
	}
	command := createPublicationSQL(pg)
	_, err := conn.Exec(ctx, command)
	var refused *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused) && refused.Code == pgDuplicateObject:
		return nil
	case errors.As(err, &refused) && refused.Code == pgNoPrivilege:
		return findings{{
			"publication " + pg.Publication + " does not exist, and the relay may not create it", "that takes the tables' owner and the right to create in the database (" + refused.Message + ")",
			"as the owner: " + command,
		}}
	}
	return fmt.Errorf("create publication %s: %w", pg.Publication, err)
}

// createPublicationSQL publishes inserts alone, and partitioned tables under their own names; for others that option means
// nothing. Without a table it is for logical messages, which every publication lets through, and no stream can do without one.
func createPublicationSQL(pg *Postgres) string {
	holds := ""
	if len(pg.Tables) > 0 {
		tables := make([]string, len(pg.Tables))
		for i, t := range pg.Tables {
			tables[i] = quoteTable(t)
		}
		holds = " for table " + strings.Join(tables, ", ")
	}
	return "create publication " + quoteName(pg.Publication) + holds + " with (publish = 'insert', publish_via_partition_root = true)"
}

// missingPublication is the refusal where the publication is gone and may not be made.
func missingPublication(pg *Postgres) findings {
	repair := createPublicationSQL(pg)
	if len(pg.Tables) == 0 && len(pg.Prefixes) == 0 {
		repair = "create publication " + quoteName(pg.Publication) + " for table ... with (publish = 'insert')"
	}
	return findings{{"publication " + pg.Publication + " does not exist", "the stream is what it publishes", repair}}
}

// failoverVersion is PostgreSQL 17, the first whose slots can follow a promotion.
const failoverVersion = 170000

// createSlot makes the slot through the replication connection. Meanwhile it asks conn, once a second, whom the server
// waits for, and tells: a transaction that was forgotten keeps a first start waiting for as long as it stays open.
func createSlot(ctx context.Context, repl *replConn, conn *pgx.Conn, pg *Postgres, version int, tell func(waitsFor string)) (lsn, error) {
	type made struct {
		at  lsn
		err error
	}
	done := make(chan made, 1)
	go func() {
		at, err := repl.createSlot(ctx, pg.Slot, pg.Failover && version >= failoverVersion)
		done <- made{at, err}
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	told := ""
	for {
		select {
		case m := <-done:
			return m.at, m.err
		case <-tick.C:
			who, err := blockers(ctx, conn, repl.pid)
			if err != nil {
				continue // the answer would be a comfort; the slot is what matters
			}
			if who != "" && who != told {
				tell(who)
				told = who
			}
		}
	}
}

// A prepared transaction has no process; Postgres shows it as pid 0.
const selectBlockers = `
select b.pid, coalesce(a.usename, ''), coalesce(a.application_name, ''), coalesce(a.state, ''), a.xact_start
from unnest(pg_blocking_pids($1)) as b (pid) left join pg_stat_activity a on a.pid = b.pid
order by b.pid`

// blockers says in words which transactions a process waits for; empty when for none.
func blockers(ctx context.Context, conn *pgx.Conn, pid uint32) (string, error) {
	rows, err := conn.Query(ctx, selectBlockers, pid)
	if err != nil {
		return "", err
	}
	var who []string
	var blocker int32
	var user, application, state string
	var since *time.Time
	_, err = pgx.ForEachRow(rows, []any{&blocker, &user, &application, &state, &since}, func() error {
		switch {
		case blocker == 0:
			who = append(who, "a prepared transaction (select * from pg_prepared_xacts)")
		case since == nil:
			who = append(who, fmt.Sprintf("pid %d", blocker))
		default:
			who = append(who, fmt.Sprintf("pid %d (user %s, %s, %s, its transaction open since %s)", blocker, user, application, state, since.UTC().Format(time.RFC3339)))
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return strings.Join(who, "; "), nil
}

// countLimit bounds the count of old rows: past it, "more than" says enough, and an exact count of a huge table takes minutes.
const countLimit = 100_000

// rowsBefore counts, up to countLimit+1, the rows that a table holds already at the very first start. They are not in
// the stream, and are not sent; that is said once, so that nobody waits for them.
func rowsBefore(ctx context.Context, conn *pgx.Conn, table string) (int64, error) {
	var n int64
	err := conn.QueryRow(ctx, fmt.Sprintf("select count(*) from (select from %s limit %d) as bounded", quoteTable(table), countLimit+1)).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count the rows of %s: %w", table, err)
	}
	return n, nil
}
