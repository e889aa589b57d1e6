package test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// slotSyncMajor is the first PostgreSQL whose standbys keep copies of their primary's logical slots.
const slotSyncMajor = 17

// pair is a primary and its standby.
type pair struct {
	primary, standby *harness.Postgres
	link             *harness.Proxy // between the two
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{primary: harness.NewPostgres(t, harness.PostgresOptions{})}
	p.link = harness.NewProxy(t, p.primary.Addr())
	p.standby = p.primary.NewStandby(t, p.link.Addr())
	return p
}

// promote makes the standby the primary, after the primary was stopped, and lets the scenes follow it.
func (p *pair) promote(t *testing.T, how harness.Shutdown, scenes ...*scene) {
	t.Helper()
	if _, err := p.primary.Stop(how, patience); err != nil {
		t.Fatal(err)
	}
	p.standby.Promote(t)
	for _, s := range scenes {
		s.url = strings.Replace(s.url, p.primary.Addr(), p.standby.Addr(), 1)
		s.reconnect(t)
	}
}

// awaitSlot waits until the standby has a copy of a scene's slot that outlives a promotion. That takes a slot which moves on.
func (p *pair) awaitSlot(t *testing.T, s *scene, next int) {
	t.Helper()
	p.standby.SyncSlots(t)
	conn := p.standby.Connect(t)
	harness.Eventually(t, patience, "the slot is on the standby", func() error {
		harness.WriteRows(t, s.conn, s.kind, next, next, 10)
		next++
		harness.Exec(t, s.conn, `select pg_log_standby_snapshot()`)
		var there bool
		err := conn.QueryRow(t.Context(), `select synced and not temporary from pg_replication_slots where slot_name = $1`, s.slot()).Scan(&there)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && !there {
			return errors.New("it is not, or may be gone again")
		}
		return err
	})
}

// awaitReplay waits until the standby has everything that the primary has written by now.
func (p *pair) awaitReplay(t *testing.T, s *scene) {
	t.Helper()
	end, conn := walEnd(t, s.conn), p.standby.Connect(t)
	harness.Eventually(t, patience, "the standby has everything", func() error {
		if at := queryLSN(t, conn, `select pg_last_wal_replay_lsn()`); at < end {
			return fmt.Errorf("it has %s of %s", at, end)
		}
		return nil
	})
}

func TestPromotionOfACompleteStandbyLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	follows, stays := newScene(t, p.primary, sharedKafka(t), exactly), newScene(t, p.primary, sharedKafka(t), exactly+"postgres: { failover: false }\n")
	relay := stays.relaying(t)
	harness.WriteRows(t, stays.conn, stays.kind, 1, 100, 10)
	stays.awaitDelivered(t, harness.NoRepeats)
	relay.Stop(t)

	if p.standby.Major >= slotSyncMajor {
		relay = follows.relaying(t)
		p.awaitSlot(t, follows, 1)
		follows.awaitDelivered(t, harness.NoRepeats)
		relay.Stop(t)
		follows.config = unsaved
		relay = follows.relaying(t)
		harness.WriteRows(t, follows.conn, follows.kind, 10_001, 10_100, 10)
		follows.awaitDelivered(t, harness.NoRepeats)
		relay.Kill()
		harness.WriteRows(t, follows.conn, follows.kind, 10_101, 10_200, 10)
	}
	p.promote(t, harness.Fast, follows, stays)

	t.Run("WithTheSlot", func(t *testing.T) {
		if p.standby.Major < slotSyncMajor {
			t.Skipf("PostgreSQL %d copies no slots to a standby", p.standby.Major)
		}
		relay := follows.relaying(t)
		follows.awaitDelivered(t, harness.NoRepeats)
		st, err := relay.Status()
		// And those below the checkpoint, where the copy of the slot is behind it.
		if err != nil || st.Postgres.Timeline != 2 || st.Records.SkippedDuplicates < 100 {
			t.Errorf("timeline %d, %d events skipped, %v; want timeline 2, and at least the 100 that were acked and not stored", st.Postgres.Timeline, st.Records.SkippedDuplicates, err)
		}
		// What Kafka holds above the checkpoint is of two timelines now.
		harness.WriteRows(t, follows.conn, follows.kind, 10_201, 10_300, 10)
		follows.awaitDelivered(t, harness.NoRepeats)
		relay.Kill()
		relay = follows.relaying(t)
		harness.WriteRows(t, follows.conn, follows.kind, 10_301, 10_400, 10)
		follows.awaitDelivered(t, harness.NoRepeats)
		if st, err = relay.Status(); err != nil || st.Records.SkippedDuplicates < 100 { // the session before began with a save
			t.Errorf("%d events skipped, %v; want those that were acked and not stored", st.Records.SkippedDuplicates, err)
		}
		relay.Stop(t)
	})
	t.Run("WithASlotAheadOfTheCheckpoint", func(t *testing.T) {
		if p.standby.Major < slotSyncMajor {
			t.Skipf("PostgreSQL %d copies no slots to a standby", p.standby.Major)
		}
		// As on a standby that had received the slot's last position, and not the save before it.
		harness.Exec(t, follows.conn, `update outrider.checkpoint set lsn = lsn - 100, timeline = 1`)
		relay := follows.relaying(t)
		relay.AwaitLog(t, "the slot came through a failover ahead of the checkpoint", patience)
		harness.WriteRows(t, follows.conn, follows.kind, 10_401, 10_500, 10)
		follows.awaitDelivered(t, harness.NoRepeats)
	})
	t.Run("WithoutTheSlot", func(t *testing.T) {
		relay := stays.launch(t)
		awaitVerdict(t, relay, "gap")
		if st, err := relay.Status(); err != nil || !strings.Contains(st.Reason, "did not follow a failover") {
			t.Errorf("reason %q, %v", st.Reason, err)
		}
		relay.Stop(t)
		// A slot that somebody makes now begins after what the old primary had not told.
		harness.Exec(t, stays.conn, `select pg_create_logical_replication_slot($1, 'pgoutput')`, stays.slot())
		relay = stays.launch(t)
		awaitVerdict(t, relay, "gap")
		if said, code := stays.resolve(t, "--accept-loss"); code != 0 {
			t.Fatalf("resolve: %s", said)
		}
		relay.AwaitState(t, cdc.Relaying, patience)
		harness.WriteRows(t, stays.conn, stays.kind, 101, 200, 10)
		stays.awaitDelivered(t, harness.NoRepeats)
	})
}

// What was published from the old primary, and never reached the new one, is proof of two histories.
func TestPromotionOfAStandbyThatWasBehindIsDiverged(t *testing.T) {
	t.Parallel()
	if major := sharedPostgres(t).Major; major < slotSyncMajor {
		t.Skipf("PostgreSQL %d copies no slots to a standby", major)
	}
	p := newPair(t)
	s := newScene(t, p.primary, sharedKafka(t), exactly)
	relay := s.relaying(t)
	p.awaitSlot(t, s, 1)
	s.awaitDelivered(t, harness.NoRepeats)
	var before int
	queryRow(t, s.conn, `select count(*) from public.outbox`, nil, &before)
	relay.Stop(t) // what is not stored would be sent again after a loss is accepted
	relay = s.relaying(t)
	p.awaitReplay(t, s)

	p.link.Refuse()
	p.link.Cut()
	harness.WriteRows(t, s.conn, s.kind, 10_001, 10_050, 10)
	awaitIDs(t, s.brokers, before+50, false, s.destination)
	relay.Kill()
	p.promote(t, harness.Immediate, s)
	// The new history grows past the place where the old one ended.
	harness.WriteRows(t, s.conn, s.kind, 20_001, 20_100, 1000)

	relay = s.launch(t)
	awaitVerdict(t, relay, "diverged")
	if st, err := relay.Status(); err != nil || !strings.Contains(st.Reason, "Kafka holds") || !strings.Contains(st.Reason, " 1:0/") {
		t.Errorf("reason %q, %v; want the position that is of the old timeline alone", st.Reason, err)
	}
	if said, code := s.resolve(t, "--accept-loss"); code != 0 {
		t.Fatalf("resolve: %s", said)
	}
	relay.AwaitState(t, cdc.Relaying, patience)
	awaitIDs(t, s.brokers, before+150, false, s.destination)
	// The old branch's events stay in Kafka, and count no more.
	relay.Kill()
	relay = s.relaying(t)
	harness.WriteRows(t, s.conn, s.kind, 20_101, 20_110, 10)
	awaitIDs(t, s.brokers, before+160, false, s.destination)
	harness.Throughout(t, time.Second, "it goes on", func() error {
		if st, err := relay.Status(); err != nil || st.State != cdc.Relaying {
			return errors.Join(err, fmt.Errorf("it is %s (%s)", st.State, st.Reason))
		}
		return nil
	})
}
