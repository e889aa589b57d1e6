package simulation

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

var startCommand = regexp.MustCompile(`^START_REPLICATION SLOT "?([a-z0-9_]+)"? LOGICAL ([0-9A-F]+/[0-9A-F]+) \(proto_version '1', publication_names '"[a-z0-9_]+"'\)$`)

var createCommand = regexp.MustCompile(`^CREATE_REPLICATION_SLOT "([a-z0-9_]+)" LOGICAL pgoutput `)

// command is a simple query: what a walsender takes. done says that the connection has ended.
func (b *backend) command(sql string) (done bool) {
	s := b.s
	switch {
	case !b.walsender && sql == "-- ping":
		b.Send(&pgproto3.EmptyQueryResponse{})
		b.ready()
	case sql == "IDENTIFY_SYSTEM":
		s.mu.Lock()
		values := []string{s.systemID, strconv.Itoa(int(s.timeline)), s.end.String(), "model"}
		s.mu.Unlock()
		b.answer([]string{"systemid", "timeline", "xlogpos", "dbname"}, values...)
	case strings.HasPrefix(sql, "select extract(epoch from pg_postmaster_start_time())"):
		s.mu.Lock()
		started := s.startText()
		s.mu.Unlock()
		b.answer([]string{"started"}, started)
	case strings.HasPrefix(sql, "select setting from pg_settings where name = 'wal_sender_timeout'"):
		b.answer([]string{"setting"}, strconv.FormatInt(s.senderTimeout.Milliseconds(), 10))
	case strings.HasPrefix(sql, "TIMELINE_HISTORY "):
		s.mu.Lock()
		var file strings.Builder
		for _, p := range s.past {
			fmt.Fprintf(&file, "%d\t%s\tno recovery target specified\n", p.id, p.end)
		}
		s.mu.Unlock()
		b.answer([]string{"filename", "content"}, "history", file.String())
	case createCommand.MatchString(sql):
		b.createSlot(createCommand.FindStringSubmatch(sql)[1])
	case startCommand.MatchString(sql):
		m := startCommand.FindStringSubmatch(sql)
		at, err := parseLSN(m[2])
		if err == nil {
			err = b.stream(m[1], at)
		}
		if err == nil {
			return true
		}
		b.refuse(err)
		b.failed = false
		b.ready()
	default:
		b.s.unknown(sql)
		b.refuse(&pgError{"42601", "the model knows no such command: " + sql, "model"})
		b.failed = false
		b.ready()
	}
	return false
}

func (b *backend) createSlot(name string) {
	b.s.mu.Lock()
	exists := b.s.slots[name] != nil
	at := b.s.end
	if !exists {
		b.s.slots[name] = &slot{name: name, confirmed: at, saved: at, restart: at}
	}
	b.s.mu.Unlock()
	if exists {
		b.refuse(&pgError{"42710", "replication slot already exists", "ReplicationSlotCreate"})
		b.failed = false
		b.ready()
		return
	}
	b.answer([]string{"slot_name", "consistent_point", "snapshot_name", "output_plugin"}, name, at.String(), "", "pgoutput")
}

// take a slot, or say why not.
func (b *backend) acquire(name string) error {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	sl := b.s.slots[name]
	switch {
	case sl == nil:
		return &pgError{"42704", fmt.Sprintf("replication slot %q does not exist", name), "ReplicationSlotAcquire"}
	case sl.pid != 0 && !plantedIn(slotsShared):
		return &pgError{"55006", fmt.Sprintf("replication slot %q is active for PID %d", name, sl.pid), "ReplicationSlotAcquire"}
	}
	sl.pid, b.slot = b.pid, sl
	b.s.journey.begin(b.process, b.pid)
	return nil
}

// stream sends what was committed from a position on, until the connection ends.
func (b *backend) stream(name string, at lsn) error {
	if err := b.acquire(name); err != nil {
		return err
	}
	b.Send(&pgproto3.CopyBothResponse{})
	if err := b.Flush(); err != nil {
		return nil
	}
	b.mu.Lock()
	b.replied = time.Now()
	b.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.hear()
	}()
	b.s.mu.Lock()
	from := max(at, b.slot.confirmed) // a start below is forwarded; one above swallows what lies before it
	switch {
	case plantedIn(startsBelowSent) && at > 0:
		from = at
	case plantedIn(startsAboveRefused):
		from = min(from, b.s.end)
	case plantedIn(commitLSNSkips):
		from++
	}
	sender := &walsender{b: b, from: from, sent: b.slot.restart, next: b.s.from(b.slot.restart)}
	b.s.mu.Unlock()
	sender.run(ended)
	b.s.leave(b)
	_ = b.conn.Close()
	<-ended
	return nil
}

// hear takes the client's reports.
func (b *backend) hear() {
	for {
		message, err := b.Receive()
		if err != nil {
			return
		}
		switch m := message.(type) {
		case *pgproto3.CopyData:
			b.report(m.Data)
		case *pgproto3.CopyDone:
			return
		default:
			return
		}
	}
}

// report is a Standby Status Update.
func (b *backend) report(data []byte) {
	if len(data) != 34 || data[0] != 'r' {
		panic(fmt.Sprintf("a report of %d bytes", len(data)))
	}
	be := binary.BigEndian
	flush := lsn(be.Uint64(data[9:]))
	b.s.mu.Lock()
	if b.slot.pid == b.pid { // else the process has ended
		moves := flush > b.slot.confirmed
		b.s.confirm(b.slot, flush)
		if moves {
			b.s.confirmedTo(flush)
		}
	}
	b.s.mu.Unlock()
	b.mu.Lock()
	b.replied, b.written, b.flushed = time.Now(), lsn(be.Uint64(data[1:])), flush
	b.askedReply = b.askedReply || data[33] == 1
	b.mu.Unlock()
	b.tell()
}

// walsender is a stream under way.
type walsender struct {
	b     *backend
	from  lsn // transactions that committed before it are not sent
	sent  lsn // how far WAL has been decoded and sent
	next  int // of the server's commits
	asked bool
	told  lsn  // in the last keepalive
	known bool // the table was described
}

// run sends until the connection ends or the client is silent for too long.
func (w *walsender) run(ended <-chan struct{}) {
	timeout := w.b.s.senderTimeout
	timer := time.NewTimer(timeout / 2)
	defer timer.Stop()
	for {
		if done := w.step(); done {
			return
		}
		w.b.mu.Lock()
		silent := time.Since(w.b.replied)
		w.b.mu.Unlock()
		switch {
		case silent >= timeout:
			return
		case silent >= timeout/2 && !w.asked:
			w.asked = true
			w.keepalive(true)
		case silent < timeout/2:
			w.asked = false
		}
		left := timeout - silent
		if !w.asked {
			left = timeout/2 - silent
		}
		timer.Reset(max(left, time.Millisecond))
		select {
		case <-ended:
			return
		case <-w.b.news:
		case <-timer.C:
		}
	}
}

// step sends what there is. done says that the server shuts down and the client has confirmed all.
func (w *walsender) step() (done bool) {
	s := w.b.s
	for {
		s.mu.Lock()
		if s.backends[w.b.pid] != w.b {
			s.mu.Unlock()
			return true
		}
		var c *commit
		if w.next < len(s.commits) {
			c = s.commits[w.next]
			w.next++
		} else {
			w.sent = s.end
		}
		end, last := s.end, s.state == stopping
		s.mu.Unlock()
		if c == nil {
			return w.caughtUp(last)
		}
		if c.lsn >= w.from {
			w.transaction(c, end)
		}
		w.sent = c.end
	}
}

// caughtUp tells the client how far WAL has been decoded, where that is further than it has said.
func (w *walsender) caughtUp(last bool) (done bool) {
	w.b.mu.Lock()
	behind, wanted, flushed := w.b.flushed < w.sent && w.b.written < w.sent, w.b.askedReply, w.b.flushed
	w.b.askedReply = false
	w.b.mu.Unlock()
	if last && flushed >= w.sent {
		return true
	}
	if wanted || last || behind && w.told < w.sent {
		w.keepalive(last)
		w.told = w.sent
	}
	if last {
		time.Sleep(10 * time.Millisecond) // it asks again and again
		w.b.tell()
	}
	return false
}

// keepalive is a Primary Keepalive Message.
func (w *walsender) keepalive(reply bool) {
	be := binary.BigEndian
	data := be.AppendUint64([]byte{'k'}, uint64(w.sent))
	data = be.AppendUint64(data, micros(time.Now()))
	ask := byte(0)
	if reply {
		ask = 1
	}
	w.b.Send(&pgproto3.CopyData{Data: append(data, ask)})
	_ = w.b.Flush() // hear sees the end
}

// transaction sends one, a message at a time, with keepalives of no meaning in between.
func (w *walsender) transaction(c *commit, end lsn) {
	s, first := w.b.s, c.lsn
	if len(c.changes) > 0 {
		first = c.changes[0].at
	}
	w.wal(first, end, beginMessage(c))
	for _, change := range c.changes {
		if !w.known {
			w.known = true
			w.wal(0, end, relationMessage())
		}
		w.wal(change.at, end, insertMessage(change.event, c.at))
		s.mu.Lock()
		lull := s.rng.IntN(40) == 0
		s.mu.Unlock()
		if lull {
			w.keepalive(false)
			time.Sleep(3 * time.Millisecond)
		}
	}
	w.wal(c.lsn, end, commitMessage(c))
	_ = w.b.Flush()
}

// wal is an XLogData message.
func (w *walsender) wal(at, end lsn, message []byte) {
	be := binary.BigEndian
	data := be.AppendUint64(append(make([]byte, 0, 25+len(message)), 'w'), uint64(at))
	data = be.AppendUint64(data, uint64(end))
	data = be.AppendUint64(data, micros(time.Now()))
	w.b.Send(&pgproto3.CopyData{Data: append(data, message...)})
}
