package test

import (
	"fmt"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

func TestRelayStandsByWhileTheSlotIsBusy(t *testing.T) {
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	leader := s.relaying(t)
	load := startLoad(t, s, 2, 10*time.Millisecond)
	endings := []func(leader *harness.Relay){
		func(leader *harness.Relay) {
			if code := leader.Stop(t); code != 0 {
				t.Errorf("exit code %d of a leader that was stopped", code)
			}
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
