package main

import (
	"os"
	"runtime/debug"

	"github.com/outrider-relay/outrider/cmd/outrider/config"
)

// baseMemory is granted beside what is in flight: read and send buffers, the tracker, the runtime itself.
const baseMemory = 24 << 20

// gcPercent is tight because the collector has little to do: rows cost no allocation, and most of the heap is buffers that live on.
const gcPercent = 50

// limitMemory keeps the heap near what is in flight, unless GOMEMLIMIT and GOGC say otherwise.
func limitMemory(inFlight config.Size) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(baseMemory + int64(inFlight))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
