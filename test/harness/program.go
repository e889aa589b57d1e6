package harness

import (
	"bytes"
	"os/exec"
	"sync"
	"syscall"
	"testing"
)

// Program is any other program as a child process.
type Program struct {
	proc *process
	out  *transcript
}

// StartProgram starts cmd; it is killed at the end of the test if it still runs.
func StartProgram(t testing.TB, cmd *exec.Cmd) *Program {
	t.Helper()
	p := &Program{out: &transcript{}}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	var err error
	if p.proc, err = start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// Kill is kill -9 for the program and for what it has started.
func (p *Program) Kill() {
	if p.proc.running() {
		_ = syscall.Kill(-p.proc.cmd.Process.Pid, syscall.SIGKILL)
	}
	<-p.proc.done
}

// Ended is closed when the program has ended, and Err is how.
func (p *Program) Ended() <-chan struct{} { return p.proc.done }

// Err says how a program has ended that has.
func (p *Program) Err() error { return p.proc.err }

// Output is everything that it has written.
func (p *Program) Output() string { return p.out.String() }

// transcript is a buffer for writing and reading at once.
type transcript struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *transcript) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *transcript) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
