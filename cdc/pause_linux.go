package cdc

import (
	"syscall"
	"time"
)

// pause sleeps for d in the kernel. The runtime's timers are of no use here: an idle process waits in epoll, whose
// time-out has a granularity of a millisecond, which is five times what was asked for and costs throughput.
// It blocks a thread, which does not matter for one reader. A signal may end it early, which does not matter either.
func pause(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil)
}
