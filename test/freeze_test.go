package test

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/failpoint"
	"github.com/outrider-relay/outrider/test/harness"
)

// freezer is a scene whose relays can be frozen at a failpoint, and lose their slot without seeing it: to a frozen one
// the connection that it reads the slot by stays up, so that nothing but the fences under test holds it back.
type freezer struct {
	*scene
	bin   string
	proxy *harness.Proxy // to Postgres
}

func newFreezer(t *testing.T, kafka *harness.Kafka, config string) *freezer {
	t.Helper()
	pg := sharedPostgres(t)
	return &freezer{scene: newScene(t, pg, kafka, config), bin: failpointBuild(t), proxy: harness.NewProxy(t, pg.Addr())}
}

// victim starts a relay that is frozen at a hit of a failpoint, "name:hit". Its way to Postgres can be cut off.
func (f *freezer) victim(t *testing.T, at string, env ...string) *harness.Relay {
	t.Helper()
	u, err := url.Parse(f.url)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = f.proxy.Addr()
	return f.run(t, u.String(), append(env, failpoint.Freeze+"="+at)...)
}

// heir starts a relay that nobody cuts off.
func (f *freezer) heir(t *testing.T, env ...string) *harness.Relay {
	t.Helper()
	return f.run(t, f.url, env...)
}

func (f *freezer) run(t *testing.T, url string, env ...string) *harness.Relay {
	t.Helper()
	return harness.StartRelay(t, harness.RelayOptions{Name: f.name, Postgres: url, Kafka: f.brokers, Config: f.config, Binary: f.bin, Env: env})
}

// writeUntilFrozen writes rows until a relay is frozen with some of them in its hands.
func (f *freezer) writeUntilFrozen(t *testing.T, r *harness.Relay) {
	t.Helper()
	n := 0
	harness.Eventually(t, patience, "a frozen relay", func() error {
		harness.WriteRows(t, f.conn, f.kind, n+1, n+100, 100)
		n += 100
		return r.Frozen()
	})
}

// steal takes the slot from its owner, which does not see it but can store.
func (f *freezer) steal(t *testing.T) {
	t.Helper()
	f.vanish(t, func(hello []byte) bool { return bytes.Contains(hello, []byte("replication\x00")) })
}

// isolate takes Postgres and the slot from the slot's owner: it sees of neither that it is gone, and Kafka alone can stop it.
func (f *freezer) isolate(t *testing.T) {
	t.Helper()
	f.vanish(t, func([]byte) bool { return true })
}

func (f *freezer) vanish(t *testing.T, connections func(hello []byte) bool) {
	t.Helper()
	owner := f.walsender(t)
	f.proxy.Vanish(connections)
	harness.Eventually(t, patience, "the slot changes hands", func() error {
		if f.walsender(t) == owner {
			return fmt.Errorf("pid %d reads it", owner)
		}
		return nil
	})
}

// generation counts those that have taken the checkpoint.
func (s *stage) generation(t *testing.T) (n int64) {
	t.Helper()
	queryRow(t, s.conn, `select generation from outrider.checkpoint where name = $1`, []any{s.name}, &n)
	return n
}

// awaitRenewals waits until a relay that keeps its hits has renewed its hold on Kafka some times more, or can't any more.
func awaitRenewals(t *testing.T, hits string, more int) {
	t.Helper()
	want := -1
	harness.Eventually(t, patience, "renewals", func() error {
		now, err := readHits(hits)
		if err != nil {
			return err
		}
		if want < 0 {
			want = now["renewed"] + more
		}
		if now["renewed"] < want && now["session failed"] == 0 {
			return fmt.Errorf("there were %d of %d", now["renewed"], want)
		}
		return nil
	})
}

func TestFrozenRelayThatLostTheSlotDisturbsNobody(t *testing.T) {
	t.Parallel()
	// Between steps 1 and 2 of the start, and between 2 and 3.
	points := []string{"slot taken:1", "row claimed:1"}
	if os.Getenv("TEST_LONG") != "" {
		points = append(points, "partitions known:1", "producer taken:1", "partitions in transaction:1", "transaction ended:1", "marker read:1", "scan finished:1",
			"sink started:1", "identity stored:1", "streaming:1", "request sealed:20", "request sent:20", "save begins:2", "stored:2", "renewal begins:2", "notes due:2", "block received:100")
	}
	f := newFreezer(t, sharedKafka(t), exactly)
	leader := f.relaying(t)
	load := startLoad(t, f.scene, 4, 5*time.Millisecond)
	for _, point := range points {
		load.awaitRows(t, 200)
		frozen := f.victim(t, point)
		frozen.AwaitState(t, cdc.Standby, patience)
		leader.Kill()
		frozen.AwaitFrozen(t, patience)
		hits := filepath.Join(t.TempDir(), "hits")
		heir := f.heir(t, failpoint.Hits+"="+hits)
		heir.AwaitState(t, cdc.Standby, patience)
		f.steal(t)
		heir.AwaitState(t, cdc.Relaying, patience)
		harness.Eventually(t, patience, "records flow", relayed(heir, 200))
		before := f.generation(t)
		frozen.Signal(syscall.SIGCONT)
		frozen.AwaitState(t, cdc.Standby, patience)
		if now := f.generation(t); now != before {
			t.Errorf("%s: it has taken the checkpoint all the same: generation %d, not %d", point, now, before)
		}
		awaitRenewals(t, hits, 2) // which is where it would see that somebody had taken its producer
		st, err := heir.Status()
		if delete(st.Sessions, "standby"); err != nil || len(st.Sessions) > 0 {
			t.Errorf("%s: the relay that had taken over was disturbed: %v, %v", point, st.Sessions, err)
		}
		frozen.Kill()
		leader = heir
	}
	load.finish(t)
	f.awaitDelivered(t, harness.NoRepeats)
}

func TestRegistrationAfterATakeoverIsRefused(t *testing.T) {
	t.Parallel()
	f := newFreezer(t, sharedKafka(t), exactly)
	// Nobody has registered the topic of the rows: no fence keeps the predecessor from writing there but the registration that
	// has to come first. Both are frozen before it.
	old := f.victim(t, "registration begins:1")
	old.AwaitState(t, cdc.Relaying, patience)
	harness.WriteRows(t, f.conn, f.kind, 1, 1000, 100)
	old.AwaitFrozen(t, patience)
	heir := f.heir(t, failpoint.Freeze+"=registration begins:1")
	heir.AwaitState(t, cdc.Standby, patience)
	f.steal(t)
	heir.AwaitFrozen(t, patience)

	old.Signal(syscall.SIGCONT)
	old.AwaitState(t, cdc.Standby, patience)
	if log := old.Log(); !strings.Contains(log, "a newer session has taken the checkpoint") {
		t.Errorf("nothing says that the registration was refused")
	}
	if n := harness.EndOffsets(t, f.brokers, f.destination); n > 0 {
		t.Errorf("%d records of a relay that has lost its slot", n)
	}
	heir.Signal(syscall.SIGCONT)
	f.awaitDelivered(t, harness.NoRepeats)
}
