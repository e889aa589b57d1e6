package cdc

import (
	"testing"

	"github.com/outrider-relay/outrider/decoder"
)

func TestRelationsAreCompletedFromTheCatalogueAndTheSettings(t *testing.T) {
	pg := database(t, `
		create table outbox (id bigserial primary key, kind text not null, payload jsonb);
		create table parts (id int not null, payload text) partition by range (id);
		create table parts1 partition of parts for values from (0) to (9);
		create table audit (id int not null);
		create publication outrider for table outbox, parts, audit with (publish = 'insert', publish_via_partition_root = true)`)
	pg.Tables = []string{"public.outbox", "public.parts"}
	notNull, err := readNotNull(t.Context(), control(t, pg), pg.Publication)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{cfg: &Config{Postgres: *pg}, notNull: notNull}
	for _, c := range []struct {
		table   string
		foreign bool
		columns map[string]bool
	}{
		{"outbox", false, map[string]bool{"id": true, "kind": true, "payload": false, "added_later": false}},
		{"parts", false, map[string]bool{"id": true, "payload": false}},
		{"audit", true, map[string]bool{"id": true}},
	} {
		r := &decoder.Relation{Namespace: "public", Name: c.table}
		for name := range c.columns {
			r.Columns = append(r.Columns, decoder.Column{Name: name})
		}
		s.describe(r)
		if r.Foreign != c.foreign {
			t.Errorf("%s: foreign %v", c.table, r.Foreign)
		}
		for _, column := range r.Columns {
			if column.NotNull != c.columns[column.Name] {
				t.Errorf("%s.%s: not null %v", c.table, column.Name, column.NotNull)
			}
		}
	}
	pg.Tables = nil
	r := &decoder.Relation{Namespace: "public", Name: "audit"}
	if (&session{cfg: &Config{Postgres: *pg}}).describe(r); r.Foreign {
		t.Error("a table is foreign where none is named")
	}
}
