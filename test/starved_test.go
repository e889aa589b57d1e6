package test

import (
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

const terminateAll = `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'outrider/' || $1`

func TestLogThatNobodyReadsStopsNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	relay := harness.StartRelay(t, harness.RelayOptions{Name: s.name, Postgres: s.url, Kafka: s.brokers, Config: exactly, Unread: true})
	for i := range 3 {
		relay.AwaitState(t, cdc.Relaying, patience)
		harness.WriteRows(t, s.conn, s.kind, 100*i+1, 100*i+100, 10)
		s.awaitDelivered(t, harness.NoRepeats)
		if body, code, err := relay.Get("/healthz"); err != nil || code != 200 {
			t.Errorf("/healthz: %d %q, %v", code, body, err)
		}
		pid := s.walsender(t)
		harness.Exec(t, s.conn, terminateAll, s.name) // which the log would tell
		harness.Eventually(t, patience, "the slot is read again", func() error {
			if now := s.walsender(t); now == 0 || now == pid {
				return fmt.Errorf("it is read by pid %d", now)
			}
			return nil
		})
	}
	relay.AwaitState(t, cdc.Relaying, patience)
	if code := relay.Stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestRelayWithoutFileDescriptorsSaysSoAndGoesOn(t *testing.T) {
	t.Parallel()
	prlimit, err := exec.LookPath("prlimit")
	if err != nil {
		t.Skipf("the limits of a process that runs are changed by prlimit: %v", err)
	}
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	relay := s.relaying(t)
	limit := func(files string) {
		t.Helper()
		if out, err := exec.Command(prlimit, "--pid", strconv.Itoa(relay.PID()), "--nofile="+files).CombinedOutput(); err != nil {
			t.Fatalf("prlimit: %v\n%s", err, out)
		}
	}
	harness.WriteRows(t, s.conn, s.kind, 1, 100, 10)
	s.awaitDelivered(t, harness.NoRepeats)
	limit("5:") // what it has open stays
	harness.Exec(t, s.conn, terminateAll, s.name)
	harness.WriteRows(t, s.conn, s.kind, 101, 200, 10)
	relay.AwaitLog(t, "too many open files", patience)
	harness.Throughout(t, time.Second, "it tries again", func() error {
		if !relay.Running() {
			return errors.New("it has ended")
		}
		return nil
	})
	limit("1024:")
	s.awaitDelivered(t, harness.NoRepeats)
	relay.AwaitState(t, cdc.Relaying, patience)
	if code := relay.Stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
