package route

import (
	"time"

	"github.com/outrider-relay/outrider/decoder"
)

// stamp sets the record's timestamp: the commit time, or what the row or the clock says where that is asked for.
//
// A broker ages its memory of a producer by the batches' own timestamps, so an old stamp would let a repeated batch in, and
// one from the future would keep that memory young. Every source of timestamps obeys that: what cannot be the stamp is
// told by a header.
func (r *Router) stamp(p *plan, e *decoder.Event, now time.Time) error {
	at := e.CommitTime
	r.late, r.lateHeader = time.Time{}, headerCommitTime
	if r.settings.ProcessingTime {
		at = now
	}
	byRow := p.timestamp >= 0 && e.Values[p.timestamp].Format != decoder.Null
	if byRow {
		var err error
		if at, err = parseTime(e.Values[p.timestamp].Data); err != nil {
			r.routed.Record.Timestamp = now.UnixMilli()
			return &Unroutable{"the timestamp column " + err.Error()}
		}
		r.lateHeader = headerTimestamp
	}
	r.at = at
	age := now.Sub(at)
	switch {
	case age > r.MaxTimestampAge:
		r.late, at = at, now
	case age < 0 && byRow:
		r.late, at = at, now
	case age < 0: // the two servers' clocks differ a little
		at = now
	}
	r.routed.Record.Timestamp = at.UnixMilli()
	return nil
}
