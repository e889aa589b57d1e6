package harness

import "syscall"

// dieWithUs has the kernel kill the child when the thread that started it ends, as it does when we are killed.
func dieWithUs(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
