package cdc

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outrider-relay/outrider/decoder"
)

// Bounds of a sample, which must not cost a large table anything.
const (
	sampleRows   = 100     // of a table or partition
	sampleParts  = 4       // partitions
	sampleBlocks = 64      // at a table's end, where its youngest rows are as long as none is deleted
	sampleBytes  = 8 << 10 // of a row as it is stored, compressed; larger ones are passed over
	// sampleTimeout is for a table that somebody has locked.
	sampleTimeout = 5 * time.Second
)

// Those with rows that the role may read, the last by name first: partitions by time are named by it.
const selectSampled = `
select n.nspname || '.' || c.relname, pg_relation_size(c.oid) / current_setting('block_size')::bigint
from pg_class r join pg_namespace rn on rn.oid = r.relnamespace
cross join lateral (select relid from pg_partition_tree(r.oid) where isleaf union select r.oid where r.relkind = 'r') as leaf
join pg_class c on c.oid = leaf.relid and c.relkind = 'r' join pg_namespace n on n.oid = c.relnamespace
where rn.nspname = $1 and r.relname = $2 and pg_relation_size(c.oid) > 0
	and has_table_privilege(c.oid, 'select') and has_schema_privilege(n.oid, 'usage')
order by c.relname desc limit $3`

// lookAtRows reads some rows of the tables.
func (in *Inspection) lookAtRows(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	for _, table := range in.Tables {
		events, err := sample(ctx, in.conn, table)
		if err != nil {
			in.add(Warn, "the rows of "+table.String()+" cannot be looked at", err.Error(), "")
			return // the connection may have gone with it
		}
		in.Rows = append(in.Rows, events...)
	}
}

// sample reads some of a table's rows as the stream brings them.
func sample(ctx context.Context, conn *pgx.Conn, table *decoder.Relation) (events []*decoder.Event, err error) {
	rows, err := conn.Query(ctx, selectSampled, table.Namespace, table.Name, sampleParts)
	if err != nil {
		return nil, fmt.Errorf("look for rows of %s: %w", table, err)
	}
	type part struct {
		Name   string
		Blocks int64
	}
	parts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[part])
	if err != nil {
		return nil, fmt.Errorf("look for rows of %s: %w", table, err)
	}
	for _, p := range parts {
		sql := sampleSQL(p.Name, table.Columns, max(p.Blocks-sampleBlocks, 0))
		// As text, which pgx would ask for in binary.
		result := conn.PgConn().ExecParams(ctx, sql, nil, nil, nil, []int16{pgx.TextFormatCode}).Read()
		if result.Err != nil {
			return events, fmt.Errorf("read rows of %s: %w", table, result.Err)
		}
		events = append(events, eventsOf(table, result)...)
	}
	return events, nil
}

func sampleSQL(table string, columns []decoder.Column, from int64) string {
	names, sizes := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		names[i] = quoteName(c.Name)
		sizes[i] = "coalesce(pg_column_size(" + names[i] + "), 0)"
	}
	return fmt.Sprintf("select %s from only %s where ctid >= '(%d,0)' and %s <= %d order by ctid desc limit %d",
		strings.Join(names, ", "), quoteTable(table), from, strings.Join(sizes, " + "), sampleBytes, sampleRows)
}

func eventsOf(table *decoder.Relation, result *pgconn.Result) []*decoder.Event {
	events := make([]*decoder.Event, len(result.Rows))
	for i, row := range result.Rows {
		e := &decoder.Event{Relation: table, Values: make([]decoder.Value, len(row))}
		for j, text := range row {
			if e.Values[j] = (decoder.Value{Format: decoder.Text, Data: text}); text == nil {
				e.Values[j].Format = decoder.Null
			}
		}
		events[i] = e
	}
	return events
}
