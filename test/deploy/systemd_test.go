package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnitIsUnderstoodAndHardened(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("NOT CHECKED: the unit is checked where systemd-analyze is")
	}
	text, err := os.ReadFile("../../deploy/systemd/outrider@.service")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The relay is not installed here, and a unit whose program is missing is reported.
	unit := filepath.Join(t.TempDir(), "outrider@orders.service")
	if err := os.WriteFile(unit, []byte(strings.Replace(string(text), "/usr/local/bin/outrider ", self+" ", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"verify", unit},
		{"security", "--no-pager", "--offline=true", "--threshold=15", unit}, // of 100: tenths of what it calls the exposure level
	} {
		out, err := exec.Command(analyze, args...).CombinedOutput()
		if err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %s: %v\n%s", args[0], err, out)
		}
	}
}
