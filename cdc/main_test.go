package cdc_test

import (
	"os"
	"testing"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

func TestMain(m *testing.M) {
	cdc.NewDatabase = harness.NewDatabase
	os.Exit(harness.Main(m))
}
