package cdc

import (
	"testing"
	"time"
)

// at is a time in seconds.
func at(s int) time.Time { return time.Unix(int64(s), 0) }

func TestLagIsTheAgeOfTheOldestUnackedCommit(t *testing.T) {
	type seen struct {
		second int
		end    lsn
	}
	for name, c := range map[string]struct {
		seen  []seen
		now   int
		acked lsn
		want  time.Duration
	}{
		"drained":                           {[]seen{{1, 100}, {2, 200}}, 3, 200, 0},
		"behind since the end passed acked": {[]seen{{1, 100}, {5, 200}, {6, 300}}, 7, 100, 6 * time.Second},
		"between two samples":               {[]seen{{1, 100}, {5, 200}, {6, 300}}, 7, 250, 2 * time.Second},
		"at rest and behind":                {[]seen{{1, 100}, {2, 200}, {3, 200}, {4, 200}}, 5, 100, 4 * time.Second},
		"at rest and drained":               {[]seen{{1, 100}, {2, 200}, {3, 200}, {4, 200}}, 5, 200, 0},
		"server out of sight":               {[]seen{{1, 100}, {2, 200}}, 62, 200, time.Minute},
		"nothing seen yet":                  {nil, 5, 0, 0},
		"another server, below":             {[]seen{{1, 900}, {2, 100}}, 3, 100, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var clock lagClock
			for _, s := range c.seen {
				clock.sample(at(s.second), s.end)
			}
			if got := clock.age(at(c.now), c.acked); got != c.want {
				t.Errorf("age %s, want %s", got, c.want)
			}
		})
	}
}

// A relay that takes over after days must not tell of a lag of days.
func TestLagBeginsWhenARelayTakesOver(t *testing.T) {
	var clock lagClock
	clock.restart(at(0))
	clock.sample(at(1), 50)
	clock.restart(at(86400))
	clock.sample(at(86402), 100)
	if got := clock.age(at(86403), 60); got != 3*time.Second {
		t.Errorf("age %s, want 3s", got)
	}
}

func TestLagKeepsItsMemoryBounded(t *testing.T) {
	var clock lagClock
	const days = 2 * 86400
	for s := range days {
		clock.sample(at(s), lsn(s+1))
	}
	if n := len(clock.samples); n > maxLagSamples {
		t.Errorf("%d samples are kept, more than %d", n, maxLagSamples)
	}
	got, want := clock.age(at(days), 3600), time.Duration(days-3600)*time.Second
	if got < want || got > want+want/100 {
		t.Errorf("age %s after two days of samples, want %s and at most 1 %% more", got, want)
	}
}

func TestLoopThatNoLongerTurnsIsNoticed(t *testing.T) {
	var b beats
	if err := b.check(time.Now()); err == nil {
		t.Error("a relay without loops passes for healthy")
	}
	b.beat("run")
	if err := b.check(time.Now()); err != nil {
		t.Errorf("a loop that has just turned: %v", err)
	}
	if err := b.check(time.Now().Add(beatLimit + time.Second)); err == nil {
		t.Error("a silent loop is not noticed")
	}
	b.beat("report")
	b.done("run")
	if err := b.check(time.Now()); err != nil {
		t.Errorf("a loop that has ended: %v", err)
	}
}
