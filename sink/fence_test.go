package sink

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// newFenced makes a cluster with topic a of one partition, which the ledger has on record from its beginning.
func newFenced(t testing.TB) (*cluster, *memory) {
	t.Helper()
	c, m := newCluster(t, kfake.SeedTopics(1, "a")), newMemory()
	m.register("a", 0, 0, false)
	return c, m
}

// tryStart is New and Start.
func tryStart(t testing.TB, c *cluster, change ...func(*Config)) (*Kafka, error) {
	t.Helper()
	k := newKafka(t, c, change...)
	return k, k.tryStart()
}

func (k *Kafka) tryStart() error {
	ctx, cancel := context.WithTimeout(context.Background(), enough)
	defer cancel()
	return k.Start(ctx)
}

func newKafka(t testing.TB, c *cluster, change ...func(*Config)) *Kafka {
	t.Helper()
	cfg := Config{Name: "test", Brokers: c.ListenAddrs(), Routing: shardRouting}
	cfg.Conn.Timeout = 10 * time.Second
	for _, f := range change {
		f(&cfg)
	}
	k, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// answerFirst answers the first n requests of a kind by f, and counts all of them.
func (c *cluster) answerFirst(key kmsg.Key, n int32, f func(kmsg.Request) kmsg.Response) (asked *atomic.Int32) {
	asked = new(atomic.Int32)
	c.ControlKey(key.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if asked.Add(1) > n {
			return nil, nil, false
		}
		return f(req), nil, true
	})
	return asked
}

// Answers with an error code, or with success for something that was not done.
func initAnswer(code int16) func(kmsg.Request) kmsg.Response {
	return func(req kmsg.Request) kmsg.Response {
		res := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		res.ErrorCode = code
		return res
	}
}

func addAnswer(code func(topic string) int16) func(kmsg.Request) kmsg.Response {
	return func(req kmsg.Request) kmsg.Response {
		res := req.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
		for _, t := range req.(*kmsg.AddPartitionsToTxnRequest).Topics {
			topic := kmsg.AddPartitionsToTxnResponseTopic{Topic: t.Topic}
			for _, p := range t.Partitions {
				topic.Partitions = append(topic.Partitions, kmsg.AddPartitionsToTxnResponseTopicPartition{Partition: p, ErrorCode: code(t.Topic)})
			}
			res.Topics = append(res.Topics, topic)
		}
		return res
	}
}

// forbid makes the coordinator refuse transactions over a topic, and no others, as brokers do: kfake's own refusal does not say
// which topic it is about.
func (c *cluster) forbid(topic string) (refused *atomic.Int32) {
	refused = new(atomic.Int32)
	c.ControlKey(kmsg.AddPartitionsToTxn.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		named := slices.ContainsFunc(req.(*kmsg.AddPartitionsToTxnRequest).Topics, func(t kmsg.AddPartitionsToTxnRequestTopic) bool { return t.Topic == topic })
		if !named {
			return nil, nil, false
		}
		refused.Add(1)
		return addAnswer(func(other string) int16 {
			if other == topic {
				return codeTopicForbidden
			}
			return codeNotAttempted
		})(req), nil, true
	})
	return refused
}

func always(code int16) func(string) int16 { return func(string) int16 { return code } }

func endAnswer(code int16) func(kmsg.Request) kmsg.Response {
	return func(req kmsg.Request) kmsg.Response {
		res := req.ResponseKind().(*kmsg.EndTxnResponse)
		res.ErrorCode = code
		return res
	}
}

func TestFenceWaitsForWhatPassesByItself(t *testing.T) {
	cases := []struct {
		name   string
		key    kmsg.Key
		answer func(kmsg.Request) kmsg.Response
		want   int32 // requests: those that are answered, and one
	}{
		{"CONCURRENT_TRANSACTIONS to InitProducerID", kmsg.InitProducerID, initAnswer(51), 4},
		{"COORDINATOR_LOAD_IN_PROGRESS to InitProducerID", kmsg.InitProducerID, initAnswer(14), 4},
		{"CONCURRENT_TRANSACTIONS to AddPartitionsToTxn", kmsg.AddPartitionsToTxn, addAnswer(always(51)), 4},
		{"NOT_COORDINATOR to AddPartitionsToTxn", kmsg.AddPartitionsToTxn, addAnswer(always(16)), 4},
		{"CONCURRENT_TRANSACTIONS to EndTxn", kmsg.EndTxn, endAnswer(51), 4},
		{"NOT_COORDINATOR to EndTxn", kmsg.EndTxn, endAnswer(16), 4},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, m := newFenced(t)
			asked := c.answerFirst(tc.key, 3, tc.answer)
			k, err := tryStart(t, c, exactlyOnce(m))
			if err != nil {
				t.Fatal(err)
			}
			if n := asked.Load(); n != tc.want {
				t.Errorf("asked %d times, not %d", n, tc.want)
			}
			if trouble := k.Trouble(); trouble != "" {
				t.Errorf("still in trouble: %s", trouble)
			}
		})
	}
}

// An EndTxn whose answer was lost is refused when it is repeated: only the log tells whether the marker is there.
// A relay that was pointed at the wrong cluster must not stop the one that works there under its name.
func TestNothingIsFencedOnAnotherCluster(t *testing.T) {
	c, m := newFenced(t)
	m.otherCluster = errors.New("another cluster")
	var asked atomic.Int32
	c.ControlKey(int16(kmsg.InitProducerID), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		asked.Add(1)
		return nil, nil, false
	})
	if _, err := tryStart(t, c, exactlyOnce(m)); !errors.Is(err, m.otherCluster) {
		t.Errorf("Start says %v", err)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d epochs were taken", n)
	}
}

func TestEndedTransactionIsNoError(t *testing.T) {
	c, m := newFenced(t)
	ended := c.answerFirst(kmsg.EndTxn, 1, endAnswer(48))
	if _, err := tryStart(t, c, exactlyOnce(m)); err != nil {
		t.Fatal(err)
	}
	if n := ended.Load(); n != 2 {
		t.Errorf("%d transactions were ended, not a second one for the marker that the first did not leave", n)
	}
}

// EndTxn is answered before the markers are written, and a partition without a leader may never get its own.
func TestMissingMarkerIsAskedForAgain(t *testing.T) {
	c, m := newFenced(t)
	ended := c.answerFirst(kmsg.EndTxn, 2, endAnswer(0))
	k, err := tryStart(t, c, exactlyOnce(m))
	if err != nil {
		t.Fatal(err)
	}
	if n := ended.Load(); n != 3 {
		t.Errorf("%d transactions were ended, not 3", n)
	}
	if p := k.fence.marked[0]; p.marker != 0 {
		t.Errorf("the marker lies at %d, not at 0", p.marker)
	}
}

func TestForbiddenTransactionalIDSaysWhatToGrant(t *testing.T) {
	c, m := newFenced(t)
	c.answerFirst(kmsg.InitProducerID, 1, initAnswer(53))
	_, err := tryStart(t, c, exactlyOnce(m))
	var forbidden *permanent
	if !errors.As(err, &forbidden) || !strings.Contains(err.Error(), "--operation Write --operation Describe --transactional-id outrider.test") {
		t.Errorf("%v", err)
	}
}

// The markers of another producer id fence nothing of the one before: its last requests must have timed out.
func TestOtherProducerIDWaitsForTheRequestsOfTheOneBefore(t *testing.T) {
	for _, known := range []bool{false, true} {
		c, m := newFenced(t)
		if known {
			m.producers = []int64{4711}
		}
		const timeout = 300 * time.Millisecond
		said := &logs{}
		began := time.Now()
		k, err := tryStart(t, c, exactlyOnce(m), func(cfg *Config) { cfg.Conn.Timeout, cfg.Log = timeout, zerolog.New(said) })
		if err != nil {
			t.Fatal(err)
		}
		// A start that takes as long without waiting is no fault: the machine may be busy.
		if took, waits := time.Since(began), len(said.with("waiting until requests of the one before")) > 0; waits != known || known && took < timeout {
			t.Errorf("started after %s, waiting: %v, where another id is known: %v", took, waits, known)
		}
		if ids := m.Producers(); !slices.Contains(ids, k.producerID) {
			t.Errorf("producer id %d is not among %v", k.producerID, ids)
		}
	}
}

// One topic that is unknown or forbidden fails the whole request; all others are fenced without it.
func TestLostTopicIsLeftOutOfTheTransaction(t *testing.T) {
	for topic, told := range map[string]string{"gone": `["gone"]`, "b": "b (TOPIC_AUTHORIZATION_FAILED)"} {
		c, m := newCluster(t, kfake.SeedTopics(2, "a", "b")), newMemory()
		m.register("a", 0, 0, false)
		m.register("a", 1, 0, false)
		m.register(topic, 0, 0, false)
		c.forbid("b")
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "b", Err: kerr.TopicAuthorizationFailed, Count: -1})
		s := startSession(t, c, exactlyOnce(m))
		if said := s.Trouble() + strings.Join(s.logs.with("do not exist any more"), ""); !strings.Contains(said, told) {
			t.Errorf("%q does not name %q", said, told)
		}
		for _, p := range s.fence.marked {
			if (p.marker >= 0) != (p.Topic == "a") {
				t.Errorf("%s/%d has its marker at %d", p.Topic, p.Partition, p.marker)
			}
		}
		s.append("a", 0, 10)
		s.drain()
		s.end()
	}
}

func TestBrokerThatWritesNoMarkerIsRefused(t *testing.T) {
	c, m := newFenced(t)
	ended := c.answerFirst(kmsg.EndTxn, 1<<30, endAnswer(0))
	c.answerFirst(kmsg.AddPartitionsToTxn, 1<<30, addAnswer(always(0)))
	k := newKafka(t, c, exactlyOnce(m))
	k.fence.patience = 50 * time.Millisecond
	err := k.tryStart()
	var refused *permanent
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "exactly-once is not to be had") {
		t.Fatalf("%v", err)
	}
	if n := ended.Load(); n <= barrenRounds {
		t.Errorf("after %d transactions only", n)
	}
}

// What a slow cluster, or one that lacks a leader, shows proves nothing.
func TestMissingMarkersProveNothingOfASlowCluster(t *testing.T) {
	whole, marked := &scanned{marker: -1, whole: true}, &scanned{marker: 7, whole: true}
	leaderless := &scanned{marker: -1}
	for name, tc := range map[string]struct {
		all, read []*scanned
		patience  time.Duration
		refused   bool
	}{
		"nothing is written":          {[]*scanned{whole}, []*scanned{whole}, 0, true},
		"it has not been long":        {[]*scanned{whole}, []*scanned{whole}, time.Hour, false},
		"another partition got its":   {[]*scanned{marked, whole}, []*scanned{whole}, 0, false},
		"one could not be read":       {[]*scanned{whole, leaderless}, []*scanned{whole, leaderless}, 0, false},
		"no partition can be reached": {[]*scanned{leaderless}, nil, 0, false},
	} {
		s := &scan{fence: &fence{patience: tc.patience}, all: tc.all}
		var err error
		for range barrenRounds {
			if err = s.judgeMarkers(tc.read); err != nil {
				t.Errorf("%s: %v after too few rounds", name, err)
			}
		}
		if err = s.judgeMarkers(tc.read); (err != nil) != tc.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFenceByAnotherIsToldFromOneByOurselves(t *testing.T) {
	f := &fence{txnID: "outrider.test"}
	fencedBy := func(opened time.Time) bool {
		if f.opened.Store(0); !opened.IsZero() {
			f.opened.Store(opened.UnixNano())
		}
		var other *Fenced
		err := f.refused(&answerError{code: 90}, 90)
		return errors.As(err, &other) && other.TransactionalID() == "outrider.test"
	}
	if !fencedBy(time.Time{}) {
		t.Error("a fence while no transaction is open is not told to be another's")
	}
	if !fencedBy(time.Now()) {
		t.Error("a fence while one has just been opened is not told to be another's")
	}
	if fencedBy(time.Now().Add(-2 * txnTimeout)) {
		t.Error("a transaction that the coordinator has ended is told to be another relay's work")
	}
}

func TestFencedSessionNamesTheTransactionalID(t *testing.T) {
	c, m := newFenced(t)
	s := startSession(t, c, exactlyOnce(m))
	s.append("a", 0, 10)
	s.until("it is acked", func() bool { return s.records == 0 })
	if _, err := tryStart(t, c, exactlyOnce(newMemory())); err != nil {
		t.Fatal(err)
	}
	s.append("a", 0, 10)
	var fenced *Fenced
	if err := s.fails(); !errors.As(err, &fenced) || fenced.TransactionalID() != "outrider.test" {
		t.Errorf("it ended with %v", err)
	}
}
