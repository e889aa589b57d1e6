//go:build failpoint

package sink

import (
	"time"

	points "github.com/outrider-relay/outrider/test/failpoint"
)

func failpoint(name string) { points.Hit(name) }

func planted(name string) bool { return points.Planted(name) }

// What happens every few seconds or hours happens several times in a test's session, and what is said after half a minute
// is said while a test looks.
func init() {
	notesInterval, renewInterval = 150*time.Millisecond, points.Every(250*time.Millisecond)
	markerPatience = time.Second
}
