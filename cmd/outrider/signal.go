package main

import (
	"os"
	"os/signal"
	"syscall"
)

// stopOnSignals calls drain at the first SIGTERM or SIGINT, and now at the second. Its goroutine ends with the process.
func stopOnSignals(drain func(), now func(os.Signal)) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		drain()
		now(<-signals)
	}()
}
