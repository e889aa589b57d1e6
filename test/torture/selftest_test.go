package main

import (
	"slices"
	"testing"

	"github.com/outrider-relay/outrider/test/failpoint"
)

func TestEveryBugThatCanBePlantedIsInTheSelfTest(t *testing.T) {
	var bugs []string
	for _, p := range plants {
		bugs = append(bugs, p.bug)
		if _, err := choose(p.faults); err != nil || len(p.faults) == 0 {
			t.Errorf("%s: faults %v: %v", p.bug, p.faults, err)
		}
		if p.rate <= 0 || p.lasts <= 0 || len(p.shows) == 0 {
			t.Errorf("%s: %d rows/s, for %s, known by %v", p.bug, p.rate, p.lasts, p.shows)
		}
	}
	if !slices.Equal(bugs, failpoint.Plants) {
		t.Errorf("the bugs are %q, not %q", bugs, failpoint.Plants)
	}
}

func TestStagedFaultsAreChosenByNameAlone(t *testing.T) {
	all, err := choose(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range staged {
		named, err := choose([]string{f.name})
		if err != nil || len(named) != 1 || named[0].name != f.name {
			t.Errorf("%s: %v, %v", f.name, named, err)
		}
		if slices.ContainsFunc(all, func(a fault) bool { return a.name == f.name }) {
			t.Errorf("%s happens by chance", f.name)
		}
	}
}
