package test

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// A broker forgets a producer whose newest record is stamped longer ago than it remembers producers, and then takes for new
// what is sent again because an answer was lost. Rows of a backlog would be stamped so by their commits.
func TestBacklogOfDaysIsPublishedOnceThoughAnswersAreLost(t *testing.T) {
	t.Parallel()
	const age, rows = 48 * time.Hour, 2000
	proxy, network := harness.NewProxy(t, ""), &harness.Lossy{Every: 3, Unbounded: "producer.id.expiration.ms"}
	proxy.SetFilter(network.Filter)
	kafka := harness.NewKafka(t, harness.KafkaOptions{
		Listeners: []harness.KafkaListener{{Name: "LOSSY", Protocol: "PLAINTEXT", Proxies: []*harness.Proxy{proxy}}},
		Settings:  map[string]string{"producer.id.expiration.ms": "10000", "producer.id.expiration.check.interval.ms": "10"},
	})
	repeats := func(t *testing.T, config string) (n int) {
		t.Helper()
		pg := sharedPostgres(t)
		past := harness.NewProxy(t, pg.Addr())
		past.SetFilter(func() harness.Filter { return harness.Backdate(age) })
		s := newStage(t, pg)
		kafka.CreateTopic(t, s.topic("a"), 3, 1, nil)
		u, err := url.Parse(s.url)
		if err != nil {
			t.Fatal(err)
		}
		u.Host = past.Addr()
		before := network.Lost()
		relay := harness.StartRelay(t, harness.RelayOptions{Name: s.name, Postgres: u.String(), Kafka: []string{proxy.Addr()}, Config: config})
		relay.AwaitState(t, cdc.Relaying, patience)
		for i := 0; i < rows; i += 100 {
			s.insertN(t, "a", 100)
			harness.AwaitRecords(t, kafka.Brokers(), int64(i+100), patience, s.topic("a")) // many requests
		}
		harness.Eventually(t, patience, "all rows", func() error {
			seen := ids(t, kafka.Brokers(), s.topic("a"))
			n = 0
			for _, times := range seen {
				n += times - 1
			}
			if len(seen) != rows {
				return fmt.Errorf("there are %d", len(seen))
			}
			return nil
		})
		for _, r := range harness.ReadAll(t, kafka.Brokers(), s.topic("a"))[:10] {
			told := harness.Header(r, "outrider-commit-time")
			if at, err := time.Parse(time.RFC3339Nano, told); config == exactly && (err != nil || time.Since(at) < age || time.Since(r.Timestamp) > age/2) {
				t.Errorf("stamped %s, and committed at %q", r.Timestamp, told)
			}
		}
		lost := network.Lost() - before
		t.Logf("%d answers lost, %d records repeated", lost, n)
		if lost == 0 {
			t.Error("no answer was lost: nothing is shown")
		}
		return n
	}
	t.Run("with the stamps of the relay", func(t *testing.T) {
		if n := repeats(t, exactly); n > 0 {
			t.Errorf("%d records are there twice", n)
		}
	})
	t.Run("with those of the commits", func(t *testing.T) {
		if n := repeats(t, "kafka: { delivery: exactly-once, max_timestamp_age: 100h }\n"); n == 0 {
			t.Error("nothing was repeated: it is not the stamps that keep the others from it")
		}
	})
}
