package main

import (
	"slices"
	"testing"
)

func TestLaterVersionTellsThatAllBeforeItAreInKafka(t *testing.T) {
	for name, c := range map[string]struct {
		earlier fate
		// before and after say whether the earlier version comes before the topics are looked at, and after that. The later one is the first of all.
		before, after bool
		want          []string
	}{
		"it was there, and is read later":       {live, true, false, nil},
		"it comes when somebody has looked":     {live, false, true, []string{overtaken}},
		"it does not come":                      {live, false, false, []string{overtaken}},
		"it is a dead letter, and was there":    {either, true, false, nil},
		"it is a dead letter that comes later":  {either, false, true, []string{overtaken}},
		"it is a dead letter without a topic":   {stray, false, true, nil},
		"it is a dead letter, and is not there": {letter, false, false, []string{overtaken}},
		"it was rolled back":                    {undone, false, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t)
			tx := s.begin(c.earlier, 1)
			if c.earlier != undone {
				s.end(tx, 100)
			}
			s.arrive(s.commit(200, 2), 0, inPartition(1))
			shot := snapshot{gaps: s.stage.checker.takeGaps(), ends: make(map[place]int64)}
			arrive := func() {
				if c.earlier == live {
					s.arrive(tx, 0)
				} else {
					s.arrive(tx, 0, inTopic(deadLetters))
				}
			}
			if c.before {
				arrive()
			}
			for at, end := range s.offsets {
				shot.ends[at] = end
			}
			if c.after {
				arrive()
			}
			s.stage.checker.fill(shot)
			var kinds []string
			for _, v := range s.stage.tally.report.Violations {
				kinds = append(kinds, v.Kind)
			}
			if !slices.Equal(kinds, c.want) {
				t.Errorf("%v, not %v", kinds, c.want)
			}
		})
	}
}

func TestVersionsInOrderLeaveNoGap(t *testing.T) {
	s := newScript(t)
	tx := s.commit(100, 1, 2, 3)
	for i := range tx.rows {
		s.arrive(tx, i)
	}
	if gaps := s.stage.checker.takeGaps(); len(gaps) > 0 {
		t.Errorf("%v", gaps)
	}
}
