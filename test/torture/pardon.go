package main

import "github.com/jackc/pglogrepl"

// pardon is what a verdict, by its own words, lets happen to events: those of transactions that committed between two
// positions, on the way that the log has taken.
type pardon struct {
	after, until pglogrepl.LSN
	loss, repeat bool
	place        int16 // of what may be repeated; nowhere: anywhere
}

// pardon allows it. Events that are pardoned are told in the report.
func (j *journal) pardon(p pardon) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pardons = append(j.pardons, p)
}

// mayBeLost says whether a verdict lets events of tx be lost. j.mu is held.
func (j *journal) mayBeLost(tx *transaction) bool {
	return j.pardoned(tx, func(p *pardon) bool { return p.loss })
}

// mayRepeat says whether a verdict lets a row of tx be repeated. j.mu is held.
func (j *journal) mayRepeat(tx *transaction, r *row) bool {
	return j.pardoned(tx, func(p *pardon) bool { return p.repeat && (p.place == nowhere || p.place == r.place) })
}

func (j *journal) pardoned(tx *transaction, of func(*pardon) bool) bool {
	if !tx.witnessed {
		return false
	}
	for i := range j.pardons {
		if p := &j.pardons[i]; of(p) && tx.at.lsn >= p.after && tx.at.lsn < p.until {
			return true
		}
	}
	return false
}
