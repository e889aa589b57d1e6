package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// side is one of two relays that must not be: they have a name in common, and each has a slot and a database of its own.
type side struct {
	*scene
	relay  *harness.Relay
	writer *harness.Writer
}

// startRivals starts two relays of one name, and lets both have something to send.
func startRivals(t *testing.T, kafka *harness.Kafka, oneTopic bool) (sides [2]*side) {
	t.Helper()
	pg := sharedPostgres(t)
	for i := range sides {
		sides[i] = &side{scene: newScene(t, pg, kafka, exactly)}
	}
	name := sides[0].name
	for _, s := range sides {
		if oneTopic {
			s.kind, s.destination = sides[0].kind, sides[0].destination
		}
		s.relay = harness.StartRelay(t, harness.RelayOptions{
			Name: name, Postgres: s.url, Kafka: s.brokers, Config: s.config + "postgres: { slot: " + s.slot() + " }\n",
		})
		s.relay.AwaitState(t, cdc.Relaying, patience)
		s.writer = harness.StartWriter(t, s.url, 10*time.Millisecond, 100, s.kind)
	}
	return sides
}

// awaitBlocked gives the side that is blocked, and the other one.
func awaitBlocked(t *testing.T, sides [2]*side) (blocked, other *side) {
	t.Helper()
	harness.Eventually(t, patience, "one of two relays of one name is blocked", func() error {
		for i, s := range sides {
			st, err := s.relay.Status()
			if err != nil {
				return err
			}
			if st.State == cdc.Halted {
				if !strings.Contains(st.Reason, "another relay of the name "+sides[0].name+" writes to this Kafka cluster") {
					t.Fatalf("blocked for another reason: %s", st.Reason)
				}
				blocked, other = s, sides[1-i]
				return nil
			}
		}
		return fmt.Errorf("none is")
	})
	return blocked, other
}

func sessionsOf(st cdc.Status) (n int64) {
	for _, count := range st.Sessions {
		n += count
	}
	return n
}

// Nothing in either database keeps the two apart, and each fences the other.
func TestTwoRelaysOfOneNameEndBlockedInsteadOfTakingTurns(t *testing.T) {
	t.Parallel()
	t.Run("OneTopic", func(t *testing.T) { blockRivals(t, sharedKafka(t), true) }) // where they read each other's events back
	t.Run("TwoTopics", func(t *testing.T) {
		long(t)
		// They notice each other only when they renew, in a quarter of the time for which a broker remembers.
		blockRivals(t, harness.NewKafka(t, harness.KafkaOptions{Settings: map[string]string{"producer.id.expiration.ms": "2000"}}), false)
	})
}

// blockRivals waits until one of two is blocked, stops the other, and lets the first go on.
func blockRivals(t *testing.T, kafka *harness.Kafka, oneTopic bool) {
	t.Helper()
	sides := startRivals(t, kafka, oneTopic)
	name := sides[0].name
	blocked, other := awaitBlocked(t, sides)
	other.relay.AwaitState(t, cdc.Relaying, patience)
	if shown := resolve(t, blocked.url, "--name", name); !strings.Contains(shown, "name in use") || !strings.Contains(shown, "resolve --name "+name+" --accept-repeats") {
		t.Errorf("resolve shows\n%s", shown)
	}
	st, err := blocked.relay.Status()
	if err != nil {
		t.Fatal(err)
	}
	before := sessionsOf(st)
	harness.Throughout(t, 2*time.Second, "a blocked relay", func() error {
		st, err := blocked.relay.Status()
		if n := sessionsOf(st); err == nil && (st.State != cdc.Halted || n != before) {
			err = fmt.Errorf("it is %s after %d sessions, and was blocked after %d", st.State, n, before)
		}
		return err
	})
	if code := other.relay.Stop(t); code != 0 {
		t.Errorf("exit code %d of the other one", code)
	}
	resolve(t, blocked.url, "--name", name, "--accept-repeats")
	blocked.relay.AwaitState(t, cdc.Relaying, patience)
	other.writer.Stop(t)
	blocked.writer.Stop(t)
	if !oneTopic { // which has the other one's rows too
		blocked.awaitDelivered(t, harness.MayRepeat)
	}
	blocked.relay.Stop(t)
}
