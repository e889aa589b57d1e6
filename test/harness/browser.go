package harness

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Browser is a headless Chromium. It is spoken to in the Chrome DevTools Protocol over two pipes, so it listens nowhere, and
// ends when we do.
type Browser struct {
	proc *process

	writing sync.Mutex // guards in: two requests must not mix
	in      io.WriteCloser

	mu      sync.Mutex
	last    int                           // request; guarded by mu, like the rest
	waiting map[int]chan<- devtoolsAnswer // by request
	tabs    map[string]*Tab               // by session
	closed  error                         // why nothing is answered any more
}

// devtoolsAnswer is what comes from the browser: the answer to a request, or an event.
type devtoolsAnswer struct {
	ID        int             `json:"id"`
	Result    json.RawMessage `json:"result"`
	Error     *devtoolsError  `json:"error"`
	SessionID string          `json:"sessionId"`
	Method    string          `json:"method"`
	Params    json.RawMessage `json:"params"`
}

type devtoolsError struct {
	Message string `json:"message"`
}

// browserNames are Chromium's in Debian, elsewhere, and of its relatives.
var browserNames = []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome"}

func findBrowser() (string, error) {
	for _, name := range browserNames {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is none of %s here: install Chromium (make deps does on Debian), or leave its tests out with BROWSERTEST=skip", strings.Join(browserNames, ", "))
}

// StartBrowser starts a Chromium that ends with the test. BROWSERTEST=skip skips the test instead.
func StartBrowser(t testing.TB) *Browser {
	t.Helper()
	if os.Getenv("BROWSERTEST") == "skip" {
		t.Skip("needs a Chromium, and BROWSERTEST=skip asks to do without")
	}
	b, err := startBrowser()
	if err != nil {
		t.Fatalf("start a browser: %v", err)
	}
	t.Cleanup(b.close)
	return b
}

func startBrowser() (*Browser, error) {
	path, err := findBrowser()
	if err != nil {
		return nil, err
	}
	profile, err := folder(os.TempDir(), "browser")
	if err != nil {
		return nil, err
	}
	theirs, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = theirs.Close() }()
	out, answers, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	defer func() { _ = answers.Close() }()
	cmd := exec.Command(path, "--headless", "--remote-debugging-pipe", "--user-data-dir="+profile,
		"--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars", "--force-color-profile=srgb")
	if os.Geteuid() == 0 {
		cmd.Args = append(cmd.Args, "--no-sandbox") // it refuses to run as root with one; what it opens is ours
	}
	cmd.ExtraFiles = []*os.File{theirs, answers} // descriptors 3 and 4
	cmd.Env = append(os.Environ(), "TZ=UTC", "LANGUAGE=en")
	b := &Browser{in: in, waiting: make(map[int]chan<- devtoolsAnswer), tabs: make(map[string]*Tab)}
	if b.proc, err = start(cmd); err != nil {
		return nil, errors.Join(err, in.Close(), out.Close())
	}
	go b.read(out, profile)
	return b, nil
}

func (b *Browser) close() {
	_ = b.in.Close()
	_ = b.proc.stop(syscall.SIGTERM, 10*time.Second)
}

// read hands out what the browser sends: messages that end with a zero byte.
func (b *Browser) read(out io.ReadCloser, profile string) {
	defer func() { _ = os.RemoveAll(profile) }()
	defer func() { _ = out.Close() }()
	messages := bufio.NewReader(out)
	for {
		message, err := messages.ReadBytes(0)
		if err == nil {
			err = b.dispatch(message[:len(message)-1])
		}
		if err != nil {
			b.fail(err)
			<-b.proc.done
			return
		}
	}
}

func (b *Browser) dispatch(message []byte) error {
	var a devtoolsAnswer
	if err := json.Unmarshal(message, &a); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if answered, ok := b.waiting[a.ID]; ok && a.Method == "" {
		answered <- a
		delete(b.waiting, a.ID)
	} else if tab := b.tabs[a.SessionID]; tab != nil {
		tab.note(a.Method, a.Params)
	}
	return nil
}

// fail answers whoever waits.
func (b *Browser) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = fmt.Errorf("the browser has gone: %w", err)
	for _, answered := range b.waiting {
		close(answered)
	}
}

// call sends a request, for a tab where session is not empty, and reads the answer into result unless that is nil.
func (b *Browser) call(ctx context.Context, session, method string, params, result any) error {
	answered := make(chan devtoolsAnswer, 1)
	b.mu.Lock()
	if b.closed != nil {
		b.mu.Unlock()
		return b.closed
	}
	b.last++
	id := b.last
	b.waiting[id] = answered
	b.mu.Unlock()

	request := map[string]any{"id": id, "method": method, "params": params}
	if session != "" {
		request["sessionId"] = session
	}
	message, err := json.Marshal(request)
	if err == nil {
		b.writing.Lock()
		_, err = b.in.Write(append(message, 0))
		b.writing.Unlock()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	case a, ok := <-answered:
		switch {
		case !ok:
			return fmt.Errorf("%s: the browser has gone", method)
		case a.Error != nil:
			return fmt.Errorf("%s: %s", method, a.Error.Message)
		case result == nil:
			return nil
		}
		return json.Unmarshal(a.Result, result)
	}
}
