package cdc

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// wired is a replConn that has left pgconn, and the server's end of its socket.
func wired(t *testing.T) (*replConn, *net.TCPConn) {
	t.Helper()
	a, b := loopback(t)
	c := &replConn{}
	if err := c.take(&lazyConn{Conn: a}); err != nil {
		t.Fatal(err)
	}
	return c, b
}

func TestFramesThatComeWithCopyBothAreNotLost(t *testing.T) {
	c, server := wired(t)
	answer := slices.Concat(
		frame('N', "SNOTICE\x00Mhello\x00\x00"), frame('S', "TimeZone\x00UTC\x00"),
		frame('W', "\x00\x00\x00"), frame('d', "first"), frame('d', "second"))
	if _, err := server.Write(answer); err != nil {
		t.Fatal(err)
	}
	if err := c.startReplication(`START_REPLICATION SLOT "o" LOGICAL 0/0 (proto_version '1')`); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"first", "second"} {
		typ, body, ok := c.next()
		if !ok || typ != 'd' || string(body) != want {
			t.Errorf("%q %q %v, want %q", typ, body, ok, want)
		}
	}
	query := make([]byte, 5+len(`START_REPLICATION SLOT "o" LOGICAL 0/0 (proto_version '1')`)+1)
	if _, err := io.ReadFull(server, query); err != nil {
		t.Fatal(err)
	}
	if want := frame('Q', "START_REPLICATION SLOT \"o\" LOGICAL 0/0 (proto_version '1')\x00"); !bytes.Equal(query, want) {
		t.Errorf("sent %q, want %q", query, want)
	}
}

func TestRefusedStreamIsTheServersError(t *testing.T) {
	c, server := wired(t)
	refusal := append(frame('E', "SERROR\x00VERROR\x00C55006\x00Mreplication slot \"o\" is active for PID 42\x00RReplicationSlotAcquire\x00\x00"), frame('Z', "I")...)
	if _, err := server.Write(refusal); err != nil {
		t.Fatal(err)
	}
	err := c.startReplication("START_REPLICATION")
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "55006" || pg.Routine != "ReplicationSlotAcquire" {
		t.Fatalf("%v", err)
	}
	if classifyPg(err) != pgSlotBusy || busyPID(pg) != 42 {
		t.Errorf("class %d, pid %d", classifyPg(err), busyPID(pg))
	}
}

func TestStatusIsAStandbyStatusUpdate(t *testing.T) {
	c, server := wired(t)
	before := pgMicros(time.Now())
	if err := c.sendStatus(0x16_0000_0300, 0x16_0000_0200, true); err != nil {
		t.Fatal(err)
	}
	if err := c.sendStatus(1, 1, false); err != nil {
		t.Fatal(err)
	}
	if err := c.sendCopyDone(); err != nil {
		t.Fatal(err)
	}
	sent := make([]byte, 2*39+5)
	if _, err := io.ReadFull(server, sent); err != nil {
		t.Fatal(err)
	}
	// 'd', length, 'r', write, flush, apply, time, reply
	want := []byte("d\x00\x00\x00\x26r\x00\x00\x00\x16\x00\x00\x03\x00\x00\x00\x00\x16\x00\x00\x02\x00\x00\x00\x00\x16\x00\x00\x02\x00")
	if !bytes.Equal(sent[:30], want) {
		t.Errorf("sent %x, want %x", sent[:30], want)
	}
	if sent[38] != 1 || sent[39+38] != 0 {
		t.Errorf("reply requested: %d and %d, want 1 and 0", sent[38], sent[39+38])
	}
	m, _ := parseKeepalive(append([]byte("k\x00\x00\x00\x00\x00\x00\x00\x00"), sent[30:39]...))
	if m.sentAt < before || m.sentAt > pgMicros(time.Now()) {
		t.Errorf("sent at %d, not now (%d)", m.sentAt, before)
	}
	if got := string(sent[2*39:]); got != "c\x00\x00\x00\x04" {
		t.Errorf("CopyDone is %q", got)
	}
}

func TestDeadlineWakesAReaderThatMayGoOn(t *testing.T) {
	c, server := wired(t)
	row := frame('d', strings.Repeat("x", 100))
	if _, err := server.Write(row[:50]); err != nil {
		t.Fatal(err)
	}
	woken := make(chan error)
	go func() { woken <- c.fill() }()
	c.setReadDeadline(time.Now().Add(10 * time.Millisecond))
	if err := <-woken; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	c.setReadDeadline(time.Time{})
	if _, err := server.Write(row[50:]); err != nil {
		t.Fatal(err)
	}
	if err := c.fill(); err != nil {
		t.Fatal(err)
	}
	if _, body, ok := c.next(); !ok || len(body) != 100 {
		t.Errorf("%d bytes, %v", len(body), ok)
	}
}

func TestCloseUnblocksBothHalvesAtOnce(t *testing.T) {
	client, _ := tlsPair(t)
	c := &replConn{}
	if err := c.take(client); err != nil {
		t.Fatal(err)
	}
	read, wrote := make(chan error), make(chan error)
	go func() { read <- c.fill() }()
	go func() {
		for {
			if err := c.sendStatus(1, 1, false); err != nil {
				wrote <- err
				return
			}
		}
	}()
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := <-wrote; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := c.close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

// stuck is a socket whose peer is gone: writes block, whatever the deadline, until it is closed.
type stuck struct {
	net.Conn
	closed chan struct{}
}

func (s *stuck) Write([]byte) (int, error) {
	<-s.closed
	return 0, net.ErrClosed
}

func (s *stuck) Close() error {
	close(s.closed)
	return s.Conn.Close()
}

func TestCloseSaysNoGoodbyeToAPeerThatIsGone(t *testing.T) {
	client, _ := tlsPair(t)
	c := &replConn{}
	if err := c.take(client); err != nil {
		t.Fatal(err)
	}
	c.sock.Conn = &stuck{c.sock.Conn, make(chan struct{})}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
}

func TestQuotedNamesHoldAnything(t *testing.T) {
	if got := quoteName(`a"b`); got != `"a""b"` {
		t.Error(got)
	}
	if got := quoteTable(`s.a"b.c`); got != `"s"."a""b.c"` {
		t.Error(got)
	}
}
