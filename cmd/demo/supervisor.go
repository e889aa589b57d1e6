package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// supervisor keeps a relay process running, as systemd or Kubernetes would.
type supervisor struct {
	page     *net.TCPListener // the relay's, kept open here so that its address survives the process
	screen   *screen
	settings relaySettings

	mu      sync.Mutex
	process *os.Process // of the running relay; guarded by mu
}

// url is the status page's.
func (v *supervisor) url() string { return "http://" + v.page.Addr().String() + "/" }

// restartPause keeps a relay that dies at its start from being started without end.
const restartPause = 200 * time.Millisecond

// run starts a relay, and another whenever one dies, until ctx ends; then the relay drains. One that ends by itself with
// an error is the demo's end too.
func (v *supervisor) run(ctx context.Context) error {
	for {
		err := v.runOnce(ctx)
		var exit *exec.ExitError
		switch {
		case ctx.Err() != nil:
			return err
		case errors.As(err, &exit) && exit.ExitCode() < 0:
			v.screen.warn("relay", "pid %d is dead (%s); the next one takes over", exit.Pid(), exit)
		case err != nil:
			return fmt.Errorf("relay: %w", err)
		default:
			v.screen.warn("relay", "stopped with everything delivered and stored; the next one takes over")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(restartPause):
		}
	}
}

// runOnce runs one process, from its start to its end. The end of ctx closes its standard input, which asks it to drain.
func (v *supervisor) runOnce(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	page, err := v.page.File()
	if err != nil {
		return err
	}
	defer func() { _ = page.Close() }()
	cmd := exec.Command(self, "relay")
	cmd.ExtraFiles = []*os.File{page} // becomes pageDescriptor
	log := &lineWriter{print: func(line string) { v.screen.warn("relay", "%s", line) }}
	cmd.Stderr = log
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	v.screen.note("relay", "pid %d starts", cmd.Process.Pid)
	v.set(cmd.Process)
	defer v.set(nil)
	defer context.AfterFunc(ctx, func() { _ = input.Close() })()
	if err := json.NewEncoder(input).Encode(v.settings); err != nil && !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, os.ErrClosed) {
		v.kill()
	}
	return cmd.Wait()
}

func (v *supervisor) set(p *os.Process) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.process = p
}

// pid is the running relay's, or 0.
func (v *supervisor) pid() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.process == nil {
		return 0
	}
	return v.process.Pid
}

// kill ends the relay as kill -9 does: it gets no chance to store or finish anything.
func (v *supervisor) kill() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.process != nil {
		_ = v.process.Kill() // it may have died by itself
	}
}

// lineWriter hands over whole lines.
type lineWriter struct {
	print func(string)
	rest  string
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest += string(p)
	for {
		line, rest, found := strings.Cut(w.rest, "\n")
		if !found {
			return len(p), nil
		}
		w.print(line)
		w.rest = rest
	}
}
