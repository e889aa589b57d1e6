package inbox_test

import (
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/sink/inbox"
	"github.com/outrider-relay/outrider/test/harness"
)

// The table and the statements of the document are what consumers in other languages copy.
func TestDocumentSaysWhatThePackageDoes(t *testing.T) {
	table, enter, sweep := documented(t, "create table"), documented(t, "insert into event_inbox"), documented(t, "delete from")

	conn := harness.Connect(t, newURL(t))
	want := shape(t, conn)
	harness.Exec(t, conn, `drop table event_inbox`)
	harness.Exec(t, conn, table)
	if got := shape(t, conn); got != want {
		t.Errorf("the document's table is\n%s\nthat of the package\n%s", got, want)
	}
	harness.Exec(t, conn, inbox.Schema()) // takes it for its own

	_, enter, _ = strings.Cut(enter, "begin;")
	enter, _, _ = strings.Cut(enter, ";")
	for _, want := range []int64{1, 0} {
		if tag, err := conn.Exec(t.Context(), enter, "a"); err != nil || tag.RowsAffected() != want {
			t.Errorf("the document's statement enters %d rows, %v, want %d", tag.RowsAffected(), err, want)
		}
	}
	harness.Exec(t, conn, `insert into event_inbox values ('billing', 'old', now() - interval '15 days'), ('billing', 'young', now() - interval '13 days'), ('other', 'old', '-infinity')`)
	harness.Exec(t, conn, sweep)
	if left := query[string](t, conn, `select string_agg(consumer || ' ' || id, ', ' order by consumer, id) from event_inbox`); left != "billing a, billing young, other old" {
		t.Errorf("the document's sweep leaves %s", left)
	}
}

// documented gives the first block of SQL in the document that holds text.
func documented(t *testing.T, text string) string {
	t.Helper()
	document, err := os.ReadFile("../../docs/consumer.md")
	if err != nil {
		t.Fatal(err)
	}
	var block strings.Builder
	for line := range strings.Lines(string(document)) {
		code, indented := strings.CutPrefix(line, "    ")
		switch {
		case indented:
			block.WriteString(code)
		case strings.Contains(block.String(), text):
			return block.String()
		default:
			block.Reset()
		}
	}
	t.Fatalf("docs/consumer.md has no SQL with %q", text)
	return ""
}

// shape is all that makes up the table event_inbox.
func shape(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	return query[string](t, conn, `select string_agg(what, E'\n' order by what) from (
		select concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)) as what
		from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
		where a.attrelid = 'event_inbox'::regclass and a.attnum > 0
		union all select conname || ' ' || pg_get_constraintdef(oid) from pg_constraint where conrelid = 'event_inbox'::regclass
		union all select indexdef from pg_indexes where tablename = 'event_inbox') parts`)
}
