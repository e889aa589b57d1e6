package sink

import (
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// described is what a broker of three tells of topic a.
func described(partitions int) *metadata.Response {
	return &metadata.Response{
		Brokers: []metadata.ResponseBroker{{NodeID: 1, Host: "one", Port: 9092}, {NodeID: 2, Host: "two", Port: 9092}, {NodeID: 3, Host: "three", Port: 9092}},
		Topics:  []metadata.ResponseTopic{{Name: "a", Partitions: make([]metadata.ResponsePartition, partitions)}},
	}
}

// Kafka takes no partition away: a broker that knows of fewer lags behind, unless all of them do.
func TestFewerPartitionsAreBelievedWhenAllBrokersTellOfThem(t *testing.T) {
	type word struct {
		broker     string
		partitions int
	}
	for name, tc := range map[string]struct {
		told   []word
		anew   bool
		doubts int
	}{
		"one lags":                         {told: []word{{"one", 2}, {"two", 5}}, doubts: 1},
		"one lags, and is asked again":     {told: []word{{"one", 2}, {"one", 2}, {"one", 2}}, doubts: 3},
		"two lag, and one has caught up":   {told: []word{{"one", 2}, {"two", 2}, {"three", 5}}, doubts: 2},
		"each lags in its turn":            {told: []word{{"one", 2}, {"two", 2}, {"one", 5}, {"three", 2}}, doubts: 3},
		"it has grown meanwhile":           {told: []word{{"one", 2}, {"two", 6}}, doubts: 1},
		"it was made anew":                 {told: []word{{"one", 2}, {"two", 2}, {"three", 2}}, anew: true, doubts: 2},
		"through an address of no broker":  {told: []word{{"balancer", 2}, {"one", 2}, {"two", 2}, {"three", 2}}, anew: true, doubts: 3},
		"its partitions are not there yet": {told: []word{{"one", 0}, {"two", 5}}, doubts: 1},
	} {
		for _, once := range []bool{false, true} {
			s := newIdle(t, 5)
			if once {
				s.fence = newFence(s.Kafka, newMemory())
				s.fence.enlist(&scanned{Registration: Registration{Topic: "a", Partition: 3}, marker: -1})
			}
			doubts := 0
			for _, w := range tc.told {
				res := described(w.partitions)
				doubted := s.doubt(net.JoinHostPort(w.broker, "9092"), res)
				if doubted != nil {
					doubts++
				}
				if kept := len(res.Topics) == 1; kept != (w.partitions >= 5) {
					t.Errorf("%s: %d partitions are taken over: %v", name, w.partitions, kept)
				}
			}
			var lost *Verdict
			if doubts != tc.doubts || (s.err != nil) != tc.anew || tc.anew && errors.As(s.err, &lost) != once {
				t.Errorf("%s, exactly once %v: doubted %d times, and the session ends with %v", name, once, doubts, s.err)
			}
		}
	}
}

// lag makes a broker tell of two partitions of topic a.
func (c *cluster) lag(lags *[3]atomic.Bool) {
	c.ControlKey(kmsg.Metadata.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		asked := req.(*kmsg.MetadataRequest).Topics
		if !lags[c.CurrentNode()].Load() || !slices.ContainsFunc(asked, func(t kmsg.MetadataRequestTopic) bool { return *t.Topic == "a" }) {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.MetadataResponse)
		for id, addr := range c.ListenAddrs() {
			host, port, _ := net.SplitHostPort(addr)
			n, _ := strconv.Atoi(port)
			res.Brokers = append(res.Brokers, kmsg.MetadataResponseBroker{NodeID: int32(id), Host: host, Port: int32(n)})
		}
		t := kmsg.NewMetadataResponseTopic()
		t.Topic = kmsg.StringPtr("a")
		for p := range int32(2) {
			t.Partitions = append(t.Partitions, kmsg.MetadataResponseTopicPartition{Partition: p})
		}
		res.Topics = append(res.Topics, t)
		return res, nil, true
	})
}

func TestBrokerThatLagsBehindIsNotBelieved(t *testing.T) {
	c, m := newCluster(t, kfake.NumBrokers(3), kfake.SeedTopics(5, "a")), newMemory()
	var lags [3]atomic.Bool
	c.lag(&lags)
	s := startSession(t, c, exactlyOnce(m))
	everywhere := func() {
		t.Helper()
		for p := range int32(5) {
			s.append("a", p, 10)
		}
		s.until("all is acked", func() bool { return s.records == 0 })
	}
	everywhere()
	lags[0].Store(true)
	s.askRefresh()
	s.until("it is doubted", func() bool { return len(s.logs.with("it lags behind")) > 0 })
	everywhere()
	s.until("another broker is believed", func() bool { return s.troubles.worst() == "" })
	s.goesOn()
	for i := range lags {
		lags[i].Store(true)
	}
	s.askRefresh()
	var lost *Verdict
	if err := s.fails(); !errors.As(err, &lost) || lost.Name != "kafka lost data" || !strings.Contains(lost.Reason, "its topic has 2 partitions") {
		t.Errorf("it ended with %v", err)
	}
}

// A session that begins with what a broker knows that lags behind would send keys back to partitions where they were before.
func TestSessionDoesNotBeginWithFewerPartitionsThanAreRegistered(t *testing.T) {
	c, m := newCluster(t, kfake.NumBrokers(3), kfake.SeedTopics(5, "a")), newMemory()
	for p := range int32(5) {
		m.register("a", p, 0, false)
	}
	var lags [3]atomic.Bool
	lags[0].Store(true)
	lags[1].Store(true)
	s := newSession(t, c, exactlyOnce(m))
	c.lag(&lags)
	s.run()
	s.append("a", 4, 10)
	s.drain()
	for i := range lags {
		lags[i].Store(false)
	}
	s.checkDelivered("a")
}
