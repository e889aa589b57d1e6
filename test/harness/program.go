package harness

import (
	"bytes"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Program is any other program as a child process.
type Program struct {
	proc *process
	out  *transcript
}

// StartProgram starts cmd; it is killed at the end of the test if it still runs.
func StartProgram(t testing.TB, cmd *exec.Cmd) *Program {
	t.Helper()
	p, err := RunProgram(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// RunProgram starts cmd. The caller ends it.
func RunProgram(cmd *exec.Cmd) (p *Program, err error) {
	p = &Program{out: &transcript{}}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	p.proc, err = start(cmd)
	return p, err
}

// Stop asks the program to end by a signal, and kills it when that takes longer than patience, which is an error.
func (p *Program) Stop(sig syscall.Signal, patience time.Duration) error {
	return p.proc.stop(sig, patience)
}

// PID is the process's.
func (p *Program) PID() int { return p.proc.cmd.Process.Pid }

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
