package test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// offline is what the database tells of the stage's relay.
func (s *stage) offline(t *testing.T) (st cdc.Status) {
	t.Helper()
	out, _ := s.outrider(t, 0, "status", "--offline", "--json")
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return st
}

func TestStatusIsShownByTheRelayAndByTheDatabaseAlone(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	if st := s.offline(t); st.State != cdc.Stopped || !strings.Contains(st.Reason, "has never run") {
		t.Errorf("before the first start it is %s: %s", st.State, st.Reason)
	}
	relay := s.relaying(t)
	harness.WriteRows(t, s.conn, s.kind, 1, 100, 10)
	s.awaitDelivered(t, harness.NoRepeats)
	out, _, code := harness.Command(t, nil, "status", "--url", relay.Base)
	for _, says := range []string{s.name, "relaying, since ", "100 relayed", s.destination + ": 100 records", "to do", "nothing"} {
		if code != 0 || !strings.Contains(out, says) {
			t.Errorf("exit code %d, no %q in\n%s", code, says, out)
		}
	}
	out, _, code = harness.Command(t, nil, "status", "--url", relay.Base, "--json")
	var st cdc.Status
	if err := json.Unmarshal([]byte(out), &st); err != nil || code != 0 || st.Records.Relayed != 100 {
		t.Errorf("exit code %d, %v: %s", code, err, out)
	}
	if st := s.offline(t); st.State != cdc.Relaying || st.LSN.Stored == "" || st.LSN.Confirmed == "" || st.Postgres.SystemID == "" {
		t.Errorf("offline it is %+v", st)
	}
	_, log, code := harness.Command(t, nil, "status", "--name", "another", "--listen", strings.TrimPrefix(relay.Base, "http://"))
	if code != 1 || !strings.Contains(log, "relay "+s.name+" answers") {
		t.Errorf("exit code %d of another relay's endpoint: %s", code, log)
	}
	if code := relay.Stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if st := s.offline(t); st.State != cdc.Stopped || !strings.Contains(st.Reason, "no process reads the slot") {
		t.Errorf("when it has stopped it is %s: %s", st.State, st.Reason)
	}
	_, log, code = harness.Command(t, nil, "status", "--url", relay.Base)
	if code != 1 || !strings.Contains(log, "--offline") {
		t.Errorf("exit code %d of a relay that has stopped: %s", code, log)
	}
}
