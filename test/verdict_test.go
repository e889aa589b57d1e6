package test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// resolve runs `outrider resolve` and gives what it prints.
func resolve(t *testing.T, url string, args ...string) string {
	t.Helper()
	bin, err := harness.Build()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), bin, append([]string{"resolve", "--name", "orders", "--postgres", url, "--kafka", "localhost:1"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("resolve %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestPoisonRowBlocksUntilItIsSkipped(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), "")
	relay := s.relaying(t)
	harness.Exec(t, s.conn, `insert into outbox (aggregate_type, aggregate_id, event_type, payload)
		select case when i = 5 then 'no such topic!' else $1 end, 'o' || i, 'OrderPlaced', '{}' from generate_series(1, 10) i`, s.kind)
	relay.AwaitState(t, cdc.Halted, patience)
	shown, _ := s.resolve(t)
	_, rest, found := strings.Cut(shown, "--skip ")
	if !found {
		t.Fatalf("resolve shows\n%s", shown)
	}
	position, _, _ := strings.Cut(rest, "\n")
	if told, code := s.resolve(t, "--skip", position); code != 0 || !strings.Contains(told, "decided  skip "+position+", by ") {
		t.Errorf("after the decision (exit code %d):\n%s", code, told)
	}
	relay.AwaitState(t, cdc.Relaying, patience)
	awaitIDs(t, s.brokers, 9, false, s.destination)
}
