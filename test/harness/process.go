package harness

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// process is a child that dies with us, on Linux also when we are killed.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of Wait, once done is closed
}

// start runs cmd. The kernel kills a child whose parent thread ends, so the thread that starts it must stay: it waits for
// the child and does nothing else.
func start(cmd *exec.Cmd) (*process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	dieWithUs(cmd.SysProcAttr)
	cmd.SysProcAttr.Setpgid = true // Ctrl-C in a terminal is for us: we stop them, in order
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	return p, nil
}

// output runs cmd to its end, and gives what it wrote.
func output(cmd *exec.Cmd) ([]byte, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := start(cmd)
	if err != nil {
		return nil, err
	}
	<-p.done
	return bytes.TrimSpace(out.Bytes()), p.err
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal sends sig unless the process has ended.
func (p *process) signal(sig syscall.Signal) {
	if p.running() {
		_ = p.cmd.Process.Signal(sig)
	}
}

// wait waits for the end of the process, or of ctx.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s (pid %d) is still running: %w", filepath.Base(p.cmd.Path), p.cmd.Process.Pid, ctx.Err())
	}
}

// stop asks for an end by sig, and enforces it after patience.
func (p *process) stop(sig syscall.Signal, patience time.Duration) error {
	p.signal(syscall.SIGCONT)
	p.signal(sig)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := p.wait(ctx)
	if err != nil {
		p.signal(syscall.SIGKILL)
		<-p.done
	}
	return err
}
