//go:build failpoint

package checkpoint

import points "github.com/outrider-relay/outrider/test/failpoint"

func failpoint(name string) { points.Hit(name) }
