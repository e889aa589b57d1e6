package main

import (
	"sync"
	"time"
)

// availability measures how long no row was delivered.
type availability struct {
	mu            sync.Mutex
	began         bool
	away          int           // servers and ways to them that are taken away just now
	since         time.Time     // of the last change
	row           time.Time     // the last one
	idle          time.Duration // since then, as far as nothing was away
	longest, most time.Duration // of idle, and of all
}

// begin starts the clock.
func (a *availability) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.began, a.since, a.row, a.idle = true, time.Now(), time.Now(), 0
}

// end stops it, and gives the longest times without a row: while nothing but relays was taken away, and at all.
func (a *availability) end() (longest, most time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pass(time.Now())
	a.began = false
	return a.longest, a.most
}

// take says that a server, or the way to it, is about to be away, and the result that it is back.
func (a *availability) take() (back func()) {
	a.change(1)
	return sync.OnceFunc(func() { a.change(-1) })
}

func (a *availability) change(by int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pass(time.Now())
	a.away += by
}

// delivered says that a row is there.
func (a *availability) delivered() {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.pass(now)
	a.row, a.idle = now, 0
}

// pass lets the time go by. a.mu is held.
func (a *availability) pass(now time.Time) {
	if a.began {
		if a.away == 0 {
			a.idle += now.Sub(a.since)
		}
		a.longest, a.most = max(a.longest, a.idle), max(a.most, now.Sub(a.row))
	}
	a.since = now
}
