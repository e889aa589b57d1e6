package cdc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// publicationFacts is a publication and the tables that it publishes, as it names them in the stream.
type publicationFacts struct {
	AllTables bool `json:"puballtables"`
	Insert    bool `json:"pubinsert"`
	Update    bool `json:"pubupdate"`
	Delete    bool `json:"pubdelete"`
	Truncate  bool `json:"pubtruncate"`
	ViaRoot   bool `json:"pubviaroot"`

	Tables []publishedTable `json:"-"`
}

// publishedTable is a row of pg_publication_tables.
type publishedTable struct {
	Schema    string   `json:"schemaname"`
	Name      string   `json:"tablename"`
	Columns   []string `json:"attnames"`  // 15+
	RowFilter string   `json:"rowfilter"` // 15+

	AllColumns []string `json:"all_columns"` // of the table
}

func (t *publishedTable) String() string { return t.Schema + "." + t.Name }

const (
	selectPublication = `select to_jsonb(p) from pg_publication p where pubname = $1`

	// The publication's view has the columns that the server's version has.
	selectPublishedTables = `
select to_jsonb(t) || jsonb_build_object('all_columns',
	(select jsonb_agg(a.attname order by a.attnum) from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
	 where n.nspname = t.schemaname and c.relname = t.tablename and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''))
from pg_publication_tables t where pubname = $1 order by schemaname, tablename`
)

// readPublication returns nil when there is none of that name.
func readPublication(ctx context.Context, conn *pgx.Conn, name string) (*publicationFacts, error) {
	var row []byte
	err := conn.QueryRow(ctx, selectPublication, name).Scan(&row)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read publication %s: %w", name, err)
	}
	var p publicationFacts
	if err := json.Unmarshal(row, &p); err != nil {
		return nil, fmt.Errorf("read publication %s: %w", name, err)
	}
	rows, err := conn.Query(ctx, selectPublishedTables, name)
	if err != nil {
		return nil, fmt.Errorf("read the tables of publication %s: %w", name, err)
	}
	p.Tables, err = pgx.CollectRows(rows, pgx.RowTo[publishedTable])
	if err != nil {
		return nil, fmt.Errorf("read the tables of publication %s: %w", name, err)
	}
	return &p, nil
}

// tableFacts is an outbox table as the catalogue has it.
type tableFacts struct {
	Schema, Name string
	Unlogged     bool
	PartitionOf  string   // the root of its tree; empty for a table of its own
	Partitions   []string // the leaves of its tree, where it is partitioned
}

const selectTables = `
select n.nspname, c.relname, c.relpersistence <> 'p',
	case when c.relispartition then coalesce((select rn.nspname || '.' || r.relname
		from pg_class r join pg_namespace rn on rn.oid = r.relnamespace where r.oid = pg_partition_root(c.oid)), '') else '' end,
	array(select ln.nspname || '.' || l.relname from pg_partition_tree(c.oid) p join pg_class l on l.oid = p.relid join pg_namespace ln on ln.oid = l.relnamespace
		where p.isleaf and c.relkind = 'p')
from pg_class c join pg_namespace n on n.oid = c.relnamespace
join unnest($1::text[], $2::text[]) as wanted (nspname, relname) on n.nspname = wanted.nspname and c.relname = wanted.relname
where c.relkind in ('r', 'p')`

// readTables finds the configured tables, by their "schema.table" as the stream will name them.
func readTables(ctx context.Context, conn *pgx.Conn, names []string) (map[string]tableFacts, error) {
	schemas, tables := splitTables(names)
	rows, err := conn.Query(ctx, selectTables, schemas, tables)
	if err != nil {
		return nil, fmt.Errorf("read the outbox tables: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[tableFacts])
	if err != nil {
		return nil, fmt.Errorf("read the outbox tables: %w", err)
	}
	byName := make(map[string]tableFacts, len(found))
	for _, t := range found {
		byName[t.Schema+"."+t.Name] = t
	}
	return byName, nil
}

// splitTables takes "schema.table" apart.
func splitTables(names []string) (schemas, tables []string) {
	for _, name := range names {
		schema, table, _ := strings.Cut(name, ".")
		schemas, tables = append(schemas, schema), append(tables, table)
	}
	return schemas, tables
}

// missingTables names what is configured and does not exist, or can never be decoded.
func missingTables(names []string, tables map[string]tableFacts) findings {
	var bad findings
	for _, name := range names {
		t, ok := tables[name]
		switch {
		case !ok:
			bad = append(bad, finding{"table " + name + " does not exist", "it is named in outbox.tables, as schema.table", "create it (outrider init does), or correct the name"})
		case t.Unlogged:
			bad = append(bad, finding{"table " + name + " is unlogged or temporary", "its rows are never written to WAL, so that nothing can be relayed", "alter table " + quoteTable(name) + " set logged"})
		}
	}
	return bad
}

// findings are what keeps events from arriving, and what may.
func (p *publicationFacts) findings(pg *Postgres, tables map[string]tableFacts) (bad findings, warn []finding) {
	name := quoteName(pg.Publication)
	if !p.Insert {
		bad = append(bad, finding{"publication " + pg.Publication + " does not publish inserts", "an event is an inserted row", "alter publication " + name + " set (publish = 'insert')"})
	}
	if p.holdsCheckpoint() {
		bad = append(bad, finding{
			"publication " + pg.Publication + " holds schema outrider", "every checkpoint would be an event that asks for the next checkpoint",
			"publish the outbox tables alone: drop publication " + name + "; create publication " + name + " for table ... with (publish = 'insert')",
		})
	}
	if p.Insert && (p.Update || p.Delete || p.Truncate) {
		warn = append(warn, finding{"publication " + pg.Publication + " publishes more than inserts", "updates, deletes and truncates are decoded and sent for nothing", "alter publication " + name + " set (publish = 'insert')"})
	}
	for _, want := range pg.Tables {
		if t, ok := tables[want]; ok && !t.Unlogged && !p.holds(want) {
			bad = append(bad, p.unpublished(pg.Publication, want, t))
		}
	}
	if len(pg.Tables) == 0 && len(p.Tables) == 0 && len(pg.Prefixes) == 0 {
		bad = append(bad, finding{"publication " + pg.Publication + " has no tables", "nothing would ever be relayed", "alter publication " + name + " add table ..."})
	}
	for i := range p.Tables {
		t := &p.Tables[i]
		if len(pg.Tables) > 0 && !slices.Contains(pg.Tables, t.String()) {
			continue
		}
		if t.RowFilter != "" {
			warn = append(warn, finding{"publication " + pg.Publication + " filters the rows of " + t.String() + " (where " + t.RowFilter + ")", "rows that do not match are never relayed", "alter publication " + name + " set table ..., without a where clause"})
		}
		if hidden := t.hidden(); len(hidden) > 0 {
			warn = append(warn, finding{"publication " + pg.Publication + " hides columns of " + t.String() + " (" + strings.Join(hidden, ", ") + ")", "they can be neither routed by nor relayed", "alter publication " + name + " set table ..., without a column list"})
		}
	}
	return bad, warn
}

// unpublished says why a table that exists does not appear in the stream under its name.
func (p *publicationFacts) unpublished(publication, want string, t tableFacts) finding {
	name := quoteName(publication)
	switch {
	case !p.ViaRoot && slices.ContainsFunc(t.Partitions, p.holds):
		return finding{"table " + want + " is partitioned, and its rows arrive under the names of its partitions", "none of them is in outbox.tables", "alter publication " + name + " set (publish_via_partition_root = true)"}
	case t.PartitionOf != "" && p.ViaRoot && p.holds(t.PartitionOf):
		return finding{"table " + want + " is a partition of " + t.PartitionOf + ", under whose name its rows arrive", "publication " + publication + " has publish_via_partition_root", "name " + t.PartitionOf + " in outbox.tables"}
	}
	return finding{
		"table " + want + " is not in publication " + publication,
		"its rows are not in the stream; a table that took the name of another one by a rename is not published either, since a publication follows the table, not the name",
		"alter publication " + name + " add table " + quoteTable(want),
	}
}

func (p *publicationFacts) holds(name string) bool {
	return slices.ContainsFunc(p.Tables, func(t publishedTable) bool { return t.String() == name })
}

func (p *publicationFacts) holdsCheckpoint() bool {
	return p.AllTables || slices.ContainsFunc(p.Tables, func(t publishedTable) bool { return t.Schema == "outrider" })
}

// hidden are the columns that a column list leaves out.
func (t *publishedTable) hidden() []string {
	if t.Columns == nil {
		return nil // before PostgreSQL 15 there were no column lists
	}
	return slices.DeleteFunc(slices.Clone(t.AllColumns), func(c string) bool { return slices.Contains(t.Columns, c) })
}

// quoteTable quotes "schema.table".
func quoteTable(name string) string {
	schema, table, _ := strings.Cut(name, ".")
	return quoteName(schema) + "." + quoteName(table)
}
