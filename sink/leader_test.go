package sink

import (
	"testing"
	"time"
)

// A row goes out at once, unless it is late already: then requests are few, until it is not.
func TestOpenBatchesKeepADistanceWhileTheRelayIsBehind(t *testing.T) {
	s := newIdle(t, 1)
	q, l := s.topics["a"].queues[0], s.newLeader(1)
	s.follow(q, l)
	q.proven = true
	now := time.Now()
	gathered := func(after time.Duration) int {
		now = now.Add(after)
		parcels, wait := l.gather(now)
		for _, p := range parcels {
			s.answer(l, p, 0)
		}
		if len(parcels) == 0 && l.resting && wait != requestDistance-now.Sub(l.emptiedAt) {
			t.Errorf("waits for %s after %s", wait, now.Sub(l.emptiedAt))
		}
		return len(parcels)
	}
	give := func(age time.Duration) {
		s.Begin()
		e := s.row("a", 0, 10)
		e.CommitTime = s.now.Add(-age)
		if err := s.give("a", 0, e); err != nil {
			t.Fatal(err)
		}
		s.End()
	}
	for range 3 {
		give(0)
		if gathered(0) != 1 {
			t.Fatal("a row that is not late waits")
		}
	}
	give(behindAfter)
	if gathered(time.Millisecond) != 0 || !l.resting {
		t.Fatal("a late row is sent right behind another")
	}
	s.batch("a", 0, 3, 10) // closes it
	s.behind = true
	if gathered(time.Millisecond) != 1 {
		t.Fatal("a full batch waits")
	}
	give(behindAfter)
	if gathered(requestDistance-2*time.Millisecond-time.Microsecond) != 0 {
		t.Fatal("the distance is not kept")
	}
	if gathered(time.Millisecond) != 1 {
		t.Fatal("a late row waits for longer")
	}
	give(time.Hour)
	s.draining = true
	if gathered(0) != 1 {
		t.Fatal("a drain waits")
	}
}

// A partition that fills batch after batch must not keep back the open ones of others for as long as it does so.
func TestFullBatchesDoNotKeepOpenOnesBack(t *testing.T) {
	s := newIdle(t, 2)
	l := s.newLeader(1)
	for _, q := range s.topics["a"].queues {
		s.follow(q, l)
		q.proven = true
	}
	now := time.Now()
	full := func() (sent []parcel) {
		s.batch("a", 0, 1, 10)
		s.behind = true
		parcels, _ := l.gather(now)
		for _, p := range parcels {
			if err := s.seal(p.batch); err != nil {
				t.Fatal(err)
			}
		}
		l.inFlight += len(parcels) - 1
		return parcels
	}
	for _, p := range full() {
		s.answer(l, p, 0)
	}
	s.append("a", 1, 10)
	for began := now; len(s.topics["a"].queues[1].batches) == 0; now = now.Add(time.Millisecond) {
		if now.Sub(began) > 2*requestDistance {
			t.Fatal("an open batch waits while full ones come")
		}
		for _, p := range full() {
			if p.queue.partition == 0 {
				s.answer(l, p, 0)
			}
		}
	}
}

// The letters' partition is led by another broker than the one whose answer makes a letter: no row may come for a long time.
func TestLeaderOfTheDeadLettersIsTold(t *testing.T) {
	s, l := withLetters(t, 1)
	other := s.newLeader(2)
	s.leaders[1], s.leaders[2] = l, other
	s.follow(s.topics[letters].queues[0], other)
	s.batch("a", 0, 1, 10)
	s.answer(l, s.gatherAll(l)[0], codeMessageTooLarge)
	select {
	case <-other.wake:
	default:
		t.Fatal("the leader of the dead letters is not told of one")
	}
	s.expect(other, letters, "0")
	s.allAcked()
}
