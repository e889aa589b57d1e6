package cdc_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/outrider-relay/outrider/cdc"
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
	cdc.NewDatabase = func(t testing.TB) string {
		t.Helper()
		p, err := server()
		if err != nil {
			t.Fatalf("start Postgres: %v", err)
		}
		return p.NewDatabase(t)
	}
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop Postgres:", err)
		code = 1
	}
	os.Exit(code)
}
