package sink

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestBytesInFlightAreBounded(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(4, "a"))
	const bound = 1 << 20
	s := startSession(t, c, func(cfg *Config) { cfg.MaxInFlightBytes, cfg.BatchBytes = bound, 64<<10 })
	for shard := range int32(4) {
		s.append("a", shard, 10)
	}
	s.until("all is acked", func() bool { return s.records == 0 })
	stall := make(chan struct{})
	c.stalled.Store(&stall)

	var most atomic.Int64
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, bytes := s.InFlight()
				most.Store(max(most.Load(), bytes))
				runtime.Gosched()
			}
		}
	})
	var appended atomic.Int64
	others.Go(func() {
		for i := range int32(6000) { // five times the bound
			if err := s.tryAppend("a", i%4, 1000); err != nil {
				t.Error(err)
			}
			appended.Add(1)
		}
	})
	s.until("the reader waits for room", func() bool {
		return s.buffers.inUse > bound/2 && appended.Load() > 500 && readerWaits(s)
	})
	if n := appended.Load(); n >= 6000 {
		t.Fatal("everything was taken while the broker stood still")
	}
	c.stalled.Store(nil)
	close(stall)
	s.until("everything is appended", func() bool { return appended.Load() == 6000 })
	close(stop)
	others.Wait()
	s.drain()
	s.checkDelivered("a")
	if most.Load() > bound {
		t.Errorf("%d bytes were in flight; the bound is %d", most.Load(), bound)
	}
}

// readerWaits says whether no more would be taken: the next row's buffer has no room. Kafka.mu is held.
func readerWaits(s *session) bool {
	return s.buffers.inUse+smallestBuffer > s.cfg.MaxInFlightBytes-64<<10
}

func TestRowLargerThanTheBoundTravelsAlone(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(2, "a"), kfake.BrokerConfigs(map[string]string{"message.max.bytes": "10000000"}))
	s := startSession(t, c, func(cfg *Config) { cfg.MaxInFlightBytes, cfg.BatchBytes = 64<<10, 16<<10 })
	for i := range int32(20) {
		size := 100
		if i%5 == 4 {
			size = 1 << 20
		}
		s.append("a", i%2, size)
	}
	s.drain()
	s.checkDelivered("a")
}

// A broker that throttles is left alone for as long as it says.
func TestThrottlingIsHonoured(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "a"))
	s := proven(t, c)
	const throttle = 400 * time.Millisecond
	var told time.Time
	var early atomic.Bool
	c.ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if !told.IsZero() {
			early.Store(early.Load() || time.Since(told) < throttle)
			return nil, nil, false
		}
		told = time.Now()
		req := kreq.(*kmsg.ProduceRequest)
		res := req.ResponseKind().(*kmsg.ProduceResponse)
		res.ThrottleMillis = int32(throttle.Milliseconds())
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic = "a"
		part := kmsg.NewProduceResponseTopicPartition()
		part.ErrorCode = 19
		topic.Partitions = append(topic.Partitions, part)
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
	s.append("a", 0, 10)
	s.drain()
	s.checkDelivered("a")
	if early.Load() {
		t.Error("a request came before the time was over")
	}
}

func TestDrainThatCannotEndSaysSo(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "a"))
	s := proven(t, c)
	c.Fault(produceFault("a", 0, 19, -1))
	s.append("a", 0, 10)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drained: %v", err)
	}
	if records, _ := s.InFlight(); records != 1 {
		t.Errorf("%d records are in flight", records)
	}
	s.until("the trouble is told", func() bool { return strings.Contains(s.troubles.worst(), "a/0: NOT_ENOUGH_REPLICAS") })
}

func TestLingerGathersAndDrainDoesNotWait(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "a"))
	s := startSession(t, c, func(cfg *Config) { cfg.Linger = time.Hour })
	for range 100 {
		s.append("a", 0, 10)
	}
	s.until("the partition is known", func() bool { return len(s.topics["a"].queues) == 1 && s.topics["a"].queues[0].leader != nil })
	if records, _ := s.InFlight(); records != 100 {
		t.Errorf("%d of 100 records linger", records)
	}
	s.drain()
	s.checkDelivered("a")
}

// Run takes everything down with it, even while a broker does not read what is being written to it.
func TestRunLeavesNothingBehind(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "a"))
	before := c.open.Load()
	s := proven(t, c, func(cfg *Config) { cfg.MaxInFlightBytes = 256 << 20 })
	stall := make(chan struct{})
	c.stalled.Store(&stall)
	for range 3 {
		s.append("a", 0, 8<<20) // more than the sockets' buffers hold
	}
	s.until("a request is being written", func() bool { return s.topics["a"].queues[0].inFlight > 0 })
	began := time.Now()
	s.end()
	if took := time.Since(began); took > 5*time.Second { // half of what the request being written may take
		t.Errorf("Run took %s to end", took)
	}
	if !errors.Is(s.ran, context.Canceled) {
		t.Errorf("Run ended with %v", s.ran)
	}
	if left := leftBehind(); left != "" {
		t.Errorf("goroutines are left behind:\n%s", left)
	}
	if err := s.tryAppend("a", 0, 10); err == nil {
		t.Error("a session that has ended takes rows")
	}
	c.stalled.Store(nil)
	close(stall) // the brokers look again
	s.until("the connections are closed", func() bool { return c.open.Load() <= before })
}

// A reader that waits for room must not outlive the session.
func TestReaderThatWaitsForRoomIsLetGo(t *testing.T) {
	c := newCluster(t)
	s := startSession(t, c, func(cfg *Config) { cfg.MaxInFlightBytes = 16 << 10 })
	ended := make(chan error)
	go func() {
		for {
			if err := s.tryAppend("unknown", 0, 1000); err != nil {
				ended <- err
				return
			}
		}
	}()
	s.until("there is no room", func() bool { return s.buffers.inUse == 16<<10 })
	s.stop()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the reader was let go with %v", err)
		}
	case <-time.After(enough):
		t.Fatal("the reader still waits")
	}
}

// Where brokers hang up on every request, the operator hears of it.
func TestConnectionsThatAreAlwaysLostAreATrouble(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "a"))
	s := proven(t, c)
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return nil, errors.New("hang up"), true
	})
	s.append("a", 0, 10)
	s.until("the trouble is told", func() bool { return strings.Contains(s.troubles.worst(), "a/0: ") })
	if said := s.logs.with("a/0"); len(said) != 1 {
		t.Errorf("told in %d lines: %q", len(said), said)
	}
}

func TestAppendAllocatesNothingPerRow(t *testing.T) {
	s := newIdle(t, 1, func(cfg *Config) { cfg.BatchBytes, cfg.MaxInFlightBytes = 64<<20, 256<<20 })
	e := s.row("a", 0, 300)
	s.Begin()
	defer s.End()
	for range 40_000 { // so that the batch has grown, and grows no more
		if _, err := s.Append(e, 0); err != nil {
			t.Fatal(err)
		}
	}
	if allocs := testing.AllocsPerRun(1000, func() {
		if _, err := s.Append(e, 0); err != nil {
			t.Fatal(err)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations a row", allocs)
	}
}
