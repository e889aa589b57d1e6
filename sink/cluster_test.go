package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/sink/route"
)

// No test may leave a goroutine behind, whatever its brokers did.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leftBehind(); left != "" {
		fmt.Fprintf(os.Stderr, "goroutines of a session were left behind:\n%s", left)
		code = 1
	}
	os.Exit(code)
}

// ours are the goroutines that a session starts.
var ours = regexp.MustCompile(`sink\.\(\*(Kafka|leader|fence)\)|broker\.\(\*Conn\)`)

// leftBehind gives the stacks when goroutines of the sink go on; those that have just been told to end are waited for.
func leftBehind() string {
	for deadline := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
		stacks := make([]byte, 4<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if !ours.Match(stacks) {
			return ""
		}
		if time.Now().After(deadline) {
			return string(stacks)
		}
	}
}

// enough is how long a test waits for what should happen at once.
const enough = 20 * time.Second

// cluster is a Kafka cluster in this process, whose network can be cut.
type cluster struct {
	*kfake.Cluster
	t     testing.TB
	open  atomic.Int32 // connections
	links sync.Map     // of *link

	cutAnswer  atomic.Bool                   // the next answer is lost, and its connection
	cutRequest atomic.Bool                   // the next large request arrives by half
	stalled    atomic.Pointer[chan struct{}] // while set, nothing is read
}

// link is a broker's end of a connection.
type link struct {
	net.Conn
	c      *cluster
	closed sync.Once
	gone   chan struct{}
}

func (l *link) Read(p []byte) (int, error) {
	if stalled := l.c.stalled.Load(); stalled != nil {
		select {
		case <-*stalled:
		case <-l.gone:
		}
	}
	if len(p) > 1000 && l.c.cutRequest.CompareAndSwap(true, false) {
		_, _ = io.ReadFull(l.Conn, p[:len(p)/2])
		_ = l.Close()
		return 0, net.ErrClosed
	}
	return l.Conn.Read(p)
}

func (l *link) Write(p []byte) (int, error) {
	if l.c.cutAnswer.CompareAndSwap(true, false) {
		_ = l.Close()
		return 0, net.ErrClosed
	}
	return l.Conn.Write(p)
}

func (l *link) Close() error {
	l.closed.Do(func() { l.c.open.Add(-1); close(l.gone) })
	return l.Conn.Close()
}

type listener struct {
	net.Listener
	c *cluster
}

func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.c.open.Add(1)
	k := &link{Conn: conn, c: l.c, gone: make(chan struct{})}
	l.c.links.Store(k, nil)
	return k, nil
}

// newCluster starts one. It behaves as Kafka 4.1 does: a leader without memory of a producer takes any first sequence.
func newCluster(t testing.TB, opts ...kfake.Opt) *cluster {
	t.Helper()
	c := &cluster{t: t}
	opts = append([]kfake.Opt{kfake.NumBrokers(1), kfake.MaxVersions(kversion.V4_1_0()), kfake.ListenFn(func(network, addr string) (net.Listener, error) {
		l, err := net.Listen(network, addr)
		return listener{l, c}, err
	})}, opts...)
	var err error
	if c.Cluster, err = kfake.NewCluster(opts...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// kill ends a broker and its connections; others lead from then on.
func (c *cluster) kill(node int32) {
	c.t.Helper()
	addr := c.ListenAddrs()[node]
	if err := c.RemoveNode(node); err != nil {
		c.t.Fatal(err)
	}
	c.links.Range(func(l, _ any) bool {
		if l := l.(*link); l.LocalAddr().String() == addr {
			_ = l.Close()
		}
		return true
	})
}

// read gives all records of a topic by partition, as an independent client reads them.
func (c *cluster) read(topic string) map[int32][]*kgo.Record {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), enough)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(10*time.Millisecond), kgo.KeepControlRecords())
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err != nil {
		c.t.Fatal(err)
	}
	var want, got int64
	ends.Each(func(o kadm.ListedOffset) { want += o.Offset })
	records := make(map[int32][]*kgo.Record)
	for got < want {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			c.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if got++; !r.Attrs.IsControl() { // the end counts markers too
				records[r.Partition] = append(records[r.Partition], r)
			}
		})
	}
	return records
}

// session is a sink under test, and what it was given.
type session struct {
	*Kafka
	t     testing.TB
	c     *cluster
	logs  *logs
	stop  context.CancelFunc
	ended chan struct{}
	ran   error // what Run returned, once ended is closed

	next uint64
	sent map[string]map[int32][]uint64 // topic -> partition -> numbers
}

// logs collects lines.
type logs struct {
	mu    sync.Mutex
	lines []string
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

func (l *logs) with(s string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, s) {
			lines = append(lines, line)
		}
	}
	return lines
}

// shards is a table whose rows say which partition they belong to.
var shards = table("shards", "id", oidInt8, "topic", oidText, "shard", oidInt4, "key", oidText, "payload", oidText)

var shardRouting = route.Settings{Topic: "${topic}", Columns: map[string]string{"partition": "shard", "key": "key"}}

func newSession(t testing.TB, c *cluster, change ...func(*Config)) *session {
	t.Helper()
	s := &session{t: t, c: c, logs: &logs{}, ended: make(chan struct{}), sent: make(map[string]map[int32][]uint64)}
	cfg := Config{
		Name: "test", Brokers: c.ListenAddrs(), Log: zerolog.New(s.logs),
		Routing: shardRouting,
	}
	cfg.Conn.Timeout = 10 * time.Second
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if s.Kafka, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), enough)
	defer cancel()
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

// startSession is newSession with Run under way.
func startSession(t testing.TB, c *cluster, change ...func(*Config)) *session {
	t.Helper()
	s := newSession(t, c, change...)
	s.run()
	return s
}

func (s *session) run() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go func() {
		defer close(s.ended)
		s.ran = s.Run(ctx)
	}()
	s.t.Cleanup(s.end)
}

// end stops the session and waits for it.
func (s *session) end() {
	s.stop()
	<-s.ended
}

// row is a row of shards with the number that it will be known by. Its payload is the number and some filling.
func (s *session) row(topic string, shard int32, filling int) *decoder.Event {
	id := strconv.FormatUint(s.next, 10)
	e := event(shards, id, topic, strconv.Itoa(int(shard)), "key-"+id, id+" "+strings.Repeat("x", filling))
	e.CommitTime = time.Now()
	e.Position = decoder.Position{Timeline: 1, LSN: 100, Ordinal: s.next}
	return e
}

// append gives one row to the sink, in a block of its own, and notes it as sent.
func (s *session) append(topic string, shard int32, filling int) {
	s.t.Helper()
	if err := s.tryAppend(topic, shard, filling); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) tryAppend(topic string, shard int32, filling int) error {
	s.Begin()
	defer s.End()
	return s.give(topic, shard, s.row(topic, shard, filling))
}

// give appends e within a block.
func (s *session) give(topic string, shard int32, e *decoder.Event) error {
	taken, err := s.Append(e, s.next)
	if err != nil || !taken {
		return err
	}
	if s.sent[topic] == nil {
		s.sent[topic] = make(map[int32][]uint64)
	}
	s.sent[topic][shard] = append(s.sent[topic][shard], s.next)
	s.next++
	return nil
}

// batch appends rows of one partition that become a batch of their own, and sends nothing yet.
func (s *session) batch(topic string, shard int32, rows, filling int) {
	s.t.Helper()
	s.batches(topic, shard, 1, rows, filling)
}

// batches appends several before the first of them can be sent.
func (s *session) batches(topic string, shard int32, n, rows, filling int) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = time.Now()
	for range n {
		for range rows {
			if err := s.give(topic, shard, s.row(topic, shard, filling)); err != nil {
				s.t.Fatal(err)
			}
		}
		if t := s.topics[topic]; int(shard) < len(t.queues) && t.queues[shard].open.count() > 0 {
			t.queues[shard].close()
		}
	}
}

// drain waits until all is acked.
func (s *session) drain() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), enough)
	defer cancel()
	if err := s.Drain(ctx); err != nil {
		s.t.Fatalf("drain: %v (trouble: %s)", err, s.Trouble())
	}
	if oldest := s.Oldest(); oldest != ^uint64(0) {
		s.t.Fatalf("all is acked, and the oldest unacked number is %d", oldest)
	}
	if records, bytes := s.InFlight(); records != 0 || bytes != 0 {
		s.t.Fatalf("all is acked, and %d records in %d bytes are in flight", records, bytes)
	}
}

// fails waits until Run has ended by itself.
func (s *session) fails() error {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(enough):
		s.t.Fatalf("the session goes on (trouble: %s)", s.Trouble())
	}
	if s.ran == nil || errors.Is(s.ran, context.Canceled) {
		s.t.Fatalf("Run ended with %v", s.ran)
	}
	return s.ran
}

// goesOn fails the test when the session has ended.
func (s *session) goesOn() {
	s.t.Helper()
	select {
	case <-s.ended:
		s.t.Fatalf("the session has ended: %v", s.ran)
	default:
	}
}

// until waits for a state that only the sink's own fields show.
func (s *session) until(what string, reached func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(enough); ; runtime.Gosched() {
		s.mu.Lock()
		ok := reached()
		s.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("not within %s: %s (trouble: %s)", enough, what, s.Trouble())
		}
	}
}

// checkDelivered compares Kafka with what was sent: every row once, in the order of its partition. Rows in missing were skipped.
func (s *session) checkDelivered(topic string, missing ...uint64) {
	s.t.Helper()
	got := s.c.read(topic)
	for shard, numbers := range s.sent[topic] {
		want := slices.DeleteFunc(slices.Clone(numbers), func(n uint64) bool { return slices.Contains(missing, n) })
		var have []uint64
		for _, r := range got[shard] {
			id, _, _ := strings.Cut(string(r.Value), " ")
			n, err := strconv.ParseUint(id, 10, 64)
			if err != nil || string(r.Key) != "key-"+id {
				s.t.Errorf("%s/%d holds key %q with value %.20q", topic, shard, r.Key, r.Value)
			}
			have = append(have, n)
		}
		if !slices.Equal(have, want) {
			s.t.Errorf("%s/%d holds %s, not %s", topic, shard, runs(have), runs(want))
		}
	}
	for shard := range got {
		if len(s.sent[topic][shard]) == 0 {
			s.t.Errorf("%s/%d holds records, and should hold none", topic, shard)
		}
	}
}

// runs writes numbers shorter: 0-99 101-200.
func runs(numbers []uint64) string {
	var b strings.Builder
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		fmt.Fprintf(&b, "%d-%d ", numbers[i], numbers[j])
		i = j + 1
	}
	return b.String()
}
