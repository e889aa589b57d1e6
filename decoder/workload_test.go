package decoder

import (
	"fmt"
	"strings"
)

// The workload that testdata/*.stream was captured from. TestCapture runs it, TestCapturedStreamHoldsTheWorkload holds the
// captured bytes to it.

// workloadSetup runs before the slot is created.
var workloadSetup = []string{
	`create schema "Odd Schema"`,
	`create type mood as enum ('calm', 'cross')`,
	`create table outbox (
		id bigint generated always as identity primary key,
		aggregate_id text, payload jsonb, headers jsonb, note text)`,
	`alter table outbox alter note set storage external`, // TOASTed, and not compressed before
	`create table "Odd Schema"."Say ""hi""" (k int primary key, mood mood, price numeric(10,2), at timestamptz, raw bytea, tags text[])`,
	`create table whole (id int, note text)`,
	`alter table whole replica identity full`,
	`create table ticks ()`,
	`create publication capture for all tables`,
	`select pg_replication_origin_create('elsewhere')`,
}

const (
	wantedPrefix = "orders"
	endPrefix    = "the end" // of the message that ends a capture
	odd          = `"Odd Schema"."Say ""hi"""`
)

// workload lists what runs, in order, and the events that it must give, as render writes them.
var workload = []struct {
	connection int
	sql        string
	events     []string
}{
	{0, `insert into outbox (aggregate_id, payload) values ('single', '{"a": 1.50}')`, []string{`public.outbox 1|single|{"a": 1.50}|NULL|NULL`}},

	{0, `insert into outbox (aggregate_id, payload, headers, note) values
		('multi', '[]', '{}', ''), (null, null, null, null), ('Grüße ''"\|', '{"ключ": "🐘"}', '{"k": null}', E'line\nbreak\ttab')`, []string{
		`public.outbox 2|multi|[]|{}|`,
		`public.outbox 3|NULL|NULL|NULL|NULL`,
		"public.outbox 4|Grüße '\"\\||{\"ключ\": \"🐘\"}|{\"k\": null}|line\nbreak\ttab",
	}},

	{0, `begin`, nil},
	{0, `insert into outbox (aggregate_id) values ('kept')`, []string{`public.outbox 5|kept|NULL|NULL|NULL`}},
	{0, `savepoint a`, nil},
	{0, `insert into outbox (aggregate_id) values ('undone')`, nil},
	{0, `savepoint b`, nil},
	{0, `insert into outbox (aggregate_id) values ('undone too')`, nil},
	{0, `rollback to savepoint a`, nil},
	{0, `insert into outbox (aggregate_id) values ('after the savepoint')`, []string{`public.outbox 8|after the savepoint|NULL|NULL|NULL`}},
	{0, `savepoint c`, nil},
	{0, `insert into outbox (aggregate_id) values ('released')`, []string{`public.outbox 9|released|NULL|NULL|NULL`}},
	{0, `release savepoint c`, nil},
	{0, `commit`, nil},

	{0, `begin; insert into outbox (aggregate_id) values ('rolled back'); rollback`, nil},

	{0, copyOutbox, copied(11, 60)},

	{0, `insert into outbox (aggregate_id, note) values ('toasted', repeat('0123456789', 400))`, []string{`public.outbox 71|toasted|NULL|NULL|4000 bytes`}},
	{0, `update outbox set aggregate_id = 'toasted, and left so' where aggregate_id = 'toasted'`, nil},
	{0, `delete from outbox where id = 1`, nil},

	{0, `insert into "Odd Schema"."Say ""hi""" values (1, 'cross', 12.50, '2026-03-04 12:00:00.5+02', '\x00ff', '{a,NULL,"b c"}')`, []string{
		odd + ` 1|cross|12.50|2026-03-04 10:00:00.5+00|\x00ff|{a,NULL,"b c"}`,
	}},
	{0, `update "Odd Schema"."Say ""hi""" set k = 2`, nil}, // the key changes: the old one is sent too

	{0, `begin; insert into whole values (1, 'one'), (2, null); update whole set note = 'two' where id = 2; delete from whole; commit`, []string{
		`public.whole 1|one`, `public.whole 2|NULL`,
	}},

	{0, `insert into ticks default values`, []string{`public.ticks `}},

	{0, `begin; select pg_logical_emit_message(true, 'orders', 'first');
		insert into outbox (aggregate_id) values ('between');
		select pg_logical_emit_message(true, 'foreign', 'not wanted');
		select pg_logical_emit_message(false, 'orders', 'not of the transaction');
		select pg_logical_emit_message(true, 'orders', ''); commit`, []string{`orders first`, `public.outbox 72|between|NULL|NULL|NULL`, `orders `}},
	{0, `select pg_logical_emit_message(true, 'orders', 'alone')`, []string{`orders alone`}},
	{0, `select pg_logical_emit_message(true, 'foreign', 'alone')`, nil},

	{0, `truncate outbox, whole restart identity cascade`, nil},

	{0, `insert into outbox (aggregate_id) values ('restarted')`, []string{`public.outbox 1|restarted|NULL|NULL|NULL`}},
	{0, `alter table outbox add column added int default 7`, nil},
	{0, `insert into outbox (aggregate_id) values ('added')`, []string{`public.outbox 2|added|NULL|NULL|NULL|7`}},
	{0, `begin; insert into outbox (aggregate_id) values ('before'); alter table outbox drop column headers;
		insert into outbox (aggregate_id) values ('dropped'); commit`, []string{
		`public.outbox 3|before|NULL|NULL|NULL|7`, `public.outbox 4|dropped|NULL|NULL|7`,
	}},
	{0, `alter table outbox rename column note to remark; alter table outbox alter added type text`, nil},
	{0, `insert into outbox (aggregate_id, added) values ('retyped', 'seven')`, []string{`public.outbox 5|retyped|NULL|NULL|seven`}},
	{0, `alter table outbox rename to renamed`, nil},
	{0, `insert into renamed (aggregate_id) values ('renamed')`, []string{`public.renamed 6|renamed|NULL|NULL|7`}},

	{0, `select pg_replication_origin_session_setup('elsewhere')`, nil},
	{0, `begin; select pg_replication_origin_xact_setup('0/ABCDEF', '2026-01-01 00:00:00+00');
		insert into renamed (aggregate_id) values ('from elsewhere'); commit`, []string{`public.renamed 7|from elsewhere|NULL|NULL|7`}},
	{0, `select pg_replication_origin_session_reset()`, nil},

	// Two transactions interleave in the WAL, and come in commit order.
	{0, `begin; insert into ticks default values`, nil},
	{1, `begin; insert into renamed (aggregate_id) values ('second to begin')`, []string{`public.renamed 8|second to begin|NULL|NULL|7`}},
	{0, `insert into renamed (aggregate_id) values ('first to begin')`, nil},
	{1, `insert into renamed (aggregate_id) values ('first to commit'); commit`, []string{`public.renamed 10|first to commit|NULL|NULL|7`}},
	{0, `commit`, []string{`public.ticks `, `public.renamed 9|first to begin|NULL|NULL|7`}},

	{0, `select pg_logical_emit_message(false, '` + endPrefix + `', '')`, nil},
}

// copyOutbox is run as COPY, with the data of copyData.
const copyOutbox = `copy outbox (aggregate_id, payload) from stdin`

func copyData() string {
	var b strings.Builder
	for i := range 60 {
		fmt.Fprintf(&b, "copied\t{\"i\": %d}\n", i)
	}
	return b.String()
}

func copied(firstID, n int) []string {
	var events []string
	for i := range n {
		events = append(events, fmt.Sprintf(`public.outbox %d|copied|{"i": %d}|NULL|NULL`, firstID+i, i))
	}
	return events
}

// render writes an event in one line.
func render(e *Event) string {
	if e.Relation == nil {
		return e.Prefix + " " + string(e.Content)
	}
	var values []string
	for _, v := range e.Values {
		if len(v.Data) > 1000 {
			values = append(values, fmt.Sprintf("%d bytes", len(v.Data)))
			continue
		}
		values = append(values, v.String())
	}
	return e.Relation.String() + " " + strings.Join(values, "|")
}
