package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestPercentileIsWhatSoManyDoNotExceed(t *testing.T) {
	times := make([]time.Duration, 1000)
	for i := range times {
		times[i] = time.Duration(i+1) * time.Millisecond
	}
	for _, c := range []struct {
		of       []time.Duration
		perMille int
		want     float64
	}{
		{times, 500, 500},
		{times, 990, 990},
		{times, 999, 999},
		{times, 1000, 1000},
		{times[:100], 500, 50},
		{times[:100], 990, 99},
		{times[:100], 999, 100}, // too few for it: the largest
		{times[:3], 500, 2},
		{times[:1], 500, 1},
		{times[:1], 999, 1},
		{nil, 500, 0},
	} {
		if got := percentile(c.of, c.perMille); got != c.want {
			t.Errorf("%d in a thousand of %d: %v, not %v", c.perMille, len(c.of), got, c.want)
		}
	}
}

// A writer that is held up for a second writes nothing meanwhile. Counted from the commit those rows look fast; counted from
// when they were due they do not, and the writers are known to have been late.
func TestStallOfTheWritersIsNotHidden(t *testing.T) {
	const rate, lasting = 100, 10
	begin := time.Unix(0, 0)
	count := rate * (warmUp + lasting)
	m := &moments{due: make([]time.Time, count), began: make([]time.Time, count), done: make([]time.Time, count), arrived: make([]time.Time, count)}
	from, until := begin.Add(5*time.Second), begin.Add(6*time.Second)
	for n := range count {
		m.due[n] = begin.Add(time.Duration(n) * time.Second / rate)
		m.began[n] = m.due[n]
		if m.due[n].After(from) && m.due[n].Before(until) {
			m.began[n] = until
		}
		m.done[n] = m.began[n].Add(time.Millisecond)
		m.arrived[n] = m.done[n].Add(2 * time.Millisecond)
	}
	l := m.latency(rate, m.done)
	if l.Rows != rate*lasting || l.P50 != 2 || l.P99 != 2 {
		t.Errorf("from the commit: %+v", l)
	}
	if l.DueP50 != 3 || l.DueP99 < 800 || l.LateP99 < 800 {
		t.Errorf("from when the rows were due: %+v", l)
	}
}

// The load is open-loop: rows are written when they are due, and what a slow row delayed is made up for at once.
func TestPaceMakesUpForWhatIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 1000
		begin := time.Now()
		m := &moments{due: make([]time.Time, 40), began: make([]time.Time, 40), done: make([]time.Time, 40)}
		for n := range m.due {
			m.due[n] = begin.Add(time.Duration(n) * time.Second / rate)
		}
		var wrote []int
		err := m.pace(t.Context(), 1, func(due time.Time) { time.Sleep(time.Until(due)) }, func(n int) error {
			wrote = append(wrote, n)
			if n == 5 {
				time.Sleep(9 * time.Millisecond) // the rows due at 9 and 13 ms come late
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range wrote {
			if n != 1+i*writers {
				t.Fatalf("row %d was written in place %d", n, i)
			}
			late := m.began[n].Sub(m.due[n])
			if held := n == 9 || n == 13; held != (late > 0) {
				t.Errorf("row %d was written %s late", n, late)
			}
		}
	})
}

func TestPaceEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := &moments{due: make([]time.Time, 40), began: make([]time.Time, 40), done: make([]time.Time, 40)}
	written := 0
	err := m.pace(ctx, 0, sleepUntil, func(int) error { written++; cancel(); return nil })
	if err == nil || written != 1 {
		t.Errorf("%d rows were written, and it said %v", written, err)
	}
}
