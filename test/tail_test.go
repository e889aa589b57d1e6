package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// unsaved makes everything that is published lie above the checkpoint.
const unsaved = exactly + "checkpoint: { interval: 1h }\n"

// insertN inserts n events of one aggregate type, with keys k0 to k9.
func (s *stage) insertN(t *testing.T, kind string, n int) {
	t.Helper()
	harness.Exec(t, s.conn, `insert into outbox (aggregate_type, aggregate_id, event_type, payload)
		select $1, 'k' || i % 10, 'Happened', jsonb_build_object('i', i) from generate_series(1, $2::int) i`, s.aggregate(kind), n)
}

// ids gives how often Kafka holds each event id in the topics.
func ids(t *testing.T, brokers []string, topics ...string) map[string]int {
	t.Helper()
	seen := make(map[string]int)
	for _, r := range harness.ReadAll(t, brokers, topics...) {
		seen[firstHeader(r, "id")]++
	}
	return seen
}

func firstHeader(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// awaitIDs waits until the topics hold n different events, and fails the test when one is there twice unless repeats may be.
func awaitIDs(t *testing.T, brokers []string, n int, repeats bool, topics ...string) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, fmt.Sprintf("%d events in %v", n, topics), func() error {
		seen := ids(t, brokers, topics...)
		for id, times := range seen {
			if times > 1 && !repeats {
				t.Fatalf("event %s is in Kafka %d times", id, times)
			}
		}
		if len(seen) != n {
			return fmt.Errorf("there are %d", len(seen))
		}
		return nil
	})
}

// awaitVerdict waits until the relay is blocked by a verdict.
func awaitVerdict(t *testing.T, r *harness.Relay, verdict string) {
	t.Helper()
	st := r.AwaitState(t, cdc.Halted, 30*time.Second)
	if !strings.Contains(st.Reason, "("+verdict+")") {
		t.Fatalf("blocked by %q, want %q", st.Reason, verdict)
	}
}

func (s *stage) decide(t *testing.T, args ...string) {
	t.Helper()
	bin, err := harness.Build()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), bin, append([]string{"resolve", "--name", s.name, "--postgres", s.url, "--kafka", "localhost:1"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("resolve %v: %v\n%s", args, err, out)
	}
}

func TestRoutingChangedBetweenCrashAndRestartRepeatsNothing(t *testing.T) {
	t.Parallel()
	kafka := sharedKafka(t)
	s := newStage(t, sharedPostgres(t))
	kafka.CreateTopic(t, s.topic("a"), 3, 1, nil)
	kafka.CreateTopic(t, s.name+".new", 5, 1, nil)
	relay := s.startRelaying(t, kafka.Brokers(), unsaved)
	s.insertN(t, "a", 500)
	awaitIDs(t, kafka.Brokers(), 500, false, s.topic("a"))
	relay.Kill()
	s.insertN(t, "a", 100)
	relay = s.startRelaying(t, kafka.Brokers(), unsaved+"outbox: { topic: "+s.name+".new }\n")
	awaitIDs(t, kafka.Brokers(), 600, false, s.topic("a"), s.name+".new")
	if st, err := relay.Status(); err != nil || st.Records.SkippedDuplicates != 500 {
		t.Errorf("%d skipped (%v), want the 500 that the old topic holds", st.Records.SkippedDuplicates, err)
	}
	relay.Kill() // and back again, everything being above the checkpoint still
	s.startRelaying(t, kafka.Brokers(), unsaved)
	s.insertN(t, "a", 50)
	awaitIDs(t, kafka.Brokers(), 650, false, s.topic("a"), s.name+".new")
}

func TestHoleInTheTailIsForAPersonToJudge(t *testing.T) {
	t.Parallel()
	kafka := sharedKafka(t)
	s := newStage(t, sharedPostgres(t))
	kafka.CreateTopic(t, s.topic("a"), 1, 1, nil)
	relay := s.startRelaying(t, kafka.Brokers(), unsaved)
	s.insertN(t, "a", 100)
	awaitIDs(t, kafka.Brokers(), 100, false, s.topic("a"))
	relay.Kill()
	var cut kadm.Offsets
	cut.Add(kadm.Offset{Topic: s.topic("a"), Partition: 0, At: 40})
	if res, err := harness.Admin(t, kafka.Brokers()).DeleteRecords(t.Context(), cut); err != nil || res.Error() != nil {
		t.Fatalf("delete records: %v, %v", err, res.Error())
	}
	relay = s.start(t, kafka.Brokers(), unsaved)
	awaitVerdict(t, relay, "tail incomplete")
	s.decide(t, "--accept-repeats")
	relay.AwaitState(t, cdc.Relaying, 30*time.Second)
	// The 40 that are gone are published again, the 60 that were found are not.
	awaitIDs(t, kafka.Brokers(), 100, false, s.topic("a"))
}

// Whether the topic has as many partitions as before or fewer, so that one that is registered is missing.
func TestTopicMadeAnewWhileStoppedIsLostData(t *testing.T) {
	t.Parallel()
	for before, after := range map[int32]int32{1: 1, 6: 2} {
		t.Run(fmt.Sprintf("%dPartitionsThen%d", before, after), func(t *testing.T) {
			kafka := sharedKafka(t)
			s := newStage(t, sharedPostgres(t))
			kafka.CreateTopic(t, s.topic("a"), before, 1, nil)
			relay := s.startRelaying(t, kafka.Brokers(), exactly)
			s.insertN(t, "a", 100)
			awaitIDs(t, kafka.Brokers(), 100, false, s.topic("a"))
			if code := relay.Stop(t); code != 0 {
				t.Fatalf("exit code %d", code)
			}
			s.startRelaying(t, kafka.Brokers(), exactly).Kill() // its marker is where the next start begins to scan
			remove(t, kafka.Brokers(), s.topic("a"))
			kafka.CreateTopic(t, s.topic("a"), after, 1, nil)
			relay = s.start(t, kafka.Brokers(), exactly)
			s.insertN(t, "a", 10)
			awaitVerdict(t, relay, "kafka lost data")
			s.decide(t, "--accept-loss")
			relay.AwaitState(t, cdc.Relaying, 30*time.Second)
			awaitIDs(t, kafka.Brokers(), 10, false, s.topic("a"))
			relay.Kill()
			s.insertN(t, "a", 10)
			s.startRelaying(t, kafka.Brokers(), exactly)
			awaitIDs(t, kafka.Brokers(), 20, false, s.topic("a"))
		})
	}
}

func TestRestoredSnapshotUnderTheSameWorkloadIsDiverged(t *testing.T) {
	t.Parallel()
	kafka := sharedKafka(t)
	pg := harness.NewPostgres(t, harness.PostgresOptions{Settings: map[string]string{"fsync": "on", "full_page_writes": "on"}})
	s := &stage{url: pg.URL(), name: uniqueName(t)}
	s.conn = harness.Connect(t, s.url)
	harness.CreateOutbox(t, s.conn)
	kafka.CreateTopic(t, s.topic("a"), 3, 1, nil)
	// A partition that the snapshot does not know to be written is beyond any proof: all of them have been by then.
	relay := s.startRelaying(t, kafka.Brokers(), exactly)
	s.insertN(t, "a", 30)
	awaitIDs(t, kafka.Brokers(), 30, false, s.topic("a"))
	if code := relay.Stop(t); code != 0 { // what is not stored would be sent again after a loss is accepted
		t.Fatalf("exit code %d", code)
	}
	s.startRelaying(t, kafka.Brokers(), exactly).Kill()
	restart := func(between func(data string)) {
		t.Helper()
		if _, err := pg.Stop(harness.Fast, 20*time.Second); err != nil {
			t.Fatal(err)
		}
		between(filepath.Join(pg.Dir, "data"))
		if err := pg.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.conn = harness.Connect(t, s.url)
	}
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	restart(func(data string) { run("cp", "-a", data, data+".snapshot") })
	relay = s.startRelaying(t, kafka.Brokers(), exactly)
	s.insertN(t, "a", 50)
	awaitIDs(t, kafka.Brokers(), 80, false, s.topic("a"))
	relay.Kill()
	restart(func(data string) {
		if err := os.RemoveAll(data); err != nil {
			t.Fatal(err)
		}
		run("mv", data+".snapshot", data)
	})
	s.insertN(t, "a", 50)
	relay = s.start(t, kafka.Brokers(), exactly)
	awaitVerdict(t, relay, "diverged")
	s.decide(t, "--accept-loss")
	relay.AwaitState(t, cdc.Relaying, 30*time.Second)
	s.insertN(t, "a", 10)
	// The old branch's 50 stay, and do not count any more.
	awaitIDs(t, kafka.Brokers(), 140, false, s.topic("a"))
	relay.Kill()
	s.startRelaying(t, kafka.Brokers(), exactly)
}

func TestSecondRelayOfOneNameOnAnotherSlotIsRefused(t *testing.T) {
	t.Parallel()
	kafka := sharedKafka(t)
	s := newStage(t, sharedPostgres(t))
	kafka.CreateTopic(t, s.topic("a"), 3, 1, nil)
	first := s.startRelaying(t, kafka.Brokers(), exactly)
	harness.Exec(t, s.conn, `select pg_create_logical_replication_slot($1, 'pgoutput')`, s.slot()+"_b")
	second := harness.StartRelay(t, harness.RelayOptions{Name: s.name, Postgres: s.url, Kafka: kafka.Brokers(), Config: exactly, Args: []string{"--slot", s.slot() + "_b"}})
	if code := second.ExitCode(t, 30*time.Second); code != 10 {
		t.Errorf("exit code %d, want 10", code)
	}
	if !strings.Contains(second.Log(), "belongs to slot "+s.slot()) {
		t.Errorf("the log does not say why:\n%s", second.Log())
	}
	s.insertN(t, "a", 10)
	awaitIDs(t, kafka.Brokers(), 10, false, s.topic("a"))
	harness.Exec(t, s.conn, `select pg_drop_replication_slot($1)`, s.slot()+"_b")
	if st, err := first.Status(); err != nil || len(st.Sessions) > 0 {
		t.Errorf("the first relay was disturbed: %v, %v", st.Sessions, err)
	}
}
