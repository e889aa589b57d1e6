package cdc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// rights is what the relay's role may do with what is its own.
type rights struct {
	schema                    bool // outrider exists
	createSchema, useSchema   bool // in the database; on the schema
	tables                    int  // of the two that exist
	createTables, writeTables bool
}

const selectRights = `
select n.oid is not null, has_database_privilege(current_database(), 'create'),
	coalesce(has_schema_privilege(n.oid, 'usage'), false), coalesce(has_schema_privilege(n.oid, 'create'), false),
	count(c.oid), coalesce(bool_and(has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert') and has_table_privilege(c.oid, 'update')), false)
from (values ('outrider')) as ours (name) left join pg_namespace n on n.nspname = ours.name
left join pg_class c on c.relnamespace = n.oid and c.relname in ('checkpoint', 'partition') and c.relkind = 'r'
group by n.oid`

// lookAtRights finds what the role may not do and has to.
func (in *Inspection) lookAtRights(ctx context.Context) error {
	var r rights
	err := in.conn.QueryRow(ctx, selectRights).Scan(&r.schema, &r.createSchema, &r.useSchema, &r.createTables, &r.tables, &r.writeTables)
	if err != nil {
		return fmt.Errorf("read the rights on schema outrider: %w", err)
	}
	role := roleOf(&in.cfg.Postgres)
	const both = 2
	switch {
	case !r.schema && !r.createSchema:
		in.add(Fail, "schema outrider does not exist, and the role may not create it", "the relay keeps its checkpoint there",
			"as the database's owner: create schema outrider authorization "+role+"; or outrider init with --role")
	case r.schema && r.tables < both && !(r.useSchema && r.createTables):
		in.add(Fail, "the tables of schema outrider do not exist, and the role may not create them", "the relay keeps its checkpoint there",
			"grant usage, create on schema outrider to "+role+"; or outrider init with --role")
	case r.tables == both && !(r.useSchema && r.writeTables):
		in.add(Fail, "the role may not write its checkpoint", "nothing could be stored, and so nothing confirmed",
			"grant usage on schema outrider to "+role+"; grant select, insert, update, delete on outrider.checkpoint, outrider.partition to "+role)
	default:
		in.ok("the role may keep its checkpoint in schema outrider")
	}
	return in.lookAtTableRights(ctx)
}

// tableRights is what the role may do with an outbox table.
type tableRights struct {
	Schema, Name      string
	Select, Owns, Use bool
	Unlogged          []string // partitions
}

// grantOn gives a right on a table, and on its schema where the role may not use that yet.
func grantOn(schema, table, right, role string, uses bool) string {
	sql := "grant " + right + " on " + quoteTable(schema+"."+table) + " to " + role
	if !uses {
		sql = "grant usage on schema " + quoteName(schema) + " to " + role + "; " + sql
	}
	return sql
}

const selectTableRights = `
select n.nspname, c.relname, has_table_privilege(c.oid, 'select'), pg_has_role(c.relowner, 'usage'), has_schema_privilege(n.oid, 'usage'),
	array(select ln.nspname || '.' || l.relname from pg_partition_tree(c.oid) p join pg_class l on l.oid = p.relid join pg_namespace ln on ln.oid = l.relnamespace
		where p.isleaf and p.relid <> c.oid and l.relpersistence <> 'p' order by 1)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
join unnest($1::text[], $2::text[]) as wanted (nspname, relname) on n.nspname = wanted.nspname and c.relname = wanted.relname
where c.relkind in ('r', 'p') order by 1, 2`

// lookAtTableRights finds what the role may not do with the outbox: make a publication of it where there is none, and read it. A
// table that is unlogged itself was told before.
func (in *Inspection) lookAtTableRights(ctx context.Context) error {
	pg := &in.cfg.Postgres
	schemas, names := splitTables(pg.Tables)
	rows, err := in.conn.Query(ctx, selectTableRights, schemas, names)
	if err != nil {
		return fmt.Errorf("read the rights on the outbox tables: %w", err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[tableRights])
	if err != nil {
		return fmt.Errorf("read the rights on the outbox tables: %w", err)
	}
	role, publishes := roleOf(pg), true
	for _, t := range tables {
		publishes = publishes && t.Owns
		for _, leaf := range t.Unlogged {
			in.add(Fail, "partition "+leaf+" of "+t.Schema+"."+t.Name+" is unlogged", "its rows are never written to WAL, so that they are never relayed", "alter table "+quoteTable(leaf)+" set logged")
		}
		if !t.Select || !t.Use {
			in.add(Warn, "the role may not read "+t.Schema+"."+t.Name, "relaying works without; the first start cannot tell how many rows were there before it, and are not sent", grantOn(t.Schema, t.Name, "select", role, t.Use))
		}
	}
	if in.facts.publication == nil && in.facts.slot == nil && !in.Known && pg.Create && len(pg.Tables) > 0 {
		return in.checkMayPublish(ctx, publishes)
	}
	return nil
}

// lookAtRetention finds what keeps outbox.retention from deleting.
func (in *Inspection) lookAtRetention(ctx context.Context) error {
	if in.cfg.Retention == 0 {
		return nil
	}
	aged, err := readAgedTables(ctx, in.conn, in.cfg)
	var bad findings
	switch {
	case errors.As(err, &bad):
		in.addAll(Fail, bad)
		return nil
	case err == nil && len(aged) > 0:
		in.ok("outbox.retention is %s: the role may delete delivered rows that are older", in.cfg.Retention)
	}
	return err
}

// checkMayPublish looks whether the first start can make the publication.
func (in *Inspection) checkMayPublish(ctx context.Context, owns bool) error {
	var create bool
	if err := in.conn.QueryRow(ctx, `select has_database_privilege(current_database(), 'create')`).Scan(&create); err != nil {
		return fmt.Errorf("read the rights on the database: %w", err)
	}
	if !owns || !create {
		in.add(Fail, "publication "+in.cfg.Postgres.Publication+" does not exist, and the role may not create it", "that takes the tables' owner and the right to create in the database",
			"as the owner: "+createPublicationSQL(&in.cfg.Postgres))
	}
	return nil
}

// lookAtPublication says what is published, where nothing is wrong with it.
func (in *Inspection) lookAtPublication(context.Context) error {
	if p := in.facts.publication; p != nil && len(p.Tables) > 0 {
		names := make([]string, len(p.Tables))
		for i := range p.Tables {
			names[i] = p.Tables[i].String()
		}
		in.ok("publication %s holds %s", in.cfg.Postgres.Publication, strings.Join(names, ", "))
	}
	return nil
}

const selectUnidentified = `
select distinct n.nspname || '.' || c.relname, p.pubupdate, p.pubdelete
from pg_publication p join pg_publication_tables t on t.pubname = p.pubname
join pg_namespace rn on rn.nspname = t.schemaname join pg_class r on r.relnamespace = rn.oid and r.relname = t.tablename
cross join lateral (select relid from pg_partition_tree(r.oid) where isleaf union select r.oid where r.relkind = 'r') as leaf
join pg_class c on c.oid = leaf.relid join pg_namespace n on n.oid = c.relnamespace
where p.pubname = $1 and (p.pubdelete or p.pubupdate) and c.relkind = 'r'
	and case c.relreplident when 'f' then false when 'n' then true
		when 'd' then not exists (select from pg_index where indrelid = c.oid and indisprimary)
		else not exists (select from pg_index where indrelid = c.oid and indisreplident) end
order by 1`

// lookAtIdentity finds tables whose application fails with the publication as it is: Postgres refuses an UPDATE or DELETE that
// it is to publish and that it cannot name the row of.
func (in *Inspection) lookAtIdentity(ctx context.Context) error {
	rows, err := in.conn.Query(ctx, selectUnidentified, in.cfg.Postgres.Publication)
	if err != nil {
		return fmt.Errorf("read the replica identities: %w", err)
	}
	var table string
	var updates, deletes bool
	_, err = pgx.ForEachRow(rows, []any{&table, &updates, &deletes}, func() error {
		what := "DELETE"
		switch {
		case updates && deletes:
			what = "UPDATE and DELETE"
		case updates:
			what = "UPDATE"
		}
		in.add(Fail, table+" has no replica identity, and the publication publishes what needs one", "each "+what+" on it fails in the application",
			"alter publication "+quoteName(in.cfg.Postgres.Publication)+" set (publish = 'insert')")
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the replica identities: %w", err)
	}
	return nil
}
