package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/outrider-relay/outrider/test/harness"
)

// TestMain is the demo's main where a test's demo starts its relay: the program then is the test binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "relay" {
		main()
		return
	}
	os.Exit(m.Run())
}

// outcome is a finished demo.
type outcome struct {
	records, notes string
	err            error
}

// watchDemo runs a demo to its end. react sees each line that is not a record, while the demo runs.
func watchDemo(t *testing.T, ctx context.Context, o options, keys <-chan string, react func(line string)) outcome {
	t.Helper()
	var records, notes bytes.Buffer
	in, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, o, newScreen(&records, out), keys)
		done <- errors.Join(err, out.Close())
	}()
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		notes.WriteString(lines.Text() + "\n")
		react(lines.Text())
	}
	s := outcome{err: <-done}
	s.records, s.notes = records.String(), notes.String()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("notes:\n%s\nrecords:\n%s", s.notes, s.records)
		}
	})
	return s
}

var (
	committedLine = regexp.MustCompile(`(?m)^commit +order (\d+) (\w+), `)
	rollbackLine  = regexp.MustCompile(`(?m)^rollback +order (\d+) (\w+), `)
	recordLine    = regexp.MustCompile(`(?m)^outbox\.event\.demo_order/\d@\d+ key=(\d+) \{"order": \d+, "total": [\d.]+, "status": "(\w+)"\}  id=\S+ event_type=\w+ source=shop outrider-position=demo:1:\S+:0  -?[\d.]+ ms after commit$`)
	relayPID      = regexp.MustCompile(`kill -9 (\d+)`)
	postgresURL   = regexp.MustCompile(`(?m)^postgres +(postgres://\S+)$`)
	postgresDir   = regexp.MustCompile(`its data and log are in (\S+)`)
)

// count says how often pattern has each "order status" in text.
func count(pattern *regexp.Regexp, text string) map[string]int {
	counts := make(map[string]int)
	for _, m := range pattern.FindAllStringSubmatch(text, -1) {
		counts[m[1]+" "+m[2]]++
	}
	return counts
}

func TestEveryCommittedEventIsPrintedOnceAndBorrowedServersAreLeftClean(t *testing.T) {
	pg := harness.NewPostgres(t, harness.PostgresOptions{})
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	o := options{rate: 50, duration: 2 * time.Second, postgres: pg.URL(), kafka: kafka.ListenAddrs(), delivery: atLeastOnce}
	s := watchDemo(t, t.Context(), o, nil, func(string) {})
	if s.err != nil {
		t.Fatal(s.err)
	}
	committed, printed := count(committedLine, s.notes), count(recordLine, s.records)
	if len(committed) < 20 || !maps.Equal(committed, printed) {
		t.Errorf("committed %v\nprinted   %v", committed, printed)
	}
	if rolledBack := count(rollbackLine, s.notes); len(rolledBack) < 5 {
		t.Errorf("rolled back: %v", rolledBack)
	}
	if lines := strings.Count(s.records, "\n"); lines != len(recordLine.FindAllString(s.records, -1)) {
		t.Errorf("%d lines on the records' stream, not all of them records", lines)
	}
	conn := pg.Connect(t)
	var left int
	err = conn.QueryRow(t.Context(), `select (select count(*) from pg_replication_slots) + (select count(*) from pg_database where datname = $1)`, databaseName).Scan(&left)
	if err != nil || left != 0 {
		t.Errorf("slots and databases left behind: %d, %v", left, err)
	}
	if kafka.TopicInfo(topic) != nil {
		t.Error("the topic was left behind")
	}
}

func TestKilledRelayAndStoppedBrokerLoseAndRepeatNothingAndCtrlCLeavesNothing(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	keys := make(chan string, 2)
	commits, relaying := 0, 0
	s := watchDemo(t, ctx, options{rate: 20, delivery: exactlyOnce}, keys, func(line string) {
		switch {
		case strings.HasPrefix(line, "commit"):
			if commits++; commits == 10 {
				keys <- "k"
			}
		case strings.HasPrefix(line, "relay     relaying"):
			if relaying++; relaying == 2 { // the next one
				keys <- "b"
			}
		case strings.HasPrefix(line, "broker") && strings.HasSuffix(line, "back"):
			stop()
		}
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	committed, printed := count(committedLine, s.notes), count(recordLine, s.records)
	if len(committed) < 50 || !maps.Equal(committed, printed) {
		t.Errorf("committed %v\nprinted   %v", committed, printed)
	}
	if !strings.Contains(s.notes, "is dead (signal: killed)") || !strings.Contains(s.notes, "degraded") {
		t.Error("the relay's death or the broker's absence was not shown")
	}
	s.leftNothing(t)
}

// leftNothing checks that the embedded parts are gone, processes and folder.
func (s outcome) leftNothing(t *testing.T) {
	t.Helper()
	for _, m := range relayPID.FindAllStringSubmatch(s.notes, -1) {
		pid, err := strconv.Atoi(m[1])
		if err != nil || pid == 0 || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			t.Errorf("relay %s is still there (%v)", m[1], err)
		}
	}
	server, dir := postgresURL.FindStringSubmatch(s.notes), postgresDir.FindStringSubmatch(s.notes)
	if server == nil || dir == nil {
		t.Fatal("Postgres's address and folder are not shown")
	}
	u, err := url.Parse(server[1])
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", u.Host); err == nil {
		_ = conn.Close()
		t.Errorf("Postgres still listens on %s", u.Host)
	}
	if _, err := os.Stat(dir[1]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s was left behind (%v)", dir[1], err)
	}
}
