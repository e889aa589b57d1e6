package test

import (
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

func TestMissingTopicHoldsOnlyItselfUntilItIsMade(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	kafka.CreateTopic(t, s.topic("there"), 3, 1, nil)
	relay := s.startRelaying(t, kafka.Brokers(), "")
	before := s.commit(t, func() { harness.WriteRows(t, s.conn, s.aggregate("missing"), 1, 500, 100) })
	awaitDegraded(t, relay, s.topic("missing"), 20*time.Second)
	harness.WriteRows(t, s.conn, s.aggregate("there"), 501, 1000, 100)
	harness.AwaitRecords(t, kafka.Brokers(), 500, 20*time.Second, s.topic("there"))
	if body, code, err := relay.Get("/readyz"); err != nil || code != 503 {
		t.Errorf("/readyz: %d %s %v", code, body, err)
	}
	if s.confirmedBeyond(t, before) {
		t.Error("the slot has let go of rows whose topic is missing")
	}

	kafka.CreateTopic(t, s.topic("missing"), 3, 1, nil)
	harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, 20*time.Second, s.topic("there"), s.topic("missing"))
	if st := relay.AwaitState(t, cdc.Relaying, 20*time.Second); len(st.Sessions) > 0 {
		t.Errorf("sessions ended: %v", st.Sessions)
	}
}

func TestMissingTopicIsMadeAsAskedFor(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	s.startRelaying(t, kafka.Brokers(), `
kafka:
  topics: { create: true, partitions: 4, replication_factor: 1, config: { retention.ms: "86400123" } }
`)
	harness.WriteRows(t, s.conn, s.aggregate("new"), 1, 500, 100)
	harness.Eventually(t, 20*time.Second, "the topic", func() error {
		topics, err := harness.Admin(t, kafka.Brokers()).ListTopics(t.Context(), s.topic("new"))
		if err == nil {
			err = topics.Error()
		}
		return err
	})
	harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, 20*time.Second, s.topic("new"))
	adm := harness.Admin(t, kafka.Brokers())
	topics, err := adm.ListTopics(t.Context(), s.topic("new"))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(topics[s.topic("new")].Partitions); n != 4 {
		t.Errorf("%d partitions, not 4", n)
	}
	configs, err := adm.DescribeTopicConfigs(t.Context(), s.topic("new"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range configs[0].Configs {
		if c.Key == "retention.ms" && c.MaybeValue() != "86400123" {
			t.Errorf("retention.ms %s", c.MaybeValue())
		}
	}
}
