package inbox_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	_ "github.com/lib/pq" // a driver of database/sql that is not pgx

	"github.com/outrider-relay/outrider/sink/inbox"
	"github.com/outrider-relay/outrider/test/harness"
)

// server is shared by the tests, each of which has a database of its own. It is started by the first that asks.
var server = sync.OnceValues(func() (*harness.Postgres, error) {
	p, err := harness.StartPostgres(context.Background(), harness.PostgresOptions{})
	if err == nil {
		stop = p.Close
	}
	return p, err
})

// stop ends the server, if there is one.
var stop = func() error { return nil }

func TestMain(m *testing.M) {
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop Postgres:", err)
		code = 1
	}
	os.Exit(code)
}

// newURL makes a database with an inbox and returns its URL.
func newURL(t *testing.T) string {
	t.Helper()
	p, err := server()
	if err != nil {
		t.Fatalf("start Postgres: %v", err)
	}
	url := p.NewDatabase(t)
	harness.Exec(t, harness.Connect(t, url), inbox.Schema())
	return url
}

// open is url by database/sql.
func open(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// query reads one value.
func query[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) (value T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}
