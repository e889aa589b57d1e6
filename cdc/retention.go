package cdc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/checkpoint"
)

// mark is how the rows of an outbox that are delivered are told from the others. A row carries no LSN, and its created_at is the
// start of its transaction; but every transaction below xmin had ended when the mark was taken, and its commit lies below lsn.
// Once the relay has stored lsn, all their rows are in Kafka. A row's xmin may be that of a savepoint: such an id is larger than
// its transaction's, so that what is below the mark's is below it for both.
type mark struct {
	xmin int64
	lsn  lsn
	// server is where the mark was taken: an LSN means nothing on another one.
	server serverID
	// kept are rows that stay nevertheless.
	kept checkpoint.Kept
}

const selectMark = `select pg_snapshot_xmin(pg_current_snapshot())::text::bigint, pg_current_wal_insert_lsn()::text`

// takeMark notes the present.
func takeMark(ctx context.Context, conn *pgx.Conn) (m mark, err error) {
	if m.server, err = identifyServer(ctx, conn); err != nil {
		return m, err
	}
	var at string
	if err := conn.QueryRow(ctx, selectMark).Scan(&m.xmin, &at); err != nil {
		return m, fmt.Errorf("note what is visible: %w", err)
	}
	if m.lsn, err = pglogrepl.ParseLSN(at); err != nil {
		return m, fmt.Errorf("note what is visible: %w", err)
	}
	return m, nil
}

const (
	// pruneBatch is how many rows a statement deletes: few enough to hold no lock for long.
	pruneBatch = 1000
	// pruneLockTimeout is how long a statement waits for a lock: an application must not queue behind us.
	pruneLockTimeout = "2s"
)

// Pruned counts what went.
type Pruned struct {
	Rows       int64    `json:"rows"`
	Partitions []string `json:"partitions"`
	// Kept says which rows stay whatever their age; nil: none do.
	Kept *checkpoint.Kept `json:"kept,omitempty"`
}

// agedTable is an outbox table, with the column that tells the age of its rows.
type agedTable struct {
	Schema, Name, Column string
	Zoned                bool // Column is a timestamptz
	Ranged               bool // partitioned by ranges of Column alone
	Deletes, Uses        bool // what the role may do: read and delete rows; the schema
}

func (t *agedTable) String() string { return t.Schema + "." + t.Name }
func (t *agedTable) quoted() string { return quoteTable(t.String()) }

// old is the condition on a row of that age; $1 is the age in seconds. A timestamp without time zone is taken to be in UTC.
func (t *agedTable) old() string {
	cutoff := "now() - make_interval(secs => $1)"
	if !t.Zoned {
		cutoff = "(" + cutoff + ") at time zone 'UTC'"
	}
	return quoteName(t.Column) + " < " + cutoff
}

// rowAge is how many transactions ago a row was written. A row has the lower half of its transaction's id: counted back from the next
// id to be given, it is that transaction's, or the same of a later round for one that was frozen long ago.
const (
	nextXID = `pg_snapshot_xmax(pg_current_snapshot())::text::bigint`
	rowAge  = `((` + nextXID + ` - xmin::text::bigint) & 4294967295)`
)

// delivered is the condition on a row below the mark that is not kept; the mark's xmin and the two of Kept are parameters from $n on.
// Taken for one of a later round, a row stays until the next look at worst where it lies below the mark; where it is kept, its own
// time holds it.
func (t *agedTable) delivered(n int) string {
	at := fmt.Sprintf("$%d::timestamptz", n+2)
	if !t.Zoned {
		at = "(" + at + ") at time zone 'UTC'"
	}
	return fmt.Sprintf("%s > %s - $%d::bigint and %s <= %s - $%d::bigint and %s >= %s", rowAge, nextXID, n, rowAge, nextXID, n+1, quoteName(t.Column), at)
}

const selectAgedTables = `
select n.nspname, c.relname, coalesce(a.attname, ''), coalesce(a.atttypid = 'timestamptz'::regtype, false),
	coalesce((select p.partstrat = 'r' and p.partnatts = 1 and p.partattrs[0] = a.attnum from pg_partitioned_table p where p.partrelid = c.oid), false),
	has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'delete'), has_schema_privilege(n.oid, 'usage')
from unnest($1::text[], $2::text[], $3::text[]) as wanted (nspname, relname, attname)
join pg_namespace n on n.nspname = wanted.nspname join pg_class c on c.relnamespace = n.oid and c.relname = wanted.relname and c.relkind in ('r', 'p')
left join lateral (select attname, atttypid, attnum from pg_attribute
	where attrelid = c.oid and attnum > 0 and not attisdropped and atttypid in ('timestamptz'::regtype, 'timestamp'::regtype)
		and attname = any (case when wanted.attname <> '' then array[wanted.attname] else array['created_at', 'timestamp', 'createdat', 'occurred_at'] end)
	order by array_position(array['created_at', 'timestamp', 'createdat', 'occurred_at'], attname::text) limit 1) a on true
order by 1, 2`

// readAgedTables finds the configured tables, or those of the publication, and the columns that tell the age of their rows. Its
// error is a findings where rows cannot be deleted by it.
func readAgedTables(ctx context.Context, conn *pgx.Conn, cfg *Config) ([]agedTable, error) {
	names := cfg.Postgres.Tables
	if len(names) == 0 {
		p, err := readPublication(ctx, conn, cfg.Postgres.Publication)
		if err != nil || p == nil {
			return nil, err
		}
		for i := range p.Tables {
			names = append(names, p.Tables[i].String())
		}
	}
	schemas, tables := splitTables(names)
	columns := make([]string, len(names))
	for i, name := range names {
		columns[i] = cfg.ageColumn(name)
	}
	rows, err := conn.Query(ctx, selectAgedTables, schemas, tables, columns)
	if err != nil {
		return nil, fmt.Errorf("read the outbox tables: %w", err)
	}
	aged, err := pgx.CollectRows(rows, pgx.RowToStructByPos[agedTable])
	if err != nil {
		return nil, fmt.Errorf("read the outbox tables: %w", err)
	}
	var bad findings
	for _, t := range aged {
		if t.Column == "" {
			bad = append(bad, finding{"table " + t.String() + " has no column that tells the age of a row", "rows are deleted by their age", "name a timestamp column in outbox.columns.timestamp"})
		}
		if !t.Deletes || !t.Uses {
			bad = append(bad, finding{"the role may not delete from " + t.String(), "outbox.retention and outrider prune delete what is delivered", grantOn(t.Schema, t.Name, "select, delete", roleOf(&cfg.Postgres), t.Uses)})
		}
	}
	if len(bad) > 0 {
		return nil, bad
	}
	return aged, nil
}

// ageColumn is the column that the settings name for a table; empty: by the well-known names.
func (c *Config) ageColumn(table string) string {
	if name, ok := c.Columns[table+".timestamp"]; ok {
		return name
	}
	return c.Columns["timestamp"]
}

// prune deletes what is delivered by the mark and older than age: whole partitions where they can be had, and rows in small batches.
func prune(ctx context.Context, conn *pgx.Conn, tables []agedTable, m mark, age time.Duration) (p Pruned, err error) {
	// A scan that joins another one's in the middle of a table would not go by the rows' places.
	for _, set := range []string{`set lock_timeout = '` + pruneLockTimeout + `'`, `set synchronize_seqscans = off`} {
		if _, err := conn.Exec(ctx, set); err != nil {
			return p, fmt.Errorf("prune: %w", err)
		}
	}
	now, err := identifyServer(ctx, conn)
	if err == nil {
		err = sameServer(m.server, now)
	}
	if err != nil {
		return p, fmt.Errorf("prune: %w", err)
	}
	if m.kept.XID > 0 {
		p.Kept = &m.kept
	}
	var errs []error
	for i := range tables {
		t := &tables[i]
		if t.Ranged {
			errs = append(errs, p.dropPartitions(ctx, conn, t, m, age))
		}
		errs = append(errs, p.deleteRows(ctx, conn, t, m, age))
	}
	return p, errors.Join(errs...)
}

const selectLeaves = `
select array(select relid::oid from pg_partition_tree(c.oid) where isleaf union select c.oid where c.relkind = 'r' order by 1)
from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2`

// deleteRows deletes from a table, partitioned or not. It goes through each part in the order of its rows' places, so that no
// batch looks again at what an earlier one has emptied; and by the table's own name, on which alone there may be a right.
func (p *Pruned) deleteRows(ctx context.Context, conn *pgx.Conn, t *agedTable, m mark, age time.Duration) error {
	var leaves []uint32
	if err := conn.QueryRow(ctx, selectLeaves, t.Schema, t.Name).Scan(&leaves); err != nil {
		return fmt.Errorf("read the partitions of %s: %w", t, err)
	}
	sql := fmt.Sprintf(`
		with old as materialized (select ctid as place from %s where tableoid = $2 and ctid > $3::text::tid and %s and %s limit %d),
		gone as (delete from %s as outbox using old where outbox.tableoid = $2 and outbox.ctid = old.place returning place)
		select (select count(*) from gone), (select max(place)::text from old)`, t.quoted(), t.old(), t.delivered(4), pruneBatch, t.quoted())
	for _, leaf := range leaves {
		for last := "(0,0)"; ; {
			var rows int64
			var place *string // nil when there was none
			if err := conn.QueryRow(ctx, sql, age.Seconds(), leaf, last, m.xmin, m.kept.XID, m.kept.At).Scan(&rows, &place); err != nil {
				return fmt.Errorf("delete from %s: %w", t, err)
			}
			if p.Rows += rows; place == nil {
				break
			}
			last = *place
		}
	}
	return nil
}
