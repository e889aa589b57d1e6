package cdc

import (
	"net"
	"os"
	"time"
)

const (
	// While a backlog flows, reads of the socket keep a distance in which about gather bytes arrive, within these bounds. The
	// walsender sends a message per row, and each send wakes a reader that waits; a reader that lets the rows gather
	// leaves the CPU to the server, the more so the less there is of it. More than the bounds would let the socket fill up.
	minLull, maxLull = 200 * time.Microsecond, time.Millisecond
	gather           = 8 << 10
	// flowRate, in bytes a second, is what tells a backlog from a trickle: some 10,000 small rows a second.
	// Below it there is little to save, and a commit is worth more on time than cheap.
	flowRate = 4 << 20
	// flowWindow is the time over which the rate is taken.
	flowWindow = 2 * time.Millisecond
)

// lazyConn is the socket of a replication connection, below TLS. It makes the reader lazy: while a backlog flows it
// waits a moment before it reads, so that one system call brings many rows. It never waits when the stream is quiet.
//
// One goroutine reads; deadlines and writes go straight to the socket.
type lazyConn struct {
	net.Conn

	// noWait makes a read fail, as if its deadline had passed, instead of asking the socket.
	noWait bool

	// buf holds what the socket gave and TLS, which reads in small pieces, has not yet asked for. It is nil until the
	// stream starts, so that nothing is held back from a handshake, and without TLS, where reads are large anyway.
	buf  []byte
	r, w int

	rate flowMeter
}

func (c *lazyConn) Read(p []byte) (int, error) {
	if c.r < c.w {
		n := copy(p, c.buf[c.r:c.w])
		c.r += n
		return n, nil
	}
	if c.noWait {
		return 0, os.ErrDeadlineExceeded // crypto/tls keeps a record's first part over a time-out, and goes on later
	}
	if rest := c.rate.wait(time.Now()); rest > 0 {
		pause(rest)
	}
	if c.buf == nil {
		n, err := c.Conn.Read(p)
		c.rate.took(n, n == len(p), time.Now())
		return n, err
	}
	n, err := c.Conn.Read(c.buf)
	c.rate.took(n, n == len(c.buf), time.Now())
	c.w = n
	c.r = copy(p, c.buf[:n])
	return c.r, err
}

// flowMeter knows from the recent reads whether a backlog flows.
type flowMeter struct {
	last  time.Time     // when the last read returned
	full  bool          // the last read took all it could: more is waiting already
	since time.Time     // begin of the window
	bytes int           // in the window
	lull  time.Duration // to keep between reads, by the window before; 0: no backlog flows
}

// wait is the time by which a read at now should be put off.
func (m *flowMeter) wait(now time.Time) time.Duration {
	if m.lull == 0 || m.full {
		return 0
	}
	return m.lull - now.Sub(m.last) // what the reader spent on the last block counts
}

// took notes a read of n bytes that returned at now.
func (m *flowMeter) took(n int, full bool, now time.Time) {
	m.last, m.full = now, full
	m.bytes += n
	if d := now.Sub(m.since); d >= flowWindow {
		m.lull = 0
		if rate := float64(m.bytes) / d.Seconds(); rate >= flowRate {
			m.lull = min(max(time.Duration(gather/rate*float64(time.Second)), minLull), maxLull)
		}
		m.since, m.bytes = now, 0
	}
}
