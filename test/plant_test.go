package test

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"github.com/outrider-relay/outrider/test/failpoint"
	"github.com/outrider-relay/outrider/test/harness"
)

func TestEveryPlantedBugHasItsPlaceInTheSource(t *testing.T) {
	var placed []string
	for _, c := range callsOf(t, "planted") {
		if !slices.Contains(failpoint.Plants, c.name) {
			t.Errorf("%s: %q is not among failpoint.Plants", c.at, c.name)
		}
		placed = append(placed, c.name)
	}
	for _, name := range failpoint.Plants {
		if !slices.Contains(placed, name) {
			t.Errorf("%q is nowhere", name)
		}
	}
}

func TestRelayIsBuiltWithoutThePlantedBugs(t *testing.T) {
	release, err := harness.Build()
	if err != nil {
		t.Fatal(err)
	}
	for bin, want := range map[string]bool{release: false, failpointBuild(t): true} {
		content, err := os.ReadFile(bin)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range failpoint.Plants {
			if bytes.Contains(content, []byte(name)) != want {
				t.Errorf("%s holds %q: %t", bin, name, !want)
			}
		}
	}
}
