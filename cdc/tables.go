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

const selectRelations = `
select n.nspname, c.relname, a.attname, a.atttypid, a.atttypmod, a.attnotnull
from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
join unnest($1::text[], $2::text[]) as wanted (nspname, relname) on n.nspname = wanted.nspname and c.relname = wanted.relname
where c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
order by 1, 2, a.attnum`

// readRelations gives the outbox tables as the stream will describe them: those of the publication, or where there is none
// yet, those that it is going to hold.
func readRelations(ctx context.Context, conn *pgx.Conn, pg *Postgres) ([]*decoder.Relation, error) {
	names, hidden := pg.Tables, make(map[column]bool)
	p, err := readPublication(ctx, conn, pg.Publication)
	if err != nil {
		return nil, err
	}
	if p != nil {
		names = nil
		for i := range p.Tables {
			t := &p.Tables[i]
			if len(pg.Tables) == 0 || slices.Contains(pg.Tables, t.String()) {
				names = append(names, t.String())
			}
			for _, name := range t.hidden() {
				hidden[column{t.Schema, t.Name, name}] = true
			}
		}
	}
	schemas, tables := splitTables(names)
	rows, err := conn.Query(ctx, selectRelations, schemas, tables)
	if err != nil {
		return nil, fmt.Errorf("read the columns of the outbox tables: %w", err)
	}
	var relations []*decoder.Relation
	var at column
	var c decoder.Column
	_, err = pgx.ForEachRow(rows, []any{&at.Schema, &at.Table, &at.Name, &c.Type, &c.Modifier, &c.NotNull}, func() error {
		if n := len(relations); n == 0 || relations[n-1].Namespace != at.Schema || relations[n-1].Name != at.Table {
			relations = append(relations, &decoder.Relation{ID: uint32(n + 1), Namespace: at.Schema, Name: at.Table})
		}
		if c.Name = at.Name; !hidden[at] {
			r := relations[len(relations)-1]
			r.Columns = append(r.Columns, c)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the columns of the outbox tables: %w", err)
	}
	return relations, nil
}
