package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
)

// Build compiles ./cmd/outrider once a process, with the race detector where RELAYTEST_RACE is set.
func Build() (string, error) { return build() }

var build = sync.OnceValues(func() (string, error) {
	dir, err := folder(os.TempDir(), "bin")
	if err != nil {
		return "", err
	}
	buildDir.Store(dir)
	return BuildWith(dir, "")
})

// BuildWith compiles ./cmd/outrider with a build tag into dir.
func BuildWith(dir, tag string) (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	bin := filepath.Join(dir, "outrider")
	args := []string{"build", "-o", bin, "-tags", tag}
	if os.Getenv("RELAYTEST_RACE") != "" {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./cmd/outrider")...)
	cmd.Dir = strings.TrimSpace(string(root))
	if out, err := output(cmd); err != nil {
		return "", fmt.Errorf("build the relay: %w\n%s", err, out)
	}
	return bin, nil
}

// buildDir is Build's, for RemoveBuild.
var buildDir atomic.Value // string

// RemoveBuild removes what Build made, if it was asked to.
func RemoveBuild() error {
	dir, made := buildDir.Load().(string)
	if !made {
		return nil
	}
	return os.RemoveAll(dir)
}

// Command runs the binary to its end, with env as all its settings beside args, and gives what it wrote and its exit code.
func Command(t testing.TB, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	bin, err := Build()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir = t.TempDir() // where no outrider.yaml is found
	cmd.Env = append(withoutSettings(os.Environ()), env...)
	var out, log strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &log
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("outrider %s: %v\n%s", strings.Join(args, " "), err, log.String())
	}
	return out.String(), log.String(), cmd.ProcessState.ExitCode()
}

// RelayOptions are the settings of a relay under test.
type RelayOptions struct {
	Name     string // zero: orders
	Postgres string // URL
	Kafka    []string
	// Config is further YAML; top-level keys other than those above.
	Config string
	Args   []string
	Env    []string
	Binary string // zero: what Build makes
	// Unread makes its log a pipe that is full, and that nobody reads while it runs.
	Unread bool
}

// Relay is the relay's binary as a child process.
type Relay struct {
	Base  string // of its HTTP endpoint
	Token string // what the endpoint asks for, if it does

	proc *process
	mu   sync.Mutex
	log  []string
	eof  chan struct{} // closed when the log has ended
}

// StartRelay starts the binary; it is killed at the end of the test if it still runs.
func StartRelay(t testing.TB, o RelayOptions) *Relay {
	t.Helper()
	r, err := RunRelay(o)
	if err != nil {
		t.Fatalf("start the relay: %v", err)
	}
	t.Cleanup(func() {
		r.Kill()
		if t.Failed() {
			t.Logf("log of the relay:\n%s", r.Log())
		}
	})
	return r
}

// RunRelay starts the binary. The caller ends it.
func RunRelay(o RelayOptions) (*Relay, error) {
	bin := o.Binary
	if bin == "" {
		var err error
		if bin, err = Build(); err != nil {
			return nil, err
		}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	if o.Name == "" {
		o.Name = "orders"
	}
	dir, err := folder(os.TempDir(), "relay")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "outrider.yaml")
	if err := os.WriteFile(file, []byte(o.Config), 0o600); err != nil {
		return nil, err
	}
	args := append([]string{
		"run", "--config", file, "--name", o.Name, "--postgres", o.Postgres, "--kafka", strings.Join(o.Kafka, ","),
		"--listen", loopback(port), "--log-format", "json",
	}, o.Args...)
	r := &Relay{Base: "http://" + loopback(port), eof: make(chan struct{})}
	cmd := exec.Command(bin, args...)
	cmd.Env = append(withoutSettings(os.Environ()), o.Env...)
	// Not cmd.StderrPipe, which Wait closes with what nobody has read yet: the last line is the one that counts.
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	if o.Unread {
		if err := fill(in); err != nil {
			return nil, errors.Join(err, in.Close(), out.Close())
		}
	}
	cmd.Stderr = in
	r.proc, err = start(cmd)
	_ = in.Close()
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	go func() {
		if o.Unread {
			<-r.proc.done
		}
		r.collect(out, dir)
	}()
	return r, nil
}

// fill writes lines to a pipe until it takes no more.
func fill(in *os.File) error {
	line := append(bytes.Repeat([]byte("."), 127), '\n')
	for {
		if err := in.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			return err
		}
		if _, err := in.Write(line); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
			return err
		}
	}
}

// withoutSettings drops what would be settings of the relay.
func withoutSettings(env []string) []string {
	var kept []string
	for _, v := range env {
		if !strings.HasPrefix(v, "OUTRIDER_") && !strings.HasPrefix(v, "PG") {
			kept = append(kept, v)
		}
	}
	return kept
}

// collect keeps the log, and removes dir when the process has ended.
func (r *Relay) collect(out io.ReadCloser, dir string) {
	defer close(r.eof)
	defer func() { _ = out.Close() }()
	defer func() { _ = os.RemoveAll(dir) }()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		r.mu.Lock()
		r.log = append(r.log, lines.Text())
		r.mu.Unlock()
	}
}

// Log is everything on stderr so far.
func (r *Relay) Log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.log, "\n")
}

// AwaitLog waits for a line that holds text.
func (r *Relay) AwaitLog(t testing.TB, text string, patience time.Duration) {
	t.Helper()
	Eventually(t, patience, "log line with "+strconv.Quote(text), func() error {
		if strings.Contains(r.Log(), text) {
			return nil
		}
		return errors.New("not there")
	})
}

// Status is the document at /status.
func (r *Relay) Status() (cdc.Status, error) {
	var st cdc.Status
	body, code, err := r.Get("/status")
	if err != nil {
		return st, err
	}
	if code != http.StatusOK {
		return st, fmt.Errorf("/status answers %d", code)
	}
	return st, json.Unmarshal([]byte(body), &st)
}

// Get asks the endpoint.
func (r *Relay) Get(path string) (body string, code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.Base+path, nil)
	if err != nil {
		return "", 0, err
	}
	if r.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.Token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return string(b), res.StatusCode, err
}

// AwaitState waits until the relay is in a state.
func (r *Relay) AwaitState(t testing.TB, want cdc.State, patience time.Duration) cdc.Status {
	t.Helper()
	var st cdc.Status
	Eventually(t, patience, "state "+string(want), func() (err error) {
		if st, err = r.Status(); err != nil {
			return err
		}
		if st.State != want {
			return fmt.Errorf("it is %s (%s)", st.State, st.Reason)
		}
		return nil
	})
	return st
}

// Signal sends a signal.
func (r *Relay) Signal(sig syscall.Signal) { r.proc.signal(sig) }

// Kill is kill -9.
func (r *Relay) Kill() {
	r.proc.signal(syscall.SIGKILL)
	<-r.proc.done
	<-r.eof
}

// Stop asks for a clean stop and gives the exit code.
func (r *Relay) Stop(t testing.TB) int {
	t.Helper()
	r.Signal(syscall.SIGTERM)
	return r.ExitCode(t, time.Minute)
}

// Wait waits for the end, and gives the exit code; -1 where a signal ended the process.
func (r *Relay) Wait(ctx context.Context) (code int, err error) {
	if err := r.proc.wait(ctx); err != nil {
		return 0, err
	}
	<-r.eof
	return r.proc.cmd.ProcessState.ExitCode(), nil
}

// ExitCode waits for the end.
func (r *Relay) ExitCode(t testing.TB, patience time.Duration) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	code, err := r.Wait(ctx)
	if err != nil {
		t.Fatalf("end of the relay: %v\n%s", err, r.Log())
	}
	return code
}

// Frozen is nil when the process has been stopped, by us or by itself.
func (r *Relay) Frozen() error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.PID()))
	if err != nil {
		return err
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	if !strings.HasPrefix(state, "T") {
		return fmt.Errorf("its state is %.1s", state)
	}
	return nil
}

// AwaitFrozen waits for that.
func (r *Relay) AwaitFrozen(t testing.TB, patience time.Duration) {
	t.Helper()
	Eventually(t, patience, "a frozen relay", r.Frozen)
}

// Running says whether the process lives.
func (r *Relay) Running() bool { return r.proc.running() }

// PID is the process's.
func (r *Relay) PID() int { return r.proc.cmd.Process.Pid }

// Usage is what a process has used: memory now and at its peak, and CPU time.
type Usage struct {
	RSS, PeakRSS int64 // bytes
	CPU          time.Duration
}

// Usage reads /proc.
func (r *Relay) Usage() (Usage, error) { return UsageOf(r.PID()) }

// UsageOf reads what a process has used from /proc.
func UsageOf(pid int) (Usage, error) {
	var u Usage
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		var kb int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 {
			u.RSS = kb << 10
		}
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kb); n == 1 {
			u.PeakRSS = kb << 10
		}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const ticks = 100 // per second: USER_HZ
	for _, i := range []int{11, 12} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return u, err
		}
		u.CPU += time.Duration(n) * time.Second / ticks
	}
	return u, nil
}
