package sink

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchAnswer is one in every field that the version has.
func fetchAnswer(version int16) []byte {
	res := kmsg.NewPtrFetchResponse()
	res.SetVersion(version)
	res.ThrottleMillis, res.SessionID = 1, 2
	for _, name := range []string{"a", "b"} {
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic = name
		for n := range int32(2) {
			p := kmsg.NewFetchResponseTopicPartition()
			p.Partition, p.ErrorCode, p.HighWatermark, p.LastStableOffset, p.LogStartOffset = n, int16(n), 10+int64(n), 5, 3
			p.AbortedTransactions = make([]kmsg.FetchResponseTopicPartitionAbortedTransaction, n)
			p.RecordBatches = bytes.Repeat([]byte(name), int(7*n))
			topic.Partitions = append(topic.Partitions, p)
		}
		res.Topics = append(res.Topics, topic)
	}
	return res.AppendTo(nil)
}

func TestFetchIsReadInEveryVersion(t *testing.T) {
	for version := int16(firstFetch); version <= lastFetch; version++ {
		body := fetchAnswer(version)
		got, err := readFetch(version, body)
		if err != nil {
			t.Fatalf("v%d: %v", version, err)
		}
		want := []fetched{
			{place: place{"a", 0}, highWatermark: 10},
			{place{"a", 1}, 1, 11, []byte("aaaaaaa")},
			{place: place{"b", 0}, highWatermark: 10},
			{place{"b", 1}, 1, 11, []byte("bbbbbbb")},
		}
		if !slices.EqualFunc(got, want, func(g, w fetched) bool {
			return g.place == w.place && g.code == w.code && g.highWatermark == w.highWatermark && bytes.Equal(g.records, w.records)
		}) {
			t.Errorf("v%d: %v", version, got)
		}
		for n := range body {
			if _, err := readFetch(version, body[:n]); !errors.Is(err, errCut) {
				t.Fatalf("v%d cut to %d of %d bytes: %v", version, n, len(body), err)
			}
		}
	}
	for _, version := range []int16{firstFetch - 1, lastFetch + 1} {
		if _, err := readFetch(version, fetchAnswer(version)); !errors.Is(err, errUnread) {
			t.Errorf("v%d: %v", version, err)
		}
	}
}

func FuzzFetch(f *testing.F) {
	for version := int16(firstFetch); version <= lastFetch; version++ {
		f.Add(version, fetchAnswer(version))
	}
	f.Fuzz(func(t *testing.T, version int16, body []byte) {
		all, err := readFetch(version, body)
		held := 0
		for _, a := range all {
			held += len(a.records)
		}
		if err == nil && held > len(body) {
			t.Fatalf("%d bytes of records in %d", held, len(body))
		}
	})
}
