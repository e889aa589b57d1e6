package simulation

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// link is a connection in memory. What is written arrives later, in order, as on a TCP connection: a writer never waits, so
// that what is under way when one end stops can still arrive at the other.
type link struct {
	process string // that dialled
	name    string
	rng     *rand.Rand // of this link alone, so that a seed gives it the same delays whatever else happens
	far     int        // multiplies delays: 1 is a local network

	mu   sync.Mutex
	ends [2]end
	held bool // one end is frozen: nothing arrives at either
}

// end is what arrives at one side of a link.
type end struct {
	arriving []segment
	bytes    []byte        // of the segments, one behind the other
	taken    int           // of bytes
	last     time.Time     // when the segment sent last arrives
	delay    time.Duration // added to what is sent from now on
	closed   bool          // by this side
	finished bool          // the other side has closed: the end of the stream comes after what is arriving
	broken   bool          // the connection was reset
	deadline time.Time

	// The one goroutine that reads. It is woken when there is something for it and not before: a history is little else
	// than goroutines that wake each other.
	waits   bool
	alarm   time.Time // when timer wakes it; zero: never
	timer   *time.Timer
	changed chan struct{} // wakes it at once
}

// segment is what was sent at once.
type segment struct {
	at   time.Time
	size int
}

func newLink(process, name string, rng *rand.Rand, far int) *link {
	l := &link{process: process, name: name, rng: rng, far: far}
	for i := range l.ends {
		l.ends[i].changed = make(chan struct{}, 1)
	}
	return l
}

// conn is one side of a link: 0 dialled, 1 accepted.
type conn struct {
	*link
	side int
}

var _ net.Conn = conn{}

// Read returns what has arrived. It waits for its time to come.
func (c conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := &c.ends[c.side]; ; {
		now, until := time.Now(), e.deadline
		switch {
		case e.closed:
			return 0, net.ErrClosed
		case !until.IsZero() && !now.Before(until):
			return 0, os.ErrDeadlineExceeded
		case e.broken:
			return 0, syscall.ECONNRESET
		case c.held:
		case len(e.arriving) > 0 && !e.arriving[0].at.After(now):
			return e.take(p, now), nil
		case len(e.arriving) > 0:
			until = sooner(until, e.arriving[0].at)
		case e.finished:
			return 0, io.EOF
		}
		c.wait(e, until)
	}
}

// take moves what has arrived to p.
func (e *end) take(p []byte, now time.Time) (n int) {
	done := 0
	for ; done < len(e.arriving) && n < len(p) && !e.arriving[done].at.After(now); done++ {
		s := &e.arriving[done]
		size := copy(p[n:], e.bytes[e.taken:e.taken+s.size])
		e.taken, n = e.taken+size, n+size
		if s.size -= size; s.size > 0 {
			break
		}
	}
	if e.arriving = slices.Delete(e.arriving, 0, done); len(e.arriving) == 0 {
		e.bytes, e.taken = e.bytes[:0], 0
	}
	return n
}

// sooner is the earlier of two times, of which a may be zero: never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// wait gives the lock up until something has changed at this end, or a time has come; zero is never.
func (c conn) wait(e *end, until time.Time) {
	if e.waits {
		panic("two goroutines read " + c.name)
	}
	e.waits, e.alarm = true, time.Time{}
	if e.timer == nil {
		e.timer = time.NewTimer(time.Hour)
	}
	if until.IsZero() {
		e.timer.Stop()
	} else {
		e.wakeAt(until)
	}
	c.mu.Unlock()
	select {
	case <-e.changed:
	case <-e.timer.C:
	}
	c.mu.Lock()
	e.waits = false
}

// wakeAt has the reader woken at a time, unless it is woken before.
func (e *end) wakeAt(t time.Time) {
	if e.waits && (e.alarm.IsZero() || t.Before(e.alarm)) {
		e.alarm = t
		e.timer.Reset(time.Until(t))
	}
}

// wake has both sides look again.
func (l *link) wake() {
	for i := range l.ends {
		select {
		case l.ends[i].changed <- struct{}{}:
		default:
		}
	}
}

// Write sends p on its way.
func (c conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	own, peer := &c.ends[c.side], &c.ends[1-c.side]
	switch {
	case own.closed:
		return 0, net.ErrClosed
	case own.broken, peer.closed && !c.held:
		return 0, syscall.EPIPE
	}
	at := time.Now().Add(c.latency() + peer.delay)
	if at.Before(peer.last) {
		at = peer.last
	}
	peer.last = at
	peer.arriving = append(peer.arriving, segment{at, len(p)})
	peer.bytes = append(peer.bytes, p...)
	if len(peer.arriving) == 1 && !c.held {
		peer.wakeAt(at)
	}
	return len(p), nil
}

// latency is mostly that of a local network, now and then that of a bad one.
func (l *link) latency() time.Duration {
	if l.rng.IntN(50) == 0 {
		return time.Duration(l.rng.IntN(200)) * time.Millisecond
	}
	return time.Duration(l.far*(50+l.rng.IntN(1500))) * time.Microsecond
}

// Close ends this side. What it has sent still arrives.
func (c conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	own, peer := &c.ends[c.side], &c.ends[1-c.side]
	if own.closed {
		return net.ErrClosed
	}
	own.closed, peer.finished = true, true
	c.wake()
	return nil
}

// lose drops what is under way to a side.
func (e *end) lose() { e.arriving, e.bytes, e.taken = nil, nil, 0 }

// cut resets the connection. What was under way to either side is lost, or arrives: loses says so for each.
func (l *link) cut(loses [2]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.ends {
		if e := &l.ends[i]; loses[i] {
			e.broken = true
			e.lose()
		} else {
			e.finished = true
		}
	}
	l.wake()
}

// kill ends the side that was dialled, as the end of its process does. The other side sees it, unless the host has gone too:
// then it sees nothing.
func (l *link) kill(loses, vanishes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends[0].broken = true
	l.ends[0].lose()
	if loses {
		l.ends[1].lose()
	}
	l.ends[1].finished = l.ends[1].finished || !vanishes
	l.held = false
	l.wake()
}

// hold freezes the link, or thaws it.
func (l *link) hold(frozen bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = frozen
	l.wake()
}

// slow adds to the time that whatever is sent to a side takes.
func (l *link) slow(side int, delay time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends[side].delay = delay
}

// dead says whether both sides have let go.
func (l *link) dead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return (l.ends[0].closed || l.ends[0].broken) && l.ends[1].closed
}

// SetReadDeadline makes a read fail that would wait longer.
func (c conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &c.ends[c.side]
	if e.closed {
		return net.ErrClosed
	}
	if e.deadline = t; !t.IsZero() {
		e.wakeAt(t) // one that comes later is seen when the reader wakes
	}
	return nil
}

// SetWriteDeadline does nothing, since no write waits.
func (c conn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline is SetReadDeadline.
func (c conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// LocalAddr and RemoteAddr are for messages.
func (c conn) LocalAddr() net.Addr  { return address(c.name) }
func (c conn) RemoteAddr() net.Addr { return address(c.name) }

type address string

func (a address) Network() string { return "memory" }
func (a address) String() string  { return string(a) }
