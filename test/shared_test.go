package test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/test/harness"
)

// Servers that the tests of this binary share, each started by the first test that wants it. A test that stops, kills or
// stalls a server starts one of its own.
var (
	startSharedPostgres = sync.OnceValues(func() (*harness.Postgres, error) {
		pg, err := harness.StartPostgres(context.Background(), harness.PostgresOptions{})
		return pg, share(pg, err)
	})
	startSharedKafka = sync.OnceValues(func() (*harness.Kafka, error) {
		kafka, err := harness.StartKafka(context.Background(), harness.KafkaOptions{})
		return kafka, share(kafka, err)
	})
)

// shared is what TestMain closes.
var shared struct {
	sync.Mutex
	servers []io.Closer
}

func share(server io.Closer, err error) error {
	if err != nil {
		return err
	}
	shared.Lock()
	defer shared.Unlock()
	shared.servers = append(shared.servers, server)
	return nil
}

func TestMain(m *testing.M) {
	if consumer := os.Getenv(inboxEnv); consumer != "" {
		os.Exit(runInboxConsumer(consumer))
	}
	code := m.Run()
	var errs []error
	for _, server := range shared.servers {
		errs = append(errs, server.Close())
	}
	if err := errors.Join(append(errs, harness.RemoveBuild())...); err != nil {
		fmt.Fprintln(os.Stderr, "clean up:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func sharedPostgres(t testing.TB) *harness.Postgres {
	t.Helper()
	pg, err := startSharedPostgres()
	if err != nil {
		t.Fatalf("start the shared Postgres: %v", err)
	}
	return pg
}

func sharedKafka(t testing.TB) *harness.Kafka {
	t.Helper()
	kafka, err := startSharedKafka()
	if err != nil {
		t.Fatalf("start the shared Kafka: %v", err)
	}
	return kafka
}

// long skips a test that takes minutes, unless TEST_LONG asks for those too (make test-all does).
func long(t testing.TB) {
	t.Helper()
	if os.Getenv("TEST_LONG") == "" {
		t.Skip("takes long: runs with TEST_LONG=1")
	}
}

// uniqueName names what a test has for itself on shared servers: its relay (and so its slot), its aggregate types (and so its topics).
func uniqueName(t testing.TB) string {
	t.Helper()
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(strings.TrimPrefix(t.Name(), "Test")))
	// A relay's name has 40 characters at most; the time tells apart what the first of them do not.
	return fmt.Sprintf("%.22s_%x", name, time.Now().UnixNano())
}
