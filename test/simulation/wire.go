package simulation

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// link is a connection in memory. What is written arrives later, in order, as on a TCP connection: a writer never waits, so
// that what is under way when one end stops can still arrive at the other.
type link struct {
	name string
	rng  *rand.Rand // of this link alone, so that a seed gives it the same delays whatever else happens
	far  int        // multiplies delays: 1 is a local network

	mu    sync.Mutex
	moved sync.Cond
	ends  [2]end
	held  bool // one end is frozen: nothing arrives at either
}

// end is what arrives at one side of a link.
type end struct {
	arriving []segment
	last     time.Time     // when the segment sent last arrives
	delay    time.Duration // added to what is sent from now on
	closed   bool          // by this side
	finished bool          // the other side has closed: the end of the stream comes after what is arriving
	broken   bool          // the connection was reset
	deadline time.Time
	timer    *time.Timer
}

type segment struct {
	at   time.Time
	data []byte
}

func newLink(name string, rng *rand.Rand, far int) *link {
	l := &link{name: name, rng: rng, far: far}
	l.moved.L = &l.mu
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
	for {
		e, now := &c.ends[c.side], time.Now()
		switch {
		case e.closed:
			return 0, net.ErrClosed
		case !e.deadline.IsZero() && !now.Before(e.deadline):
			return 0, os.ErrDeadlineExceeded
		case e.broken:
			return 0, syscall.ECONNRESET
		case c.held:
		case len(e.arriving) > 0 && !e.arriving[0].at.After(now):
			n := copy(p, e.arriving[0].data)
			if e.arriving[0].data = e.arriving[0].data[n:]; len(e.arriving[0].data) == 0 {
				e.arriving = e.arriving[1:]
			}
			return n, nil
		case len(e.arriving) > 0:
			time.AfterFunc(e.arriving[0].at.Sub(now), c.wake)
		case e.finished:
			return 0, io.EOF
		}
		c.moved.Wait()
	}
}

func (l *link) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moved.Broadcast()
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
	peer.arriving = append(peer.arriving, segment{at, append([]byte(nil), p...)})
	c.moved.Broadcast()
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
	if own.timer != nil {
		own.timer.Stop()
	}
	c.moved.Broadcast()
	return nil
}

// cut resets the connection. What was under way to either side is lost, or arrives: loses says so for each.
func (l *link) cut(loses [2]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.ends {
		if e := &l.ends[i]; loses[i] {
			e.broken, e.arriving = true, nil
		} else {
			e.finished = true
		}
	}
	l.moved.Broadcast()
}

// kill ends the side that was dialled, as the end of its process does. The other side sees it, unless the host has gone too:
// then it sees nothing.
func (l *link) kill(loses, vanishes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends[0].broken, l.ends[0].arriving = true, nil
	if loses {
		l.ends[1].arriving = nil
	}
	l.ends[1].finished = l.ends[1].finished || !vanishes
	l.held = false
	l.moved.Broadcast()
}

// hold freezes the link, or thaws it.
func (l *link) hold(frozen bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = frozen
	l.moved.Broadcast()
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
	if e.timer != nil {
		e.timer.Stop()
	}
	if e.deadline = t; !t.IsZero() {
		e.timer = time.AfterFunc(time.Until(t), c.wake)
	}
	c.moved.Broadcast()
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
