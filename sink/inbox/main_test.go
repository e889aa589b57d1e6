package inbox_test

import (
	"database/sql"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	_ "github.com/lib/pq" // a driver of database/sql that is not pgx

	"github.com/outrider-relay/outrider/sink/inbox"
	"github.com/outrider-relay/outrider/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// newURL makes a database with an inbox and returns its URL.
func newURL(t *testing.T) string {
	t.Helper()
	url := harness.NewDatabase(t)
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
