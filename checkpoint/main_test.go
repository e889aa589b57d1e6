package checkpoint_test

import (
	"os"
	"testing"

	"github.com/outrider-relay/outrider/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// newURL makes a database and returns its URL.
func newURL(t *testing.T) string { t.Helper(); return harness.NewDatabase(t) }
