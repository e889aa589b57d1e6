//go:build failpoint

package checkpoint

import points "github.com/outrider-relay/outrider/test/failpoint"

func failpoint(name string) { points.Hit(name) }

func planted(name string) bool { return points.Planted(name) }
