package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/outrider-relay/outrider/test/harness"
)

// workload is a backlog.
type workload struct {
	name  string
	rows  int
	batch int // rows a transaction
}

// drain is what reading one backlog took.
type drain struct {
	Workload string  `json:"workload"`
	Delivery string  `json:"delivery"`
	Round    int     `json:"round"`
	Reader   string  `json:"reader"`
	Rows     int     `json:"rows"`
	Seconds  float64 `json:"seconds"` // from the start of the process until the last row was there
	RowsPerS float64 `json:"rows_per_second"`
	// CPU seconds per million rows.
	ReaderCPU    float64 `json:"reader_cpu_s_per_million"`
	WalsenderCPU float64 `json:"walsender_cpu_s_per_million"`
	BrokerCPU    float64 `json:"broker_cpu_s_per_million"`
	PeakRSS      int64   `json:"peak_rss_bytes"`
}

// relayReader is the relay, among the readers.
const relayReader = "outrider"

// keys of the backlog. Row n has key n modulo keys, so each key's rows are known to be keys apart.
const keys = 1000

// drainPatience bounds the drain of a backlog: ten times what the slowest peer would need.
const drainPatience = 5 * time.Minute

// drain lets the relay and pg_recvlogical each read the same backlog from a slot of their own, one after the other.
func (b *bench) drain(ctx context.Context, load workload, round int, delivery string) (drains []drain, err error) {
	s, err := b.newStage(ctx, delivery)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()

	// The relay makes publication and slot at its first start; the other slot begins there too.
	relay, err := s.startRelaying(ctx)
	if err != nil {
		return nil, err
	}
	if err := stop(ctx, relay); err != nil {
		return nil, err
	}
	if _, err := s.conn.Exec(ctx, `select pg_create_logical_replication_slot('recvlogical_' || current_database(), 'pgoutput')`); err != nil {
		return nil, err
	}
	b.say("%s, round %d: writing %d rows", load.name, round+1, load.rows)
	end, err := s.writeBacklog(ctx, load)
	if err != nil {
		return nil, fmt.Errorf("write the backlog: %w", err)
	}
	readers := []func() (drain, error){
		func() (drain, error) { return s.drainByRecvlogical(ctx, load, end) },
		func() (drain, error) { return s.drainByRelay(ctx, load) },
	}
	for i := range readers {
		d, err := readers[(i+round)%2]()
		if errors.Is(err, exec.ErrNotFound) {
			b.say("no pg_recvlogical to compare with: apt-get install postgresql-client")
			continue
		}
		if err != nil {
			return nil, err
		}
		d.Workload, d.Delivery, d.Round, d.Rows = load.name, delivery, round+1, load.rows
		d.RowsPerS = float64(d.Rows) / d.Seconds
		b.say("%s, round %d: %s read %.0f rows/s", load.name, round+1, d.Reader, d.RowsPerS)
		drains = append(drains, d)
	}
	return drains, nil
}

// writeBacklog gives an LSN between the last row but one and the last.
func (s *stage) writeBacklog(ctx context.Context, load workload) (end string, err error) {
	if _, err := s.conn.Exec(ctx, `set synchronous_commit = off`); err != nil { // for the writing alone: it delays what walsenders see
		return "", err
	}
	write := func(first, last, batch int) error {
		// In the server: a client would need minutes for a million commits.
		_, err := s.conn.Exec(ctx, fmt.Sprintf(`do $$ begin
			for n in 0..%[2]d - %[1]d by %[3]d loop
				insert into public.outbox (aggregate_type, aggregate_id, event_type, payload)
					select '%[4]s', 'k' || i %% %[5]d, 'Written', jsonb_build_object('n', i, 'customer', 'c' || i %% 977, 'items', jsonb_build_array('a', 'b'), 'note', repeat('x', %[6]d))
					from generate_series(%[1]d + n, least(%[1]d + n + %[3]d - 1, %[2]d)) i;
				commit;
			end loop;
		end $$`, first, last, batch, s.name, keys, max(0, s.bench.payload-70)))
		return err
	}
	if err := write(0, load.rows-2, load.batch); err != nil {
		return "", err
	}
	if err := s.conn.QueryRow(ctx, `select pg_current_wal_insert_lsn()::text`).Scan(&end); err != nil {
		return "", err
	}
	if err := write(load.rows-1, load.rows-1, 1); err != nil {
		return "", err
	}
	_, err = s.conn.Exec(ctx, `checkpoint`) // now, rather than while somebody is measured
	return end, err
}

// drainByRelay measures the relay from its start until Kafka has every row, and then checks what is there.
func (s *stage) drainByRelay(ctx context.Context, load workload) (d drain, err error) {
	broker, err := harness.UsageOf(s.bench.kafka.Nodes[0].PID())
	if err != nil {
		return d, err
	}
	before, err := s.delivered(ctx)
	if err != nil {
		return d, err
	}
	began := time.Now()
	relay, err := s.startRelay()
	if err != nil {
		return d, err
	}
	defer relay.Kill()
	err = await(ctx, drainPatience, 20*time.Millisecond, func() error {
		n, err := s.delivered(ctx)
		if err == nil && n-before < int64(load.rows) {
			err = fmt.Errorf("%d of %d rows are in Kafka", n-before, load.rows)
		}
		return err
	})
	if err != nil {
		return d, fmt.Errorf("%w\n%s", err, relay.Log())
	}
	d = drain{Reader: relayReader, Seconds: time.Since(began).Seconds()}
	perMillion := func(t time.Duration) float64 { return t.Seconds() * 1e6 / float64(load.rows) }
	own, err := relay.Usage()
	if err != nil {
		return d, err
	}
	d.ReaderCPU, d.PeakRSS = perMillion(own.CPU), own.PeakRSS
	walsender, err := s.walsender(ctx)
	if err != nil {
		return d, err
	}
	d.WalsenderCPU = perMillion(walsender.CPU)
	after, err := harness.UsageOf(s.bench.kafka.Nodes[0].PID())
	if err != nil {
		return d, err
	}
	d.BrokerCPU = perMillion(after.CPU - broker.CPU)
	if err := stop(ctx, relay); err != nil {
		return d, err
	}
	return d, s.check(ctx, load.rows, keys)
}

// walsender is what the one walsender of this database has used; zero when there is none.
func (s *stage) walsender(ctx context.Context) (u harness.Usage, err error) {
	var pid int
	err = s.conn.QueryRow(ctx, `select coalesce(max(active_pid), 0) from pg_replication_slots where database = current_database()`).Scan(&pid)
	if err != nil || pid == 0 {
		return u, err
	}
	return harness.UsageOf(pid)
}

// recvlogical finds PostgreSQL's own client for logical decoding.
func recvlogical() (string, error) {
	if path, err := exec.LookPath("pg_recvlogical"); err == nil {
		return path, nil
	}
	// Debian keeps it out of PATH.
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_recvlogical")
	if err != nil || len(found) == 0 {
		return "", exec.ErrNotFound
	}
	return found[len(found)-1], nil
}

// drainByRecvlogical measures the least that a reader can do: take the stream and forget it.
func (s *stage) drainByRecvlogical(ctx context.Context, load workload, end string) (d drain, err error) {
	path, err := recvlogical()
	if err != nil {
		return d, err
	}
	host := s.bench.pg.Dir
	if s.bench.transport == "tcp" {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, drainPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--start", "--no-loop", "--host", host, "--port", strconv.Itoa(s.bench.pg.Port), "--username", "postgres",
		"--dbname", s.name, "--slot", "recvlogical_"+s.name, "--option", "proto_version=1", "--option", "publication_names=outrider", "--endpos", end, "--file", os.DevNull)
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
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		select {
		case err = <-ended:
			running = false
		case <-tick.C:
			if u, err := harness.UsageOf(cmd.Process.Pid); err == nil && u.PeakRSS > 0 { // 0 once it has ended
				own = u
			}
			if u, err := s.walsender(ctx); err == nil && u.CPU > walsender.CPU {
				walsender = u
			}
		}
	}
	if err != nil {
		return d, fmt.Errorf("pg_recvlogical: %w\n%s", err, said.String())
	}
	perMillion := func(t time.Duration) float64 { return t.Seconds() * 1e6 / float64(load.rows) }
	return drain{
		Reader: "pg_recvlogical > /dev/null", Seconds: time.Since(began).Seconds(),
		ReaderCPU: perMillion(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()), WalsenderCPU: perMillion(walsender.CPU), PeakRSS: own.PeakRSS,
	}, nil
}
