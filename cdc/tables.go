package cdc

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/decoder"
)

// column names a column of a published table.
type column struct{ Schema, Table, Name string }

// The columns that take no NULL. The stream does not tell which do, and a schema in a record has to say it.
const selectNotNull = `
select t.schemaname, t.tablename, a.attname
from pg_publication_tables t join pg_namespace n on n.nspname = t.schemaname
join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and a.attnotnull
where t.pubname = $1`

// readNotNull gives the columns of a publication's tables that take no NULL just now.
func readNotNull(ctx context.Context, conn *pgx.Conn, publication string) (map[column]bool, error) {
	rows, err := conn.Query(ctx, selectNotNull, publication)
	if err != nil {
		return nil, fmt.Errorf("read the columns of publication %s: %w", publication, err)
	}
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	if err != nil {
		return nil, fmt.Errorf("read the columns of publication %s: %w", publication, err)
	}
	notNull := make(map[column]bool, len(columns))
	for _, c := range columns {
		notNull[c] = true
	}
	return notNull, nil
}

// describe completes a relation of the stream: tables that are published and not named in the settings are foreign.
func (s *session) describe(r *decoder.Relation) {
	tables := s.cfg.Postgres.Tables
	r.Foreign = len(tables) > 0 && !slices.Contains(tables, r.Namespace+"."+r.Name)
	if r.Foreign {
		s.log.Warn().Stringer("table", r).Msg("the publication has a table that is not among outbox.tables: its rows are no events")
	}
	for i := range r.Columns {
		r.Columns[i].NotNull = s.notNull[column{r.Namespace, r.Name, r.Columns[i].Name}]
	}
}
