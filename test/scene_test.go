package test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

const atLeastOnce = "kafka: { delivery: at-least-once }\n"

// scene is a stage with one topic, and the settings of the relay that is to come between the two.
type scene struct {
	*stage
	kind        string // aggregate type of all rows
	destination string // the topic that they are to arrive in
	brokers     []string
	config      string // of the relay
}

func newScene(t *testing.T, pg *harness.Postgres, kafka *harness.Kafka, config string) *scene {
	t.Helper()
	stage := newStage(t, pg)
	s := &scene{stage: stage, kind: stage.aggregate("order"), destination: stage.topic("order"), brokers: kafka.Brokers(), config: config}
	kafka.CreateTopic(t, s.destination, 6, 1, nil)
	return s
}

// launch starts a relay, and may be called again for another one of the same name; relaying waits until it streams.
func (s *scene) launch(t *testing.T) *harness.Relay {
	t.Helper()
	return s.start(t, s.brokers, s.config)
}

func (s *scene) relaying(t *testing.T) *harness.Relay {
	t.Helper()
	relay := s.launch(t)
	relay.AwaitState(t, cdc.Relaying, patience)
	return relay
}

// awaitDelivered waits for all rows and checks them.
func (s *scene) awaitDelivered(t *testing.T, repeats harness.Repeats) {
	t.Helper()
	harness.AwaitDelivered(t, s.conn, s.brokers, repeats, patience, s.destination)
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
