package main

import (
	"context"
	"testing"
	"time"
)

func TestTallyTellsLostRepeatedRolledBackAndForeignRecords(t *testing.T) {
	at := time.Now()
	for _, c := range []struct {
		name    string
		records []string
		want    sum
	}{
		{"all arrived", []string{"a", "b"}, sum{committed: 2, records: 2}},
		{"one is missing", []string{"b"}, sum{committed: 2, records: 1, lost: 1}},
		{"one came twice", []string{"a", "b", "a"}, sum{committed: 2, records: 3, repeated: 1}},
		{"one was rolled back", []string{"a", "b", "x"}, sum{committed: 2, records: 3, ghosts: 1}},
		{"one is somebody else's", []string{"a", "?", "b"}, sum{committed: 2, records: 2, foreign: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tally := newTally()
			tally.committing("a", at)
			tally.committing("b", at)
			tally.rolledBack("x")
			tally.committed("a")
			for _, id := range c.records {
				tally.arrived(id, at.Add(time.Millisecond))
			}
			tally.committed("b") // its record may be faster than the commit's answer
			c.want.rolledBack, c.want.median, c.want.percentile99, c.want.max = 1, time.Millisecond, time.Millisecond, time.Millisecond
			if got := tally.sum(); got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			tally.wait(ctx) // returns, whatever is missing
		})
	}
}
