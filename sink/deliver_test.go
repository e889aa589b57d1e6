package sink

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// produceFault answers produce requests of a partition with an error.
func produceFault(topic string, partition int32, code int16, count int) kfake.Fault {
	return kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Partitions: []int32{partition},
		Err: kerr.ErrorForCode(code).(*kerr.Error), Count: count,
	}
}

func TestRowsArriveOnceAndInOrder(t *testing.T) {
	c := newCluster(t, kfake.NumBrokers(3), kfake.SeedTopics(5, "a", "b"))
	s := startSession(t, c, func(cfg *Config) { cfg.BatchBytes = 4 << 10 })
	for range 200 {
		s.Begin()
		for i := range 20 {
			topic, shard := []string{"a", "b"}[i%2], int32(i%5)
			if err := s.give(topic, shard, s.row(topic, shard, 50)); err != nil {
				t.Fatal(err)
			}
		}
		s.End()
	}
	s.drain()
	s.checkDelivered("a")
	s.checkDelivered("b")
}

// Every code that passes is met by a queue with more batches on their way: those behind are refused as gaps, or not tried.
func TestErrorsThatPassDelayAndNeitherLoseNorRepeat(t *testing.T) {
	for code, known := range errorCodes {
		if !slices.Contains([]class{classRetry, classMetadata}, known.class) && !slices.Contains([]int16{3, 17, 29}, code) {
			continue // the other codes of topics are answers to CreateTopics
		}
		t.Run(known.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, kfake.SeedTopics(2, "a"))
			s := startSession(t, c)
			s.append("a", 0, 10)
			s.append("a", 1, 10)
			s.until("both partitions have acked", func() bool { return s.records == 0 })
			c.Fault(produceFault("a", 0, code, 2))
			for range 4 {
				s.batch("a", 0, 10, 10)
			}
			s.batch("a", 1, 10, 10)
			s.drain()
			s.checkDelivered("a")
		})
	}
}

func TestErrorsOfABrokenProducerEndTheSession(t *testing.T) {
	for code, known := range errorCodes {
		if !slices.Contains([]class{classFatal, classFenced, classState}, known.class) {
			continue
		}
		t.Run(known.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, kfake.SeedTopics(1, "a"))
			s := startSession(t, c)
			c.Fault(produceFault("a", 0, code, 1))
			s.append("a", 0, 10)
			err := s.fails()
			if !strings.Contains(err.Error(), known.name) || !strings.Contains(err.Error(), "a/0") {
				t.Errorf("%q does not name the error and the partition", err)
			}
			if err := s.tryAppend("a", 0, 10); err == nil {
				t.Error("a session that has ended takes rows")
			}
		})
	}
}
