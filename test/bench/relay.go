package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/outrider-relay/outrider/test/harness"
)

// relay is a contestant in a stage: its files are written, its topic and its slot are there.
type relay struct {
	contestant
	berth
	stage   *stage
	written adapter // with its templates filled in
	program *harness.Program
}

// readyPatience bounds a start; a JVM may need seconds.
const readyPatience = time.Minute

// stopPatience bounds a stop in order.
const stopPatience = 40 * time.Second

// prepare gives a contestant all that it needs in the stage, and leaves it stopped. Its slot begins now.
func (s *stage) prepare(ctx context.Context, c contestant) (r *relay, err error) {
	name := fmt.Sprintf("%s_%d", s.name, len(s.topics))
	r = &relay{contestant: c, stage: s, berth: berth{
		Name: name, Postgres: s.url(c.transport), Host: s.host(c.transport), Port: s.bench.pg.Port, Database: s.name, User: "postgres",
		Slot: name, Publication: publication, Brokers: strings.Join(s.bench.kafka.Brokers(), ","), Topic: name + "." + aggregateType,
		Delivery: c.delivery, Outrider: s.bench.outrider,
	}}
	if err := s.createTopic(ctx, r.Topic); err != nil {
		return nil, err
	}
	if r.Dir, err = os.MkdirTemp("", "outrider-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.remove())
		}
	}()
	if r.Listen, err = freeAddress(); err != nil {
		return r, err
	}
	_, r.ListenPort, _ = net.SplitHostPort(r.Listen) // it has one
	if r.written, err = c.adapter.written(r.berth); err != nil {
		return r, err
	}
	if _, err = exec.LookPath(r.written.Command[0]); err != nil { // before minutes are spent on a backlog
		return r, err
	}
	for path, content := range r.written.Files {
		path = filepath.Join(r.Dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return r, err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return r, err
		}
	}
	for _, sql := range r.written.SQL {
		if _, err := s.conn.Exec(ctx, sql); err != nil {
			return r, err
		}
	}
	if r.written.Slot != byRelay {
		return r, s.createSlot(ctx, r.berth.Slot)
	}
	if err := r.start(ctx); err != nil {
		return r, err
	}
	return r, r.stop()
}

// freeAddress is one of loopback where nobody listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// launch starts the process.
func (r *relay) launch() (err error) {
	path, err := exec.LookPath(r.written.Command[0])
	if err != nil {
		return err
	}
	cmd := exec.Command(path, r.written.Command[1:]...)
	cmd.Dir = r.Dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	for name, value := range r.written.Environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	r.program, err = harness.RunProgram(cmd)
	return err
}

// start starts it and returns when it relays.
func (r *relay) start(ctx context.Context) error {
	if err := r.launch(); err != nil {
		return err
	}
	err := await(ctx, readyPatience, 20*time.Millisecond, func() error { return r.ready(ctx) })
	if err != nil {
		r.program.Kill()
		return fmt.Errorf("%s is not ready %w\n%s", r.contestant, err, r.said())
	}
	return nil
}

// ready is nil when it relays.
func (r *relay) ready(ctx context.Context) error {
	if pid, err := r.stage.walsender(ctx, r.berth.Slot); err != nil || pid == 0 {
		return errors.Join(err, errors.New("its slot is not active"))
	}
	if pattern := r.written.Ready.Log; pattern != "" && !regexp.MustCompile(pattern).MatchString(r.program.Output()) {
		return fmt.Errorf("it has not said %q", pattern)
	}
	if r.written.Ready.HTTP == "" {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.written.Ready.HTTP, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if err := res.Body.Close(); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %d", r.written.Ready.HTTP, res.StatusCode)
	}
	return nil
}

// ended is an error when it has ended by itself.
func (r *relay) ended() error {
	select {
	case <-r.program.Ended():
		return fmt.Errorf("%s has ended: %v\n%s", r.contestant, r.program.Err(), r.said())
	default:
		return nil
	}
}

// stop ends it in order.
func (r *relay) stop() error {
	if err := r.program.Stop(syscall.SIGTERM, stopPatience); err != nil {
		return fmt.Errorf("%s was asked to stop: %w\n%s", r.contestant, err, r.said())
	}
	return nil
}

// said is the end of its output, for who has to find out what went wrong.
func (r *relay) said() string {
	const enough = 4000
	said := r.program.Output()
	return said[max(0, len(said)-enough):]
}

// remove ends it, however it stands, and removes its folder.
func (r *relay) remove() error {
	if r.program != nil {
		r.program.Kill()
	}
	return os.RemoveAll(r.Dir)
}
