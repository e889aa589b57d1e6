package cdc

import (
	"sync"
	"time"
)

// lagClock turns an LSN into an age. It remembers when the server's WAL end stood where; everything at or below a
// position was then written by that time, and what lies above it came later.
type lagClock struct {
	mu       sync.Mutex
	samples  []lagSample   // by time; LSNs do not decrease
	distance time.Duration // that samples keep from each other
}

type lagSample struct {
	at  time.Time
	end lsn
}

// maxLagSamples bounds the memory. When there are more, they are thinned to twice the distance, and ages get coarser by as much.
const maxLagSamples = 1024

// sample notes the server's WAL end.
func (c *lagClock) sample(now time.Time, end lsn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.samples)
	switch {
	case n > 0 && end < c.samples[n-1].end:
		c.samples, c.distance = c.samples[:0], 0 // another server, or one that lost its tail
	case n > 1 && (c.samples[n-2].end == end || now.Sub(c.samples[n-2].at) < c.distance):
		c.samples = c.samples[:n-1] // at rest only the span matters, and close to another one a sample says little
	}
	c.samples = append(c.samples, lagSample{now, end})
	if len(c.samples) > maxLagSamples {
		c.thin()
	}
}

// restart forgets what was seen: until the server is seen again, anything may have been committed since now.
func (c *lagClock) restart(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.samples, c.distance = append(c.samples[:0], lagSample{at: now}), 0
}

// thin doubles the distance between samples.
func (c *lagClock) thin() {
	span := c.samples[len(c.samples)-1].at.Sub(c.samples[0].at)
	c.distance = 2 * span / maxLagSamples
	kept := c.samples[:1]
	for _, s := range c.samples[1:] {
		if s.at.Sub(kept[len(kept)-1].at) >= c.distance {
			kept = append(kept, s)
		}
	}
	c.samples = kept
}

// sampleStale is the age at which the last sample says nothing of the present: the server may have committed since.
const sampleStale = 10 * time.Second

// age is the time since the server's end was last seen at or below acked, 0 when all that is there is acked: an upper
// bound, coarser by a sample, of the age of the oldest commit that is not acked. A server that is not seen may have
// committed right after it was seen last.
func (c *lagClock) age(now time.Time, acked lsn) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.samples) == 0 {
		return 0
	}
	passed := 0
	for passed < len(c.samples) && c.samples[passed].end <= acked {
		passed++
	}
	switch {
	case passed == len(c.samples):
		c.samples, c.distance = c.samples[passed-1:], 0
		if unseen := now.Sub(c.samples[0].at); unseen > sampleStale {
			return unseen
		}
		return 0
	case passed == 0:
		return now.Sub(c.samples[0].at)
	}
	c.samples = c.samples[passed-1:]
	return now.Sub(c.samples[0].at)
}
