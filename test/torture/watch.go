package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/outrider-relay/outrider/cdc"
)

// watchEvery is the time between two looks at who leads, and how the relays are.
const watchEvery = 100 * time.Millisecond

// watch follows the relays until ctx ends.
func (s *stage) watch(ctx context.Context) error {
	var group errgroup.Group
	for _, seat := range s.seats {
		group.Go(func() error { s.watchSeat(ctx, seat); return nil })
	}
	group.Go(func() error {
		for ctx.Err() == nil {
			s.watchCheckpoint(ctx)
			pause(ctx, watchEvery)
		}
		return nil
	})
	return group.Wait()
}

// watchSeat sees a relay that is blocked, which nobody has to decide about unless a fault says so.
func (s *stage) watchSeat(ctx context.Context, seat *seat) {
	for ctx.Err() == nil {
		st, err := seat.ask()
		if err == nil && st.State == cdc.Halted && s.verdicts.TryRLock() {
			s.block(seat, st.Reason)
			s.verdicts.RUnlock()
		}
		pause(ctx, watchEvery)
	}
}

// block books a verdict that nothing explains, and gives up: nothing comes from relays that are blocked.
func (s *stage) block(seat *seat, reason string) {
	s.blocked.Do(func() {
		s.tally.violate(blockedRelay, "relay %s is blocked, and nothing explains it: %s\n%s", seat.name, reason, seat.describe())
		close(s.hopeless)
	})
}

// watchCheckpoint follows who has taken the checkpoint, as long as one connection lasts.
func (s *stage) watchCheckpoint(ctx context.Context) {
	conn, err := pgx.Connect(ctx, s.database.url())
	if err != nil {
		return
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	term := s.database.terms()
	for ctx.Err() == nil && s.database.terms() == term {
		var instance string
		ask, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := conn.QueryRow(ask, `select instance from outrider.checkpoint where name = $1`, relayName).Scan(&instance)
		cancel()
		if err != nil {
			return
		}
		if last := s.leads.Swap(&instance); last != nil && *last != instance {
			s.tally.count(func(r *Report) { r.Takeovers++ })
		}
		pause(ctx, watchEvery)
	}
}

// leader gives the seat of the relay that leads, as far as that is known, and the other one.
func (s *stage) leader() (leader, other *seat) {
	if instance := s.leads.Load(); instance != nil && s.seats[1].has(*instance) {
		return s.seats[1], s.seats[0]
	}
	return s.seats[0], s.seats[1]
}
