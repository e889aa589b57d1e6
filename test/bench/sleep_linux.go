package main

import (
	"syscall"
	"time"
)

// sleepUntil sleeps in the kernel. The runtime's timers wait in epoll, whose time-out has a granularity of a millisecond: at
// some thousand rows a second they would come in bunches, each late by as much as what is measured.
func sleepUntil(due time.Time) {
	for d := time.Until(due); d > 0; d = time.Until(due) { // a signal ends a sleep early
		ts := syscall.NsecToTimespec(int64(d))
		_ = syscall.Nanosleep(&ts, nil)
	}
}
