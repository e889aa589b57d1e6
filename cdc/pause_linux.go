package cdc

import (
	"syscall"
	"time"
	"unsafe"
)

// pause sleeps for d, which is short, in the kernel. The runtime's timers are of no use here: an idle process waits in
// epoll, whose time-out has a granularity of a millisecond, which is five times what was asked for and costs throughput.
//
// The call is raw: the runtime is not told. Told of a system call, it lets its monitor take the processor away after 20 us
// and find it another thread, thousands of times a second, which was a tenth of the relay's CPU. The price is that what
// wants to run on this processor waits for as long as d, a garbage collection that is about to begin too.
//
// It blocks a thread, which does not matter for one reader. A signal may end it early, which does not matter either.
func pause(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	_, _, _ = syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}
