package main

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Whoever sees a version of an aggregate in its topic can be sure that all versions before it are in Kafka: in their topic, or in
// that of the dead letters. At the end every version is there, so this has to be looked at while they come.

// gap is a run of versions that had not been read when a later one was.
type gap struct {
	aggregate   uint8
	first, last uint32
	later       string // where that one is
}

// versions says which event has a version of an aggregate: that of the transaction which planned it last, for a version
// is used again only after a rollback.
type versions [aggregates][]eventID

func (v *versions) plan(aggregate uint8, version uint32, id eventID) {
	all := v[aggregate]
	if missing := int(version) + 1 - len(all); missing > 0 {
		all = append(all, make([]eventID, missing)...)
	}
	all[version] = id
	v[aggregate] = all
}

// follow notes the versions between the newest one of an aggregate and that of a record in its topic. The journal's mutex is held.
func (c *checker) follow(r *kgo.Record, row *row, here string) {
	newest := &c.newest[row.aggregate]
	if r.Topic == deadLetters || row.version <= *newest {
		return
	}
	if row.version > *newest+1 {
		c.gaps = append(c.gaps, gap{row.aggregate, *newest + 1, row.version - 1, here})
	}
	*newest = row.version
}

// takeGaps gives the gaps that were seen so far. What fills them was in Kafka before.
func (c *checker) takeGaps() []gap {
	c.journal.mu.Lock()
	defer c.journal.mu.Unlock()
	gaps := c.gaps
	c.gaps = nil
	return gaps
}

// keepGaps leaves them for the next look.
func (c *checker) keepGaps(gaps []gap) {
	c.journal.mu.Lock()
	defer c.journal.mu.Unlock()
	c.gaps = slices.Concat(gaps, c.gaps)
}

// fill looks for what fills the gaps that were seen before a snapshot which has been reached: it must lie before its ends. The
// journal's mutex is held.
func (c *checker) fill(shot snapshot) {
	j := c.journal
	for _, g := range shot.gaps {
		for v := g.first; v <= g.last; v++ {
			tx, r := j.find(j.versions[g.aggregate][v])
			if r == nil || r.fate == stray || r.fate == undone || tx.outcome == aborted || tx.outcome == forgotten || j.mayBeLost(tx) {
				continue
			}
			if r.copies > 0 && r.offset < shot.ends[j.places.names[r.place]] {
				continue
			}
			c.tally.violate(overtaken, "version %d of the aggregate is in Kafka, and an earlier one was not\n%s\n%s",
				g.last+1, j.describe(tx, j.versions[g.aggregate][v].row), fmt.Sprintf("%s: version %d", g.later, g.last+1))
			break // one of a gap shows it
		}
	}
}
