package cdc

import (
	"time"
)

// Healthy says whether the relay's own loops turn: nil, or which one is stuck. Postgres, Kafka and lag do not matter,
// for a restart cures none of them.
func (r *Relay) Healthy() error {
	if s := r.session.Load(); s != nil && s.sink != nil {
		_ = s.sink.Trouble() // a sink that is stuck makes this call hang, and the probe time out
	}
	return r.beats.check(time.Now())
}

// Ready says whether the relay relays, or could take over; otherwise why not.
func (r *Relay) Ready() (bool, string) {
	st := r.Status()
	switch st.State {
	case Relaying, Standby:
		return true, string(st.State)
	}
	if st.Reason == "" {
		return false, string(st.State)
	}
	return false, string(st.State) + ": " + st.Reason
}

// Status is a snapshot. Name, Version, Records and Topics are the caller's to complete: they live outside of this package.
func (r *Relay) Status() Status {
	now := time.Now()
	s := r.session.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	st := Status{
		Name: r.cfg.Name, Instance: r.cfg.Instance, Delivery: r.cfg.Delivery,
		State: r.state, Reason: r.reason, Since: r.since.UTC(),
		Postgres: r.server, Errors: append([]ErrorStatus{}, r.errors...),
		Records:  RecordsStatus{SkippedDuplicates: r.skipped.Load()},
		Ignored:  r.ignored,
		Sessions: make(map[string]int64, len(r.ends)),
	}
	for end, n := range r.ends {
		st.Sessions[end] = n
	}
	if len(st.Errors) > 0 {
		st.LastError = &st.Errors[0]
	}
	if r.state == Halted {
		st.Verdict = r.verdict
	}
	if s != nil {
		r.positions = s.positions()
		st.InFlight.Records, st.InFlight.Bytes = s.sink.InFlight()
	}
	p := r.positions
	server := max(r.serverEnd, p.received)
	st.LSN = LSNStatus{
		Received: p.received.String(), Acked: p.acked.String(), Stored: p.stored.String(), Confirmed: p.confirmed.String(),
		Server: server.String(),
	}
	if st.State != Standby { // which has nothing to ack: how far behind the other relay is, only that one knows
		st.Postgres.LagBytes = int64(server - min(server, p.acked))
		st.LagSeconds = r.lag.age(now, p.acked).Seconds()
	}
	if st.InFlight.Records > 0 {
		st.InFlight.OldestSeconds = st.LagSeconds
	}
	return st
}

// leave keeps the last positions of a session that ends.
func (r *Relay) leave(s *session) {
	if !r.session.CompareAndSwap(s, nil) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.positions = s.positions()
}

// positions are a session's four, and hold when it has ended.
type positions struct{ received, acked, stored, confirmed lsn }

func (s *session) positions() positions {
	// In the order that keeps confirmed <= stored <= acked <= received while they move on.
	p := positions{confirmed: lsn(s.confirmed.Load()), stored: lsn(s.stored.Load())}
	p.acked = max(s.safe(), p.stored)
	p.received = max(s.tracker.Received(), p.acked)
	return p
}
