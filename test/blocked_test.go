package test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// blockage is a state that only a person can judge. It comes about while the relay is stopped and 100 rows wait for it.
type blockage struct {
	name    string
	arise   func(*testing.T, *harness.Postgres, *scene)
	verdict string
	says    string                                      // the reason
	mend    func(*testing.T, *harness.Postgres, *scene) // what the advice asks for before the decision; nil: nothing
	option  string                                      // the decision
	lost    bool                                        // the rows that waited
}

func dropSlot(t *testing.T, _ *harness.Postgres, s *scene) {
	t.Helper()
	harness.Eventually(t, patience, "the slot is dropped", func() error { // its walsender may still be ending
		_, err := s.conn.Exec(t.Context(), `select pg_drop_replication_slot($1)`, s.slot())
		return err
	})
}

func makeSlot(t *testing.T, _ *harness.Postgres, s *scene) {
	t.Helper()
	harness.Exec(t, s.conn, `select pg_create_logical_replication_slot($1, 'pgoutput')`, s.slot())
}

// outgrow writes WAL until the server has given the slot up for it.
func outgrow(t *testing.T, _ *harness.Postgres, s *scene) {
	t.Helper()
	harness.Eventually(t, patience, "the slot is lost", func() error {
		for range 3 {
			harness.Exec(t, s.conn, `select pg_logical_emit_message(false, '', ''), pg_switch_wal()`)
		}
		harness.Exec(t, s.conn, `checkpoint`)
		var status string
		queryRow(t, s.conn, `select wal_status from pg_replication_slots where slot_name = $1`, []any{s.slot()}, &status)
		if status != "lost" {
			return errors.New("it is " + status)
		}
		return nil
	})
}

// blockages are the states that the database alone shows.
var blockages = []blockage{
	{
		name: "SlotDropped", arise: dropSlot,
		verdict: "gap", says: "is gone: it does not exist, though this relay has a checkpoint", option: "accept-loss", lost: true,
	},
	{
		name: "SlotMadeAnew",
		arise: func(t *testing.T, pg *harness.Postgres, s *scene) {
			dropSlot(t, pg, s)
			makeSlot(t, pg, s)
		},
		verdict: "gap", says: "by somebody else", option: "accept-loss", lost: true,
	},
	{
		name: "SlotAdvanced",
		arise: func(t *testing.T, _ *harness.Postgres, s *scene) {
			harness.Eventually(t, patience, "advance of the slot", func() error { // its walsender may outlive the relay for a moment
				_, err := s.conn.Exec(t.Context(), `select pg_replication_slot_advance($1, pg_current_wal_lsn())`, s.slot())
				return err
			})
		},
		verdict: "gap", says: "by somebody else", option: "accept-loss", lost: true,
	},
	{
		name: "SlotOutgrown", arise: outgrow, mend: dropSlot,
		verdict: "gap", says: "can no longer be read from the WAL", option: "accept-loss", lost: true,
	},
	{
		// As the schema's dump is restored into another cluster.
		name: "OtherSystem",
		arise: func(t *testing.T, _ *harness.Postgres, s *scene) {
			harness.Exec(t, s.conn, `update outrider.checkpoint set system_id = '7'`)
		},
		verdict: "other cluster", says: "the checkpoint is of the database system 7, this one is ", option: "accept-new-cluster",
	},
	{
		// Topics of the same names there would look as if they had lost events; the cluster is told first.
		name: "OtherKafka",
		arise: func(t *testing.T, _ *harness.Postgres, s *scene) {
			harness.Exec(t, s.conn, `update outrider.checkpoint set kafka_cluster_id = 'elsewhere'`)
			harness.Exec(t, s.conn, `update outrider.partition set scan_from = 1000000, owned = true`)
		},
		verdict: "other cluster", says: "the checkpoint is of the Kafka cluster elsewhere, this one is ", option: "accept-new-cluster",
	},
	{
		// As the schema's dump is restored into a cluster that is restored from an older backup.
		name: "CheckpointBeyondTheEnd",
		arise: func(t *testing.T, _ *harness.Postgres, s *scene) {
			harness.Exec(t, s.conn, `update outrider.checkpoint set lsn = 'FF/0'`)
		},
		verdict: "diverged", says: "the checkpoint FF/0 lies beyond the end of the server's WAL", option: "accept-loss",
	},
}

func TestWhatAPersonMustJudgeBlocksUntilItIsDecided(t *testing.T) {
	t.Parallel()
	pg := harness.NewPostgres(t, harness.PostgresOptions{Settings: map[string]string{"max_slot_wal_keep_size": "1MB"}})
	for _, b := range blockages {
		t.Run(b.name, func(t *testing.T) {
			s := newScene(t, pg, sharedKafka(t), exactly)
			relay := s.relaying(t)
			harness.WriteRows(t, s.conn, s.kind, 1, 100, 10)
			s.awaitDelivered(t, harness.NoRepeats)
			if code := relay.Stop(t); code != 0 {
				t.Fatalf("exit code %d", code)
			}
			harness.WriteRows(t, s.conn, s.kind, 101, 200, 10)
			b.arise(t, pg, s)
			b.checkExit(t, s)
			b.checkDecision(t, pg, s)
			if b.lost {
				harness.Exec(t, s.conn, `delete from public.outbox where (payload ->> 'n')::int between 101 and 200`)
			}
			harness.WriteRows(t, s.conn, s.kind, 201, 300, 10)
			s.awaitDelivered(t, harness.NoRepeats)
		})
	}
	t.Run("SlotOutgrownWhileTheRelayWasFrozen", func(t *testing.T) {
		s := newScene(t, pg, sharedKafka(t), exactly)
		relay := s.relaying(t)
		relay.Signal(syscall.SIGSTOP)
		outgrow(t, pg, s)
		relay.Signal(syscall.SIGCONT)
		awaitVerdict(t, relay, "gap")
		dropSlot(t, pg, s)
		if said, code := s.resolve(t, "--accept-loss"); code != 0 {
			t.Fatalf("resolve: %s", said)
		}
		relay.AwaitState(t, cdc.Relaying, patience)
		harness.WriteRows(t, s.conn, s.kind, 1, 100, 10)
		s.awaitDelivered(t, harness.NoRepeats)
	})
}

// checkExit wants a relay that is to exit when it is blocked to do so.
func (b *blockage) checkExit(t *testing.T, s *scene) {
	t.Helper()
	relay := s.start(t, s.brokers, s.config+"on_blocked: exit\n")
	if code := relay.ExitCode(t, patience); code != 20 {
		t.Errorf("exit code %d, not 20", code)
	}
	last := lastLine(t, relay)
	for _, says := range []string{"blocked (" + b.verdict + ")", b.says, "outrider resolve --name " + s.name + " --" + b.option} {
		if !strings.Contains(last, says) {
			t.Errorf("%s\ndoes not say %q", last, says)
		}
	}
}

// checkDecision wants two relays to stay out until the decision, and then one of them to go on.
func (b *blockage) checkDecision(t *testing.T, pg *harness.Postgres, s *scene) {
	t.Helper()
	relays := []*harness.Relay{s.launch(t), s.launch(t)}
	for _, relay := range relays {
		awaitVerdict(t, relay, b.verdict)
		if body, code, err := relay.Get("/readyz"); err != nil || code != 503 || !strings.Contains(body, b.says) {
			t.Errorf("/readyz answers %d %q, %v", code, body, err)
		}
	}
	if shown, code := s.resolve(t); code != 0 || !strings.Contains(shown, b.says) || !strings.Contains(shown, "options  --"+b.option) {
		t.Errorf("resolve (exit code %d) shows\n%s", code, shown)
	}
	if _, code := s.resolve(t, "--accept-repeats"); code != 2 {
		t.Errorf("exit code %d of a decision that does not answer the verdict, not 2", code)
	}
	if b.mend != nil {
		if said, code := s.resolve(t, "--"+b.option); code != 2 || !strings.Contains(said, "select pg_drop_replication_slot('"+s.slot()+"')") {
			t.Errorf("exit code %d of a decision that nothing could be done with, not 2: %s", code, said)
		}
		b.mend(t, pg, s)
	}
	if said, code := s.resolve(t, "--"+b.option); code != 0 {
		t.Fatalf("resolve (exit code %d): %s", code, said)
	}
	harness.Eventually(t, patience, "one relays, the other stands by", func() error {
		states := make(map[cdc.State]int)
		for _, relay := range relays {
			st, err := relay.Status()
			if err != nil {
				return err
			}
			states[st.State]++
		}
		if states[cdc.Relaying] != 1 || states[cdc.Standby] != 1 {
			return fmt.Errorf("they are %v", states)
		}
		return nil
	})
	harness.Eventually(t, patience, "the verdict is settled", func() error {
		if shown, _ := s.resolve(t); shown != "relay "+s.name+" is not blocked\n" {
			return errors.New(shown)
		}
		return nil
	})
}

// resolve runs `outrider resolve` on the stage's relay.
func (s *stage) resolve(t *testing.T, args ...string) (said string, code int) {
	t.Helper()
	out, log, code := harness.Command(t, nil, append([]string{"resolve", "--name", s.name, "--postgres", s.url, "--kafka", "localhost:1"}, args...)...)
	return out + log, code
}
