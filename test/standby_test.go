package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

func TestRelayStandsByWhileTheSlotIsBusy(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	leader := s.relaying(t)
	load := startLoad(t, s, 2, 10*time.Millisecond)
	endings := []func(leader *harness.Relay){
		func(leader *harness.Relay) {
			if code := leader.Stop(t); code != 0 {
				t.Errorf("exit code %d of a leader that was stopped", code)
			}
			leader.AwaitLog(t, "nothing is left in flight", patience)
		},
		(*harness.Relay).Kill,
	}
	for _, end := range endings {
		standby := s.launch(t)
		st := standby.AwaitState(t, cdc.Standby, patience)
		var holder int
		queryRow(t, s.conn, `select active_pid from pg_replication_slots where slot_name = $1`, []any{s.slot()}, &holder)
		who := fmt.Sprintf("slot %s is read by pid %d (outrider", s.slot(), holder)
		if len(st.Reason) < len(who) || st.Reason[:len(who)] != who {
			t.Errorf("reason %q, not %q ...", st.Reason, who)
		}
		standby.AwaitLog(t, who, patience)
		if body, code, err := standby.Get("/readyz"); err != nil || code != 200 || body != "standby\n" {
			t.Errorf("/readyz of a standby: %d %q, %v", code, body, err)
		}
		load.awaitRows(t, 200)
		end(leader)
		standby.AwaitState(t, cdc.Relaying, patience)
		leader = standby
	}
	load.awaitRows(t, 200)
	load.finish(t)
	s.awaitDelivered(t, harness.NoRepeats)
}

// What would keep a standby from taking over shows before it has to.
func TestStandbyThatKafkaDoesNotTakeIsNotReady(t *testing.T) {
	t.Parallel()
	kafka := sharedKafka(t)
	s, proxy := newScene(t, sharedPostgres(t), kafka, exactly), harness.NewProxy(t, kafka.Brokers()[0])
	s.relaying(t)
	proxy.Refuse()
	standby := s.start(t, []string{proxy.Addr()}, s.config)
	awaitDegraded(t, standby, "standing by, but Kafka would not take this relay: broker "+proxy.Addr(), patience)
	if body, code, err := standby.Get("/readyz"); err != nil || code != 503 || !strings.Contains(body, "standing by, but Kafka") {
		t.Errorf("/readyz of a standby without Kafka: %d %q, %v", code, body, err)
	}
	proxy.Accept()
	st := standby.AwaitState(t, cdc.Standby, patience)
	if body, code, err := standby.Get("/readyz"); err != nil || code != 200 || strings.Contains(st.Reason, "Kafka") {
		t.Errorf("/readyz of a standby (%s): %d %q, %v", st.Reason, code, body, err)
	}
}

// The standby would only be blocked by the same thing, and give the slot back for the leader to try again.
func TestStandbyOfABlockedLeaderStaysOut(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	leader := s.relaying(t)
	standby := s.launch(t)
	standby.AwaitState(t, cdc.Standby, patience)
	harness.Exec(t, s.conn, `insert into outbox (aggregate_type, aggregate_id, event_type, payload) values ('no such topic!', 'k', 'Poison', '{}')`)
	harness.WriteRows(t, s.conn, s.kind, 1, 10, 10)
	verdict := leader.AwaitState(t, cdc.Halted, patience).Reason
	both := []*harness.Relay{leader, standby}
	ended := make([]int64, len(both))
	for i, r := range both {
		st := r.AwaitState(t, cdc.Halted, patience)
		if st.Reason != verdict {
			t.Errorf("blocked by %q, and the leader by %q", st.Reason, verdict)
		}
		ended[i] = sessionsOf(st)
	}
	harness.Throughout(t, 3*time.Second, "two relays that are blocked", func() error {
		for i, r := range both {
			st, err := r.Status()
			if n := sessionsOf(st); err == nil && (st.State != cdc.Halted || n != ended[i]) {
				err = fmt.Errorf("relay %d is %s after %d sessions, and was blocked after %d", i, st.State, n, ended[i])
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if strings.Contains(standby.Log(), "streaming") {
		t.Error("the standby has taken the slot")
	}
	_, option, _ := strings.Cut(verdict, "--skip ")
	position, _, _ := strings.Cut(option, " ")
	resolve(t, s.url, "--name", s.name, "--skip", position)
	harness.Eventually(t, patience, "one of them relays and the other stands by", func() error {
		var states []string
		for _, r := range both {
			st, err := r.Status()
			if err != nil {
				return err
			}
			states = append(states, string(st.State))
		}
		if states[0] == states[1] || !strings.Contains(strings.Join(states, " "), "relaying") || !strings.Contains(strings.Join(states, " "), "standby") {
			return fmt.Errorf("they are %v", states)
		}
		return nil
	})
	harness.AwaitRecords(t, s.brokers, 10, patience, s.destination)
}
