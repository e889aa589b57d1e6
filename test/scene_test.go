package test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// Settings of a relay under test.
const (
	exactlyOnce = "kafka: { delivery: exactly-once }\n"
	atLeastOnce = "kafka: { delivery: at-least-once }\n"
)

// scene is what most tests play in: a database with an empty outbox, a topic, and the relay that is to come between them.
type scene struct {
	name    string // of the relay, and the aggregate type of its rows
	url     string // of the database
	topic   string
	brokers []string
	conn    *pgx.Conn
	config  string // of the relay
}

// partitions of a scene's topic.
const partitions = 6

func newScene(t *testing.T, pg *harness.Postgres, kafka *harness.Kafka, config string) *scene {
	t.Helper()
	s := &scene{name: uniqueName(t), url: pg.NewDatabase(t), brokers: kafka.Brokers(), config: config}
	s.topic = "outbox.event." + s.name
	kafka.CreateTopic(t, s.topic, partitions, 1, nil)
	s.conn = harness.Connect(t, s.url)
	harness.CreateOutbox(t, s.conn)
	return s
}

// start starts a relay, and may be called again for another one of the same name.
func (s *scene) start(t *testing.T) *harness.Relay {
	t.Helper()
	return harness.StartRelay(t, harness.RelayOptions{Name: s.name, Postgres: s.url, Kafka: s.brokers, Config: s.config})
}

// relaying starts a relay and waits until it streams.
func (s *scene) relaying(t *testing.T) *harness.Relay {
	t.Helper()
	relay := s.start(t)
	relay.AwaitState(t, cdc.Relaying, patience)
	return relay
}

// slot is the relay's.
func (s *scene) slot() string { return "outrider_" + s.name }

// awaitDelivered waits for all rows and checks them.
func (s *scene) awaitDelivered(t *testing.T, repeats harness.Repeats) {
	t.Helper()
	harness.AwaitDelivered(t, s.conn, s.brokers, repeats, patience, s.topic)
}

// reconnect replaces the scene's connection after its server was down.
func (s *scene) reconnect(t *testing.T) {
	t.Helper()
	s.conn = harness.Connect(t, s.url)
}

// queryRow reads one row.
func queryRow(t *testing.T, conn *pgx.Conn, sql string, args []any, into ...any) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(into...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// patience is for what takes a second on an idle machine: how long it takes on a busy one is not what these tests are about.
const patience = time.Minute
