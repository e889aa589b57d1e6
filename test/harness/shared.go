package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
)

// shared is what Main closes.
var shared struct {
	sync.Mutex
	closers []io.Closer
}

// Share gives what start makes to all tests of a binary: it is made when the first of them asks, and closed by Main.
func Share[T io.Closer](start func() (T, error)) func() (T, error) {
	return sync.OnceValues(func() (T, error) {
		made, err := start()
		if err == nil {
			shared.Lock()
			defer shared.Unlock()
			shared.closers = append(shared.closers, made)
		}
		return made, err
	})
}

// Main runs the tests of a binary, closes what they have shared, and gives the exit code.
func Main(m *testing.M) (code int) {
	code = m.Run()
	var errs []error
	for _, made := range shared.closers {
		errs = append(errs, made.Close())
	}
	if err := errors.Join(append(errs, RemoveBuild())...); err != nil {
		fmt.Fprintln(os.Stderr, "clean up:", err)
		code = max(code, 1)
	}
	return code
}

var (
	sharedPostgres = Share(func() (*Postgres, error) { return StartPostgres(context.Background(), PostgresOptions{}) })
	sharedKafka    = Share(func() (*Kafka, error) { return StartKafka(context.Background(), KafkaOptions{}) })
)

// SharedPostgres is a server for all tests of a binary that leave it alone, each in a database of its own.
func SharedPostgres() (*Postgres, error) { return sharedPostgres() }

// SharedKafka is a broker for all tests of a binary that leave it alone, each with topics of its own.
func SharedKafka() (*Kafka, error) { return sharedKafka() }

// NewDatabase makes a database on the shared Postgres, and returns its URL.
func NewDatabase(t testing.TB) string {
	t.Helper()
	p, err := SharedPostgres()
	if err != nil {
		t.Fatalf("start Postgres: %v", err)
	}
	return p.NewDatabase(t)
}
