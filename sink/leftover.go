package sink

import (
	"fmt"
	"math/bits"

	"github.com/outrider-relay/outrider/decoder"
)

// maxListed bounds the list of what Kafka holds and the database does not know; the rest is counted.
const maxListed = 100

// leftovers are events that Kafka holds and this database has not brought: what a person has to know of to judge them.
type leftovers struct {
	positions []string
	more      int
}

func (l *leftovers) add(p decoder.Position) {
	if len(l.positions) == maxListed {
		l.more++
		return
	}
	l.positions = append(l.positions, p.String())
}

func (l *leftovers) count() int { return len(l.positions) + l.more }

// addTransaction adds the events of one that have not been met.
func (l *leftovers) addTransaction(key transaction, tx *published) {
	for word := range 1 + len(tx.rest) {
		set := tx.first
		if word > 0 {
			set = tx.rest[word-1]
		}
		if room := maxListed - len(l.positions); room == 0 {
			l.more += bits.OnesCount64(set)
			continue
		}
		for ; set != 0; set &= set - 1 {
			l.add(decoder.Position{Timeline: key.timeline, LSN: key.lsn, Ordinal: uint64(64*word + bits.TrailingZeros64(set))})
		}
	}
}

// diverged is the verdict on a transaction of which Kafka holds something else than the database. It lists all that the stream has not
// met, beginning with that one: when the verdict has been accepted, nobody looks for the rest any more.
func (t *tail) diverged(key transaction, tx *published, what string) error {
	v := &Verdict{
		Name:   "diverged",
		Advice: "The database was restored from an older state, or another one took its place. Compare table and topics from the checkpoint on; then go on from there", Option: "accept-loss",
	}
	n := tx.left
	if n == 0 {
		n = tx.met
	}
	v.Reason = fmt.Sprintf("Kafka holds %d events of transaction %d:%s, %s", n, key.timeline, key.lsn, what)
	v.addTransaction(key, tx)
	own, others := v.count(), 0
	for _, other := range t.order[t.at:] {
		if tx := t.transactions[other]; tx != nil && other != key {
			v.addTransaction(other, tx)
			others++
		}
	}
	if others > 0 {
		v.Reason += fmt.Sprintf("; and %d events of %d transactions that the stream has not come to", v.count()-own, others)
	}
	return v
}

// impossible notes an event that this database cannot have committed.
func (s *scan) impossible(at decoder.Position, where string) {
	if s.beyond == nil {
		s.beyond = &Verdict{
			Name:   "diverged",
			Reason: fmt.Sprintf("Kafka holds an event at position %s (%s) that this database cannot have committed: it lies beyond the end of its WAL, or on a timeline that was left before", at, where),
			Advice: "The database was restored from an older state, or a standby was promoted that had not received everything. Compare table and topics from the checkpoint on; then go on from there", Option: "accept-loss",
		}
	}
	s.beyond.add(at)
}

// judgeBeyond is the verdict on what impossible has noted; else err. The list is whole, where the scan is.
func (s *scan) judgeBeyond(err error) error {
	if s.beyond == nil {
		return err
	}
	if n := s.beyond.count(); n > 1 {
		s.beyond.Reason += fmt.Sprintf("; and %d more like it", n-1)
	}
	return s.beyond
}

// Positions are the events that it is about, as far as they can be shown, and the number of the others.
func (v *Verdict) Positions() (positions []string, more int) { return v.leftovers.positions, v.more }
