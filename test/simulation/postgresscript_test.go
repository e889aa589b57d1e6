package simulation

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/outrider-relay/outrider/checkpoint"
	"github.com/outrider-relay/outrider/test/harness"
)

// postgresScript is to the model of Postgres what kafkaScript is to that of Kafka. Positions are told by the transactions
// that they belong to, which have other LSNs on each server.
var postgresScript = []struct {
	claim string
	do    func(c *pgClient) string
}{
	{"transactions come in the order of their commits", func(c *pgClient) string {
		c.db.insert("A")
		c.db.insert("B")
		c.db.commit("B")
		c.db.insert("A")
		c.db.commit("A")
		return c.from(0)
	}},
	{"what is not confirmed comes again", func(c *pgClient) string { return c.from(0) }},
	{"the end of a transaction is confirmed", func(c *pgClient) string { return c.confirm(c.lsns["B"].end) + ", then " + c.from(0) }},
	{"a start below the confirmed position is forwarded", func(c *pgClient) string { return c.from(c.lsns["B"].lsn) }},
	{"a start at a commit LSN sends that transaction", func(c *pgClient) string { return c.from(c.lsns["A"].lsn) }},
	{"a start at its end does not", func(c *pgClient) string { return c.from(c.lsns["A"].end) }},
	{"a start above the end of WAL swallows what comes", func(c *pgClient) string {
		c.write("C")
		s, err := c.start(c.db.end() + 1<<20)
		if err != nil {
			return c.code(err)
		}
		c.write("D")
		seen := c.read(s)
		c.finish(s, 0)
		return seen + ", then " + c.from(0)
	}},
	{"a slot is read by one", func(c *pgClient) string {
		s, err := c.start(0)
		if err != nil {
			return c.code(err)
		}
		defer c.finish(s, 0)
		other, err := c.start(0)
		if err == nil {
			c.finish(other, 0)
		}
		return c.code(err)
	}},
	{"a lower flush position does nothing", func(c *pgClient) string {
		return c.confirm(c.lsns["C"].end) + ", then " + c.confirm(c.lsns["B"].end)
	}},
	{"a commit LSN that is confirmed leaves the transaction", func(c *pgClient) string {
		return c.confirm(c.lsns["D"].lsn) + ", then " + c.from(0)
	}},
	{"a crash takes back what was confirmed", (*pgClient).crash},
	{"the checkpoint row", (*pgClient).claims},
	{"a flush position above the end of WAL destroys what comes", func(c *pgClient) string {
		seen := c.confirm(c.db.end() + 1<<20)
		c.write("F")
		return seen + ", then " + c.from(0)
	}},
}

// pgClient reads one slot.
type pgClient struct {
	t    *testing.T
	db   database
	lsns map[string]commit
}

const scriptSlot = "outrider_script"

// write commits a transaction of one row.
func (c *pgClient) write(name string) {
	c.db.insert(name)
	c.db.commit(name)
}

// connect opens an ordinary connection, closed by the caller.
func (c *pgClient) connect() *pgx.Conn {
	c.t.Helper()
	conn, err := pgx.ConnectConfig(c.t.Context(), c.db.config())
	if err != nil {
		c.t.Fatalf("connect: %v", err)
	}
	return conn
}

func (c *pgClient) code(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return fmt.Sprint(err)
}

// start opens a stream.
func (c *pgClient) start(from lsn) (*pgconn.PgConn, error) {
	c.t.Helper()
	cfg := c.db.config().Config
	cfg.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(c.t.Context(), &cfg)
	if err != nil {
		c.t.Fatalf("connect: %v", err)
	}
	err = pglogrepl.StartReplication(c.t.Context(), conn, scriptSlot, from, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", `publication_names '"script"'`},
	})
	if err != nil {
		_ = conn.Close(c.t.Context())
	}
	return conn, err
}

// from reads everything that a stream from there on has by now.
func (c *pgClient) from(from lsn) string {
	c.t.Helper()
	s, err := c.start(from)
	if err != nil {
		return c.code(err)
	}
	defer c.finish(s, 0)
	return c.read(s)
}

// read names the transactions that come until the server says that it has sent all of its WAL.
func (c *pgClient) read(s *pgconn.PgConn) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	target := c.db.end()
	var seen []string
	var at commit
	for {
		c.report(s, 0, true)
		message, err := s.ReceiveMessage(ctx)
		if err != nil {
			c.t.Fatalf("read the stream: %v", err)
		}
		data, ok := message.(*pgproto3.CopyData)
		if !ok {
			continue
		}
		be := binary.BigEndian
		if data.Data[0] == 'k' {
			if lsn(be.Uint64(data.Data[1:])) >= target {
				return "[" + strings.Join(seen, " ") + "]"
			}
			continue
		}
		switch m := data.Data[25:]; m[0] {
		case 'B':
			at = commit{lsn: lsn(be.Uint64(m[1:]))}
		case 'I':
			name := thirdColumn(m)
			if len(seen) == 0 || seen[len(seen)-1] != name {
				seen = append(seen, name)
			}
		case 'C':
			if at.end = lsn(be.Uint64(m[10:])); len(seen) > 0 {
				c.lsns[seen[len(seen)-1]] = at
			}
		}
	}
}

// thirdColumn is aggregate_id in an Insert message.
func thirdColumn(m []byte) string {
	rest := m[8:]
	for column := 0; ; column++ {
		n := binary.BigEndian.Uint32(rest[1:])
		if column == 2 {
			return string(rest[5 : 5+n])
		}
		rest = rest[5+n:]
	}
}

func (c *pgClient) report(s *pgconn.PgConn, flush lsn, ask bool) {
	c.t.Helper()
	data := append(make([]byte, 0, 34), 'r')
	for _, l := range []lsn{flush, flush, flush} {
		data = binary.BigEndian.AppendUint64(data, uint64(l))
	}
	data = binary.BigEndian.AppendUint64(data, micros(time.Now()))
	data = append(data, 0)
	if ask {
		data[33] = 1
	}
	s.Frontend().Send(&pgproto3.CopyData{Data: data})
	if err := s.Frontend().Flush(); err != nil {
		c.t.Fatalf("report: %v", err)
	}
}

// finish reports a flush position as the last word, and waits until the server has let go of the slot.
func (c *pgClient) finish(s *pgconn.PgConn, flush lsn) {
	c.t.Helper()
	c.report(s, flush, false)
	s.Frontend().Send(&pgproto3.CopyDone{})
	if err := s.Frontend().Flush(); err != nil {
		c.t.Fatalf("end the stream: %v", err)
	}
	for ended := false; !ended; {
		message, err := s.Frontend().Receive()
		_, done := message.(*pgproto3.CommandComplete)
		ended = err != nil || done
	}
	_ = s.Close(c.t.Context())
	harness.Eventually(c.t, 10*time.Second, "the slot is free", func() error {
		if active, _ := c.slot(); active {
			return errors.New("it is active")
		}
		return nil
	})
}

// slot says whether the slot is read, and up to where it is confirmed.
func (c *pgClient) slot() (active bool, confirmed lsn) {
	c.t.Helper()
	conn := c.connect()
	defer func() { _ = conn.Close(c.t.Context()) }()
	var text []byte
	if err := conn.QueryRow(c.t.Context(), "select to_jsonb(s) from pg_replication_slots s where slot_name = $1", scriptSlot).Scan(&text); err != nil {
		c.t.Fatalf("read the slot: %v", err)
	}
	var row struct {
		Active    bool   `json:"active"`
		Confirmed string `json:"confirmed_flush_lsn"`
	}
	err := json.Unmarshal(text, &row)
	if err == nil {
		confirmed, err = parseLSN(row.Confirmed)
	}
	if err != nil {
		c.t.Fatalf("read the slot: %v", err)
	}
	return row.Active, confirmed
}

// confirm reports a flush position, and says what becomes of the slot.
func (c *pgClient) confirm(flush lsn) string {
	c.t.Helper()
	s, err := c.start(0)
	if err != nil {
		return c.code(err)
	}
	c.read(s)
	c.finish(s, flush)
	_, confirmed := c.slot()
	return c.words(confirmed)
}

// words names a position.
func (c *pgClient) words(at lsn) string {
	for name, l := range c.lsns {
		switch at {
		case l.lsn:
			return "confirmed to the commit LSN of " + name
		case l.end:
			return "confirmed to the end of " + name
		}
	}
	if at > c.db.end() {
		return "confirmed beyond the end of WAL"
	}
	return "confirmed to somewhere"
}

// crash crashes the server until that takes a confirmed position back: now and then the server has just written it down.
func (c *pgClient) crash() string {
	for i := range 8 {
		name := fmt.Sprintf("E%d", i)
		c.write(name)
		c.from(0)
		if seen := c.confirm(c.lsns[name].end); seen != c.words(c.lsns[name].end) {
			return seen
		}
		c.db.restart()
		if _, confirmed := c.slot(); confirmed >= c.lsns[name].end {
			continue
		}
		if again := c.from(0); !strings.Contains(again, name) {
			return "it is not there again: " + again
		}
		return "it is there again, and " + strings.ReplaceAll(c.confirm(c.lsns[name].end), name, "E")
	}
	return "never"
}

// claims takes and writes the checkpoint row by the relay's own code.
func (c *pgClient) claims() string {
	s, err := c.start(0)
	if err != nil {
		return c.code(err)
	}
	defer c.finish(s, 0)
	ctx, conn := c.t.Context(), c.connect()
	defer func() { _ = conn.Close(ctx) }()
	at := c.lsns["D"].end
	claim := checkpoint.Claim{
		Name: "script", Instance: "i", Slot: scriptSlot, WalsenderPID: s.PID() + 1, SystemID: "s", Timeline: 1, LSN: at, Delivery: "exactly-once",
	}
	var seen []string
	note := func(format string, args ...any) { seen = append(seen, fmt.Sprintf(format, args...)) }
	_, _, _, err = checkpoint.Take(ctx, conn, claim)
	note("not ours: %v", errors.Is(err, checkpoint.ErrNotOwner))
	claim.WalsenderPID = s.PID()
	older, row, first, err := checkpoint.Take(ctx, conn, claim)
	if err != nil {
		return fmt.Sprint(err)
	}
	note("generation %d, first %v", row.Generation, first)
	newer, row, first, err := checkpoint.Take(ctx, conn, claim)
	if err != nil {
		return fmt.Sprint(err)
	}
	note("generation %d, first %v", row.Generation, first)
	parts := []checkpoint.Partition{{Topic: "t", ID: 1, ScanFrom: 5, Owned: true}, {Topic: "t", ID: 0, ScanFrom: 7}}
	for _, store := range []*checkpoint.Store{older, newer} {
		for _, write := range []func() error{
			func() error { return store.Save(ctx, checkpoint.Progress{LSN: at + 8, Timeline: 1}) },
			func() error { return store.Heartbeat(ctx) },
			func() error { return store.AddProducerID(ctx, 7) },
			func() error { return store.AddProducerID(ctx, 7) },
			func() error { return store.Register(ctx, parts) },
			func() error {
				_, err := store.Settle(ctx, checkpoint.Standing{}, []checkpoint.Decision{{Position: "1:0/1:0"}})
				return err
			},
			func() error {
				return store.Identify(ctx, checkpoint.Identity{SystemID: "s2", Slot: scriptSlot, Delivery: "exactly-once"})
			},
		} {
			note("%v", errors.Is(write(), checkpoint.ErrSuperseded))
		}
	}
	row, known, err := checkpoint.Read(ctx, conn, "script")
	note("%v %v, stored %v, producers %v, system %s, cluster %q, verdict %v, decided %v", known, err, row.LSN == at+8, row.ProducerIDs, row.SystemID, row.KafkaClusterID, row.Verdict != nil, row.Decision != nil)
	found, err := newer.Partitions(ctx)
	note("%v %v", found, err)
	return strings.Join(seen, "; ")
}
