package test

import (
	"fmt"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// impatient settings let a relay notice within a second what takes half a minute by default.
const impatient = `
kafka: { max_in_flight_bytes: 2MiB, batch_bytes: 256KiB }
timeouts: { broker: 1s }
`

func TestKafkaAwayOutlivesWALSenderTimeout(t *testing.T) {
	t.Parallel()
	kafka, s := harness.NewKafka(t, harness.KafkaOptions{}), newStage(t, sharedPostgres(t))
	const timeout = 2 * time.Second // the relay reports every second
	harness.Exec(t, s.conn, fmt.Sprintf(`alter database %s set wal_sender_timeout = '%dms'`, s.conn.Config().Database, timeout.Milliseconds()))
	kafka.CreateTopic(t, s.topic("a"), 3, 1, nil)
	relay := s.startRelaying(t, kafka.Brokers(), impatient)
	harness.WriteRows(t, s.conn, s.aggregate("a"), 1, 100, 100)
	harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, 20*time.Second, s.topic("a"))

	node := kafka.Nodes[0]
	node.Pause()
	t.Cleanup(node.Resume)
	before := s.commit(t, func() { harness.WriteRows(t, s.conn, s.aggregate("a"), 101, 500, 100) }) // received whole
	harness.WriteRows(t, s.conn, s.aggregate("a"), 501, 20_000, 1000)                               // more than may be in flight
	awaitDegraded(t, relay, node.Addr, 20*time.Second)
	awaitStandstill(t, relay)

	walsender, memory := s.walsender(t), usage(t, relay).RSS
	harness.Throughout(t, 3*timeout, "a relay that waits for Kafka", func() error {
		if now := s.walsender(t); now != walsender {
			return fmt.Errorf("walsender %d, not %d", now, walsender)
		}
		if s.confirmedBeyond(t, before) {
			return fmt.Errorf("the slot has let go of rows that Kafka does not have, beyond %s", before)
		}
		if body, code, err := relay.Get("/healthz"); err != nil || code != 200 {
			return fmt.Errorf("/healthz: %d %s %w", code, body, err)
		}
		return nil
	})
	if now := usage(t, relay).RSS; now > memory+4<<20 {
		t.Errorf("memory grew from %d to %d bytes", memory, now)
	}
	if body, code, _ := relay.Get("/readyz"); code != 503 {
		t.Errorf("/readyz: %d %s", code, body)
	}

	node.Resume()
	harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, 30*time.Second, s.topic("a"))
	st := relay.AwaitState(t, cdc.Relaying, 20*time.Second)
	if len(st.Sessions) > 0 {
		t.Errorf("sessions ended: %v", st.Sessions)
	}
}

// awaitStandstill waits until what Kafka does not take has stopped intake.
func awaitStandstill(t *testing.T, r *harness.Relay) {
	t.Helper()
	var received string
	var since time.Time
	harness.Eventually(t, 20*time.Second, "standstill of intake", func() error {
		st, err := r.Status()
		if err != nil {
			return err
		}
		if st.LSN.Received != received {
			received, since = st.LSN.Received, time.Now()
		}
		if time.Since(since) < time.Second || st.InFlight.Records == 0 {
			return fmt.Errorf("received %s for %s, in flight %+v", received, time.Since(since), st.InFlight)
		}
		return nil
	})
}

func usage(t *testing.T, r *harness.Relay) harness.Usage {
	t.Helper()
	u, err := r.Usage()
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestHalfOpenBrokerConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	s, proxy := newStage(t, sharedPostgres(t)), harness.NewProxy(t, "")
	kafka := harness.NewKafka(t, harness.KafkaOptions{Listeners: []harness.KafkaListener{{Name: "PROXIED", Protocol: "PLAINTEXT", Proxies: []*harness.Proxy{proxy}}}})
	kafka.CreateTopic(t, s.topic("a"), 3, 1, nil)
	relay := s.startRelaying(t, []string{proxy.Addr()}, impatient)
	writer := harness.StartWriter(t, s.url, 2*time.Millisecond, 100, s.aggregate("a"))
	for round := range 3 {
		harness.AwaitRecords(t, kafka.Brokers(), writer.Count()+100, 20*time.Second, s.topic("a"))
		proxy.Freeze()
		frozen := writer.Count()
		// Timeouts are a second, and the second one is for whichever answer was on its way.
		harness.AwaitRecords(t, kafka.Brokers(), frozen+1000, 10*time.Second, s.topic("a"))
		t.Logf("round %d: on again with %d rows", round, writer.Count())
	}
	writer.Stop(t)
	harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, 20*time.Second, s.topic("a"))
	if st := relay.AwaitState(t, cdc.Relaying, 20*time.Second); len(st.Sessions) > 0 {
		t.Errorf("sessions ended: %v", st.Sessions)
	}
}

func TestBrokerKilledUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	kafka, s := harness.NewKafka(t, harness.KafkaOptions{}), newStage(t, sharedPostgres(t))
	kafka.CreateTopic(t, s.topic("a"), 3, 1, nil)
	relay := s.startRelaying(t, kafka.Brokers(), impatient)
	writer := harness.StartWriter(t, s.url, time.Millisecond, 200, s.aggregate("a"))
	harness.AwaitRecords(t, kafka.Brokers(), 500, 20*time.Second, s.topic("a"))
	node := kafka.Nodes[0]
	node.Kill()
	down := writer.Count()
	awaitDegraded(t, relay, node.Addr, 20*time.Second)
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	harness.AwaitRecords(t, kafka.Brokers(), down+500, 30*time.Second, s.topic("a"))
	writer.Stop(t)
	st := relay.AwaitState(t, cdc.Relaying, 30*time.Second)
	harness.AwaitDelivered(t, s.conn, kafka.Brokers(), repeatsOf(st), 30*time.Second, s.topic("a"))
}
