package simulation

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// edit replaces a piece of the relay's source, which must be there once.
type edit struct{ file, old, new string }

// bugs are mistakes that a relay can be built with. Each breaks a promise in some history.
var bugs = []struct {
	name  string
	edits []edit
}{
	{"what was received is confirmed", []edit{
		{"cdc/report.go", "confirmed := lsn(s.confirmed.Load())\n\tif planted", "confirmed := s.tracker.Received()\n\tif planted"},
	}},
	{"what is safe is confirmed before it is stored", []edit{
		{"cdc/save.go", `failpoint("save begins")`, `failpoint("save begins"); s.confirmed.Store(uint64(safe))`},
	}},
	{"a transaction's commit LSN is taken for its end", []edit{
		{"cdc/stream.go", "s.mark(s.decoder.End)", "s.mark(s.decoder.Event.Position.LSN)"},
	}},
	{"a transaction that begins at the checkpoint is skipped", []edit{
		{"cdc/stream.go", "s.skipping = s.decoder.Event.Position.LSN < s.start", "s.skipping = s.decoder.Event.Position.LSN <= s.start"},
	}},
	{"no fence", []edit{
		{"sink/fence.go", "if len(parts) == 0 {", "if len(parts) >= 0 {"},
		{"sink/scan.go", "if p.marker >= 0 {\n\t\t\tcontinue", "if p.marker >= 0 || p.end {\n\t\t\tcontinue"},
	}},
	{"the answer to EndTxn is taken for the barrier", []edit{
		{"sink/scan.go", "if p.marker >= 0 {\n\t\t\tcontinue", "if p.marker >= 0 || p.end {\n\t\t\tcontinue"},
	}},
	{"a marker of any epoch is taken for the barrier", []edit{
		{"sink/scan.go", "b.ProducerID == s.k.producerID && b.ProducerEpoch == s.k.epoch", "b.ProducerID == s.k.producerID"},
	}},
	{"a save without the generation", []edit{
		{"checkpoint/store.go", "heartbeat_at = clock_timestamp(), updated_at = clock_timestamp()\n\twhere name = $1 and generation = $2", "heartbeat_at = clock_timestamp(), updated_at = clock_timestamp()\n\twhere name = $1 and generation >= $2"},
	}},
	{"a place to scan from is written before what lies below it is stored", []edit{
		{"sink/register.go", "*n == nil || (*n).number > f.stored", "*n == nil"},
	}},
	{"a partition is written before it is registered", []edit{
		{"sink/queue.go", "!q.ready || ", ""},
	}},
	{"several batches go to a leader that knows nothing of the producer", []edit{
		{"sink/queue.go", " || !q.proven && q.inFlight > 0", ""},
	}},
	{"a lost answer is taken for an ack", []edit{
		{"sink/leader.go", "p.batch.unsure = true\n\t\t\tk.postpone(q, err.Error(), now)", "k.acked(q, p.batch, -1)"},
	}},
	{"a sequence error is taken for a repeat", []edit{
		{"sink/settle.go", "class := classify(a.ErrorCode)\n", "class := classify(a.ErrorCode)\n\tif class == classSequence {\n\t\tclass = classDuplicate\n\t}\n"},
	}},
	{"positions carry the session's timeline", []edit{
		{"cdc/session.go", "TimelineOf: s.timelines.owner", "TimelineOf: func(lsn) uint32 { return s.timelines.current }"},
	}},
	{"records keep the stamps of their commits, however old", []edit{
		{"sink/route/stamp.go", "case age > r.MaxTimestampAge:", "case age > r.MaxTimestampAge+1000*time.Hour:"},
		{"sink/leader.go", "age > 2*k.cfg.MaxTimestampAge", "age > 1000*time.Hour"},
	}},
	{"the tail is not asked", []edit{
		{"sink/kafka.go", "if k.tail.take(e.Position, id) {", "if k.tail.take(e.Position, id) && false {"},
	}},
}

// long skips what takes minutes, unless it is asked for.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("TEST_LONG") == "" {
		t.Skip("takes minutes: asked for by TEST_LONG=1")
	}
}

var failedSeed = regexp.MustCompile(`seed (\d+) \(SIMULATION_SEED=\d+ plays it again\): (.*)`)

// TestPlantedBugsAreCaught proves that the simulation can fail: it builds the relay with each bug, and plays until a seed
// shows it.
func TestPlantedBugsAreCaught(t *testing.T) {
	long(t)
	for _, bug := range bugs {
		t.Run(strings.ReplaceAll(bug.name, " ", "_"), func(t *testing.T) {
			binary := filepath.Join(t.TempDir(), "simulation.test")
			if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", overlay(t, bug.edits), "-o", binary, ".").CombinedOutput(); err != nil {
				t.Fatalf("build: %v\n%s", err, out)
			}
			cmd := exec.CommandContext(t.Context(), binary, "-test.run", "^TestEveryEventIsInKafkaOnceWhateverHappens$")
			cmd.Env = append(os.Environ(), "SIMULATION_SEEDS=2000")
			out, err := cmd.CombinedOutput()
			found := failedSeed.FindSubmatch(out)
			if err == nil || found == nil {
				t.Fatalf("no seed shows it (%v): %.2000s", err, out)
			}
			used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
			t.Logf("seed %s shows it, after %s of CPU time: %s", found[1], used.Round(10*time.Millisecond), found[2])
		})
	}
}

// overlay makes go build the relay from edited sources; nothing is changed on disk.
func overlay(t *testing.T, edits []edit) (file string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	edited := make(map[string]string)
	for _, e := range edits {
		path := filepath.Join(root, e.file)
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), e.old); n != 1 {
			t.Fatalf("%s has %d times %q", e.file, n, e.old)
		}
		edited[path] = filepath.Join(t.TempDir(), filepath.Base(path))
		if err := os.WriteFile(edited[path], []byte(strings.Replace(string(source), e.old, e.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": edited})
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
