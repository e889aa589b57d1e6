package cdc

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// NewDatabase makes a database on the server that the tests share. TestMain sets it from outside the package: the
// harness imports this package, so that its inner tests cannot import the harness.
var NewDatabase func(t testing.TB) (url string)

// database is a database with sql applied, as the relay would follow it. Its slot goes with the test.
func database(t *testing.T, sql string) *Postgres {
	t.Helper()
	url := NewDatabase(t)
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	pg := &Postgres{URL: url, Publication: "outrider", Slot: "outrider_" + cfg.Database, Create: true}
	conn := control(t, pg)
	if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dropSlot(t, conn, pg.Slot) })
	return pg
}

const (
	freeSlot = `select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = $1 and active`
	dropFree = `select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1`
)

// dropSlot drops the slot if it exists, whoever reads it.
func dropSlot(t *testing.T, conn *pgx.Conn, slot string) {
	for _, sql := range []string{freeSlot, dropFree} {
		if _, err := conn.Exec(context.Background(), sql, slot); err != nil {
			t.Errorf("drop slot %s: %v", slot, err)
		}
	}
}

// control is a control connection that ends with the test.
func control(t *testing.T, pg *Postgres) *pgx.Conn {
	t.Helper()
	conn, err := dialControl(t.Context(), pg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// replication is a replication connection that ends with the test.
func replication(t *testing.T, pg *Postgres) *replConn {
	t.Helper()
	c, err := dialReplication(t.Context(), pg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.close() })
	return c
}

// run executes one statement.
func run(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// firstRow reads up to the first insert, firstMessage up to the first message of a type.
func firstRow(t *testing.T, c *replConn) string { t.Helper(); return firstMessage(t, c, 'I') }

func firstMessage(t *testing.T, c *replConn, typed byte) string {
	t.Helper()
	for {
		if err := c.fill(); err != nil {
			t.Fatal(err)
		}
		for {
			typ, body, ok := c.next()
			if !ok {
				break
			}
			if typ == frameError {
				t.Fatal(parseServerError(body))
			}
			if m, ok := parseWALData(body); ok && m.data[0] == typed {
				return string(m.data)
			}
		}
	}
}
