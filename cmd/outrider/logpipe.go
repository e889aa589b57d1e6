package main

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// logPipe passes lines on to a writer that may block, and never blocks itself: a log that nobody reads must not stop a
// relay. What does not fit is dropped, and counted in the log once it flows again.
type logPipe struct {
	out     io.Writer
	lines   chan []byte
	dropped atomic.Int64
	lost    func(lines int64) // tells out how many lines were dropped; called by run alone

	stop     chan struct{}
	stopOnce sync.Once
	done     chan struct{} // closed when run returns
}

// logPipeLines is how many lines may wait: enough for a burst at a state change, little enough to be forgotten.
const logPipeLines = 1024

func newLogPipe(out io.Writer) *logPipe {
	return &logPipe{out: out, lines: make(chan []byte, logPipeLines), stop: make(chan struct{}), done: make(chan struct{})}
}

// Write takes one line. Safe for use by any goroutine.
func (p *logPipe) Write(line []byte) (int, error) {
	select {
	case p.lines <- bytes.Clone(line):
	default:
		p.dropped.Add(1)
	}
	return len(line), nil
}

// run passes lines on until close.
func (p *logPipe) run() {
	defer close(p.done)
	for {
		select {
		case line := <-p.lines:
			p.pass(line)
		case <-p.stop:
			for len(p.lines) > 0 {
				p.pass(<-p.lines)
			}
			return
		}
	}
}

// pass writes a line. There is nowhere to report an error to.
func (p *logPipe) pass(line []byte) {
	_, _ = p.out.Write(line)
	if n := p.dropped.Swap(0); n > 0 {
		p.lost(n)
	}
}

// close lets what was written be passed on, for as long as timeout. Later lines are lost.
func (p *logPipe) close(timeout time.Duration) {
	p.stopOnce.Do(func() { close(p.stop) })
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
	}
}
