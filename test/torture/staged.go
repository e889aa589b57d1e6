package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/outrider-relay/outrider/test/failpoint"
)

// staged are faults that hit a moment which chance rarely does. They are chosen by name alone, for they take a relay that is
// built with the tag failpoint: one that freezes by itself where it comes to a place of its code.
var staged []fault

func init() { // as that of faults
	staged = []fault{
		{name: "kill-idle", does: "kill -9 of both relays when nothing has been written for a while", lane: relays, weight: 1, away: true, do: killIdle},
		{name: "late-zombie", does: "the leader, frozen with a request in its hands, wakes when its successor has looked at Kafka and sent nothing yet", lane: relays, weight: 1, away: true, do: lateZombie},
		{name: "late-markers", does: "so it does, and the markers of the successor's transaction reach no log in time", lane: relays, weight: 1, away: true, do: lateMarkers},
		{name: "late-save", does: "the leader, frozen in a save, wakes when its successor has long saved more, which is killed then", lane: relays, weight: 1, away: true, do: lateSave},
		{name: "late-letters", does: "a topic takes smaller records than come, and that of the dead letters takes none", lane: servers, weight: 1, do: lateLetters},
	}
}

const (
	// inHand is where a relay freezes with a request in its hands, when it has been at work for a while.
	inHand = "request sealed:30"
	// inSave is where it does so with what it is about to store.
	inSave = "save begins:4"
	// looked is where it does so when it has looked at Kafka, and sent nothing yet.
	looked = "scan finished:1"
	// frozenPatience is how long a relay may take to come there.
	frozenPatience = 20 * time.Second
	// awake is the time that a relay gets to do what it was about to do.
	awake = 2 * time.Second
)

// startAt starts a process that will freeze by itself.
func (s *seat) startAt(point string) error {
	env := s.options.Env
	defer func() { s.options.Env = env }()
	s.options.Env = append(slices.Clone(env), failpoint.Freeze+"="+point)
	return s.start()
}

// awaitFrozen waits until it has.
func (s *seat) awaitFrozen(ctx context.Context, patience time.Duration) error {
	s.mu.Lock()
	relay := s.relay
	s.mu.Unlock()
	if err := await(ctx, patience, relay.Frozen); err != nil {
		return fmt.Errorf("relay %s has not come to where it was to freeze: %w", s.name, err)
	}
	return nil
}

// freezeAt starts a relay that leads until it comes to a place, and gives it, and the one that may take over from it and has not
// been started.
func (n *nemesis) freezeAt(ctx context.Context, point string) (old, heir *seat, err error) {
	old, heir = n.seats[0], n.seats[1]
	heir.kill()
	old.kill()
	if err := old.startAt(point); err != nil {
		return nil, nil, err
	}
	return old, heir, old.awaitFrozen(ctx, frozenPatience)
}

// startOver is the end of a fault that could not be made: no relay may be left that is still to freeze.
func (n *nemesis) startOver(err error) error {
	if err := n.killAndStartBoth(0); err != nil {
		return err
	}
	return skip(err)
}

// inherit has the heir take over from a frozen relay, to which its connections to Postgres stay up, and freeze when it has
// looked at Kafka.
func (n *nemesis) inherit(ctx context.Context, old, heir *seat, patience time.Duration) error {
	if err := heir.startAt(looked); err != nil {
		return err
	}
	old.postgres.Vanish(everybody)
	return heir.awaitFrozen(ctx, patience)
}

// idle is long enough for a relay to store the last of what was written, and to write from where a restart has to look for it.
const idle = 1500 * time.Millisecond

// idlePatience is how long that may be in coming.
const idlePatience = 10 * time.Second

// killIdle waits for a moment at which the checkpoint has stood still.
func killIdle(ctx context.Context, n *nemesis) error {
	var last string
	began := time.Now()
	for since := began; time.Since(since) < idle && n.life.Err() == nil; pause(n.life, 50*time.Millisecond) {
		if time.Since(began) > idlePatience {
			return skip(errors.New("the checkpoint has not stood still"))
		}
		var lsn string
		if err := n.database.query(ctx, `select lsn::text from outrider.checkpoint where name = $1`, []any{relayName}, &lsn); err != nil {
			return skip(err)
		}
		if lsn != last {
			last, since = lsn, time.Now()
		}
	}
	return n.killAndStartBoth(0)
}

func lateZombie(ctx context.Context, n *nemesis) error {
	old, heir, err := n.freezeAt(ctx, inHand)
	if err == nil {
		err = n.inherit(ctx, old, heir, frozenPatience)
	}
	if err != nil {
		return n.startOver(err)
	}
	old.thaw()
	pause(n.life, awake)
	heir.thaw()
	n.awaitTakeover(ctx, old)
	return nil
}

func lateMarkers(ctx context.Context, n *nemesis) error {
	old, heir, err := n.freezeAt(ctx, inHand)
	if err != nil {
		return n.startOver(err)
	}
	n.cluster.markers.Begin()
	defer n.cluster.markers.End()
	// It has to wait for its markers, and so does not come to where it is to freeze.
	_ = n.inherit(ctx, old, heir, 2*awake)
	old.thaw()
	pause(n.life, awake)
	n.cluster.markers.End()
	if err := heir.awaitFrozen(ctx, frozenPatience); err != nil {
		return n.startOver(err)
	}
	heir.thaw()
	n.awaitTakeover(ctx, old)
	return nil
}

func lateSave(ctx context.Context, n *nemesis) error {
	old, heir, err := n.freezeAt(ctx, inSave)
	if err != nil {
		return n.startOver(err)
	}
	// It loses its slot, and keeps the connection that it saves by.
	if err := terminateWalsender(ctx, n); err != nil {
		return n.startOver(err)
	}
	if err := heir.start(); err != nil {
		return err
	}
	n.awaitTakeover(ctx, old)
	pause(n.life, awake)
	heir.freeze() // or it would soon save again
	old.thaw()
	pause(n.life, awake)
	return n.killAndStart(heir, 0)
}

func lateLetters(ctx context.Context, n *nemesis) error {
	return n.forbidden(ctx, deadLetters, func() error {
		return n.narrowed(ctx, n.topic(), func() error { return n.writeLarge(ctx) })
	})
}
