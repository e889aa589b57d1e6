package test

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// At-least-once: nothing but the clean stop itself keeps a row from being sent again.
func TestCleanStopRepeatsNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), atLeastOnce)
	relay := s.relaying(t)
	load := startLoad(t, s, 4, 5*time.Millisecond)
	for range 4 {
		load.awaitRows(t, 500)
		if code := relay.Stop(t); code != 0 {
			t.Fatalf("exit code %d", code)
		}
		relay = s.relaying(t)
	}
	load.finish(t)
	s.awaitDelivered(t, harness.NoRepeats)
}

// stuckScene is a scene whose Kafka has stopped to answer while rows are in flight.
func stuckScene(t *testing.T, config string) (*scene, *harness.Relay, *harness.Kafka) {
	t.Helper()
	kafka := harness.NewKafka(t, harness.KafkaOptions{})
	s := newScene(t, sharedPostgres(t), kafka, config)
	relay := s.relaying(t)
	harness.WriteRows(t, s.conn, s.kind, 1, 100, 10)
	s.awaitDelivered(t, harness.NoRepeats)
	kafka.Nodes[0].Pause()
	harness.WriteRows(t, s.conn, s.kind, 101, 200, 10)
	harness.Eventually(t, patience, "rows are in flight", func() error {
		st, err := relay.Status()
		if err == nil && st.InFlight.Records < 100 {
			err = fmt.Errorf("%d are", st.InFlight.Records)
		}
		return err
	})
	return s, relay, kafka
}

func TestStopWithoutKafka(t *testing.T) {
	t.Parallel()
	s, relay, kafka := stuckScene(t, exactly+"timeouts: { drain: 1s }\n")
	t.Run("EndsAfterTheDrainTimeWith31", func(t *testing.T) {
		if code := relay.Stop(t); code != 31 {
			t.Errorf("exit code %d, not 31", code)
		}
		if last := lastLine(t, relay); !strings.Contains(last, "timeouts.drain") || !strings.Contains(last, "100 records that Kafka has not acked") {
			t.Errorf("the last line is %s", last)
		}
	})
	t.Run("LosesNothing", func(t *testing.T) {
		kafka.Nodes[0].Resume()
		s.relaying(t)
		s.awaitDelivered(t, harness.NoRepeats)
	})
}

// A network that swallows everything must not keep a stop, and a deployment, waiting for as long as TCP would. What could not be
// stored is no clean stop.
func TestStopWithAVanishedPostgresIsBounded(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly+"timeouts: { drain: 1s }\n")
	proxy := harness.NewProxy(t, s.conn.Config().Host+":"+fmt.Sprint(s.conn.Config().Port))
	direct := s.url
	s.url = "postgres://postgres@" + proxy.Addr() + "/" + s.conn.Config().Database + "?sslmode=disable"
	relay := s.relaying(t)
	harness.WriteRows(t, s.conn, s.kind, 1, 100, 10)
	s.awaitDelivered(t, harness.NoRepeats)
	proxy.Vanish(func([]byte) bool { return true })
	began := time.Now()
	if code := relay.Stop(t); code != 31 {
		t.Errorf("exit code %d, not 31", code)
	}
	if took := time.Since(began); took > 25*time.Second {
		t.Errorf("it took %s", took)
	}
	if last := lastLine(t, relay); !strings.Contains(last, "Postgres has not answered the last save") {
		t.Errorf("the last line is %s", last)
	}
	s.url = direct
	s.relaying(t)
	harness.WriteRows(t, s.conn, s.kind, 101, 200, 10)
	s.awaitDelivered(t, harness.NoRepeats)
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	t.Parallel()
	s, relay, kafka := stuckScene(t, exactly+"timeouts: { drain: 10m }\n")
	relay.Signal(syscall.SIGTERM)
	relay.AwaitState(t, cdc.Draining, patience)
	began := time.Now()
	relay.Signal(syscall.SIGTERM)
	if code := relay.ExitCode(t, patience); code != 31 {
		t.Errorf("exit code %d, not 31", code)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if last := lastLine(t, relay); !strings.Contains(last, "a second time") {
		t.Errorf("the last line is %s", last)
	}
	kafka.Nodes[0].Resume()
	s.relaying(t)
	s.awaitDelivered(t, harness.NoRepeats)
}

// lastLine is the message that an ended relay closed its log with.
func lastLine(t *testing.T, r *harness.Relay) string {
	t.Helper()
	log := r.Log()
	var line struct{ Message string }
	if err := json.Unmarshal([]byte(log[strings.LastIndexByte(log, '\n')+1:]), &line); err != nil {
		t.Fatalf("the log ends with something else than a line of JSON: %v", err)
	}
	return line.Message
}
