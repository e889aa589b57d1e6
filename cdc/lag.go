package cdc

import (
	"sync"
	"time"
)

// lagClock turns an LSN into an age. It remembers when the server's WAL end stood where; everything at or below a
// position was then written by that time, and what lies above it came later.
type lagClock struct {
	mu      sync.Mutex
	samples []lagSample // by time; LSNs do not decrease
}

type lagSample struct {
	at  time.Time
	end lsn
}

// maxLagSamples bounds the memory: when there are more, every second one goes, and ages get coarser by as much.
const maxLagSamples = 1024

// sample notes the server's WAL end.
func (c *lagClock) sample(now time.Time, end lsn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.samples); n > 0 && end <= c.samples[n-1].end {
		if end < c.samples[n-1].end { // another server, or one that lost its tail
			c.samples = c.samples[:0]
		} else if n > 1 && c.samples[n-2].end == end {
			c.samples[n-1].at = now // at rest: only the span matters
			return
		}
	}
	c.samples = append(c.samples, lagSample{now, end})
	if len(c.samples) > maxLagSamples {
		kept := c.samples[:0]
		for i, s := range c.samples {
			if i%2 == 0 || i == len(c.samples)-1 {
				kept = append(kept, s)
			}
		}
		c.samples = kept
	}
}

// age is the time since the server's end was last seen at or below acked, 0 when all that was ever seen is acked: an
// upper bound, coarser by a sample, of the age of the oldest commit that is not acked.
func (c *lagClock) age(now time.Time, acked lsn) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	passed := 0
	for passed < len(c.samples) && c.samples[passed].end <= acked {
		passed++
	}
	switch {
	case passed == len(c.samples):
		c.samples = c.samples[max(0, passed-1):]
		return 0
	case passed == 0:
		return now.Sub(c.samples[0].at)
	}
	c.samples = c.samples[passed-1:]
	return now.Sub(c.samples[0].at)
}
