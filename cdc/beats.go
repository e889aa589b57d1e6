package cdc

import (
	"fmt"
	"sync"
	"time"
)

// beats notices a loop that no longer turns. A loop tells each turn; none of them waits longer than a minute for anything.
type beats struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// beatLimit is how long a loop may be silent: twice the longest wait of any.
const beatLimit = 2 * time.Minute

func (b *beats) beat(loop string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last == nil {
		b.last = make(map[string]time.Time)
	}
	b.last[loop] = time.Now()
}

// done takes a loop that has ended off the list.
func (b *beats) done(loop string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.last, loop)
}

// check names a loop that is stuck.
func (b *beats) check(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.last) == 0 {
		return fmt.Errorf("the relay is not running")
	}
	for loop, last := range b.last {
		if silent := now.Sub(last); silent > beatLimit {
			return fmt.Errorf("the %s loop has not turned for %s: restart the process", loop, silent.Round(time.Second))
		}
	}
	return nil
}
