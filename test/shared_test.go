package test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/test/harness"
)

func TestMain(m *testing.M) {
	if consumer := os.Getenv(inboxEnv); consumer != "" {
		os.Exit(runInboxConsumer(consumer))
	}
	os.Exit(harness.Main(m))
}

// The servers that the tests of this binary share. A test that stops, kills or stalls a server starts one of its own.
//
// Tests mostly wait, so they run side by side (t.Parallel), as many as there are processors. Those run alone, before the
// others, that share the three brokers which they stop, or whose claim is a measure: of memory, or of a moment.

func sharedPostgres(t testing.TB) *harness.Postgres {
	t.Helper()
	pg, err := harness.SharedPostgres()
	if err != nil {
		t.Fatalf("start the shared Postgres: %v", err)
	}
	return pg
}

func sharedKafka(t testing.TB) *harness.Kafka {
	t.Helper()
	kafka, err := harness.SharedKafka()
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
