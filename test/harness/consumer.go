package harness

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Admin is an independent client for administration, closed with the test.
func Admin(t testing.TB, brokers []string) *kadm.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatalf("client of %v: %v", brokers, err)
	}
	t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}

// CreateTopic makes a topic, and returns when all its partitions have a leader.
func CreateTopic(t testing.TB, brokers []string, name string, partitions int32, replicas int16, config map[string]string) {
	t.Helper()
	adm := Admin(t, brokers)
	settings := make(map[string]*string, len(config))
	for k, v := range config {
		settings[k] = &v
	}
	res, err := adm.CreateTopic(t.Context(), partitions, replicas, settings, name)
	if err == nil {
		err = res.Err
	}
	if err != nil {
		t.Fatalf("create topic %s: %v", name, err)
	}
	Eventually(t, 30*time.Second, "leaders of "+name, func() error {
		_, err := adm.ListEndOffsets(t.Context(), name)
		return err
	})
}

// ReadAll reads topics from their beginning to their present ends, uncommitted records included, by an independent client.
func ReadAll(t testing.TB, brokers []string, topics ...string) []*kgo.Record {
	t.Helper()
	var records []*kgo.Record
	EachRecord(t, brokers, func(r *kgo.Record) { records = append(records, r) }, topics...)
	return records
}

// EachRecord is ReadAll for more records than memory should hold.
func EachRecord(t testing.TB, brokers []string, each func(*kgo.Record), topics ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	adm := Admin(t, brokers)
	ends, err := adm.ListEndOffsets(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		t.Fatalf("ends of %v: %v", topics, err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadUncommitted()), kgo.KeepControlRecords())
	if err != nil {
		t.Fatalf("consumer of %v: %v", topics, err)
	}
	defer cl.Close()
	left := make(map[string]map[int32]int64)
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			if left[o.Topic] == nil {
				left[o.Topic] = make(map[int32]int64)
			}
			left[o.Topic][o.Partition] = o.Offset
		}
	})
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("read %v: %v; still to come: %v", topics, err, left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			end, open := left[r.Topic][r.Partition]
			if !open {
				return
			}
			if r.Offset >= end-1 {
				delete(left[r.Topic], r.Partition)
				if len(left[r.Topic]) == 0 {
					delete(left, r.Topic)
				}
			}
			if !r.Attrs.IsControl() {
				each(r)
			}
		})
	}
}

// EndOffsets sums the ends of topics: the number of records, and markers, that were ever written.
func EndOffsets(t testing.TB, brokers []string, topics ...string) int64 {
	t.Helper()
	sum, err := endOffsets(t.Context(), Admin(t, brokers), topics)
	if err != nil {
		t.Fatalf("ends of %v: %v", topics, err)
	}
	return sum
}

func endOffsets(ctx context.Context, adm *kadm.Client, topics []string) (sum int64, err error) {
	ends, err := adm.ListEndOffsets(ctx, topics...)
	if err != nil {
		return 0, err
	}
	ends.Each(func(o kadm.ListedOffset) { sum += max(0, o.Offset) })
	return sum, nil
}

// Header gives the value of a record's last header of that name; empty when there is none.
func Header(r *kgo.Record, name string) string {
	value := ""
	for _, h := range r.Headers {
		if h.Key == name {
			value = string(h.Value)
		}
	}
	return value
}
