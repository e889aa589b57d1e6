package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/outrider-relay/outrider/test/harness"
)

// recvlogicalReader is the name of PostgreSQL's own client for logical decoding, among the readers.
const recvlogicalReader = "pg_recvlogical > /dev/null"

// findRecvlogical finds it; empty: it is not there.
func findRecvlogical() string {
	if path, err := exec.LookPath("pg_recvlogical"); err == nil {
		return path
	}
	// Debian keeps it out of PATH.
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_recvlogical")
	if err != nil || len(found) == 0 {
		return ""
	}
	return found[len(found)-1]
}

// recvlogical measures the least that a reader can do: take the stream and forget it.
func (s *stage) recvlogical(ctx context.Context, load backlog, x extent, transport, slot string) (d drain, err error) {
	cmd := exec.CommandContext(ctx, s.bench.recvlogical, "--start", "--no-loop", "--host", s.host(transport), "--port", strconv.Itoa(s.bench.pg.Port), "--username", "postgres",
		"--dbname", s.name, "--slot", slot, "--option", "proto_version=1", "--option", "publication_names="+publication, "--endpos", x.end, "--file", os.DevNull)
	var said strings.Builder
	cmd.Stderr = &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return d, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	// Its walsender is gone with it, and what wait4 says of memory includes ours at the fork: the last look at both counts.
	var own, walsender harness.Usage
	sender := 0
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		select {
		case err = <-ended:
			running = false
		case <-tick.C:
			if u, err := harness.UsageOf(cmd.Process.Pid); err == nil && u.PeakRSS > 0 { // 0 once it has ended
				own = u
			}
			if sender == 0 {
				sender, _ = s.walsender(ctx, slot) // asked again
			}
			if u, err := harness.UsageOf(sender); sender != 0 && err == nil {
				walsender = u
			}
		}
	}
	if err != nil {
		return d, fmt.Errorf("pg_recvlogical: %w\n%s", err, said.String())
	}
	d = drain{
		backlog: load, Reader: recvlogicalReader, Transport: transport, PeakRSS: own.PeakRSS,
		ReaderCPU: load.perMillion(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()), WalsenderCPU: load.perMillion(walsender.CPU),
	}
	d.took(time.Since(began).Seconds(), x)
	return d, nil
}
