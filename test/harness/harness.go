// Package harness starts the real parts that the relay is proved against: Postgres, Apache Kafka, a TCP proxy that cuts and
// stalls, and the relay's own binary as a child process. Everything listens on loopback and a free port, and is stopped by
// whoever started it.
package harness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// CacheDir is where downloads are kept, for the next run to need none.
func CacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder (is HOME set?): %w", err)
	}
	dir := filepath.Join(base, "outrider")
	return dir, os.MkdirAll(dir, 0o755)
}

// freePort gives a TCP port on loopback that nobody listens on. It is one that systems give to no outgoing connection, so
// that it is still free when a server that was stopped comes back to it.
func freePort() (int, error) {
	const first, last = 15000, 32000
	for range 100 {
		port := first + rand.IntN(last-first)
		l, err := net.Listen("tcp", loopback(port))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free TCP port from %d to %d", first, last)
}

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

// Eventually waits until check returns nil, and fails the test with what it said last when that takes longer than patience.
func Eventually(t testing.TB, patience time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		}
		<-tick.C
	}
}

// Throughout checks again and again for as long as d that check returns nil, and fails the test when it does not.
func Throughout(t testing.TB, d time.Duration, what string, check func() error) {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Since(began) < d {
		if err := check(); err != nil {
			t.Fatalf("%s: no longer after %s: %v", what, time.Since(began).Round(time.Millisecond), err)
		}
		<-tick.C
	}
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
