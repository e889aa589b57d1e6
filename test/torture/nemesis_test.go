package main

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestFaultsAreMany(t *testing.T) {
	names := make(map[string]bool)
	for _, f := range faults {
		if f.name == "" || f.does == "" || f.weight <= 0 || f.do == nil || names[f.name] {
			t.Errorf("fault %+v", f)
		}
		if f.verdict != "" && f.lane != servers {
			t.Errorf("%s needs the stage for itself, which the other side waits for", f.name)
		}
		names[f.name] = true
	}
	if len(names) < 25 {
		t.Errorf("%d kinds of faults", len(names))
	}
	if _, err := choose([]string{"kill-leader", "kill-nobody"}); err == nil {
		t.Error("a fault that does not exist is taken")
	}
}

func TestOnlyTimeInWhichNothingIsAwayCountsAsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a availability
		a.begin()
		time.Sleep(time.Second)
		a.delivered()
		back := a.take()
		time.Sleep(10 * time.Second)
		other := a.take()
		back()
		back() // once is enough
		time.Sleep(time.Second)
		other()
		time.Sleep(2 * time.Second)
		a.delivered()
		time.Sleep(time.Second)
		longest, most := a.end()
		if longest != 2*time.Second || most != 13*time.Second {
			t.Errorf("unavailable for %s, nothing for %s; not 2s and 13s", longest, most)
		}
	})
}
