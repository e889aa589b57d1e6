package harness

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pair gives both ends of a connection through a proxy.
func pair(t *testing.T) (p *Proxy, client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p = NewProxy(t, l.Addr().String())
	if client, err = net.Dial("tcp", p.Addr()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{client, server} {
		t.Cleanup(func() { _ = c.Close() })
		if err := c.SetDeadline(time.Now().Add(enough)); err != nil {
			t.Fatal(err)
		}
	}
	return p, client, server
}

// pass sends a word from one end to the other.
func pass(t *testing.T, from io.Writer, to io.Reader) {
	t.Helper()
	const word = "word"
	got := make([]byte, len(word))
	if _, err := io.WriteString(from, word); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, got); err != nil || string(got) != word {
		t.Fatalf("%q arrived: %v", got, err)
	}
}

func TestCutConnectionIsResetOnBothSides(t *testing.T) {
	p, client, server := pair(t)
	pass(t, client, server)
	pass(t, server, client)
	p.Cut()
	for _, c := range []net.Conn{client, server} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
	}
}

func TestStalledConnectionTakesBytesAndLosesNone(t *testing.T) {
	p, client, server := pair(t)
	p.Stall()
	if _, err := io.WriteString(client, "late"); err != nil {
		t.Errorf("write into a half-open connection: %v", err)
	}
	_ = server.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes through a stalled proxy: %v", n, err)
	}
	p.Resume()
	_ = server.SetReadDeadline(time.Now().Add(enough))
	got := make([]byte, 4)
	if _, err := io.ReadFull(server, got); err != nil || string(got) != "late" {
		t.Errorf("%q after the stall: %v", got, err)
	}
}

func TestStalledConnectionHidesThatAnEndIsGone(t *testing.T) {
	p, client, server := pair(t)
	p.Stall()
	_ = client.Close()
	_ = server.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the server's end noticed: %v", err)
	}
	p.Resume()
	_ = server.SetReadDeadline(time.Now().Add(enough))
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the stall: %v", err)
	}
}

func TestRefusedClientIsSentAway(t *testing.T) {
	p, client, server := pair(t)
	p.Refuse()
	refused, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = refused.Close() }()
	_ = refused.SetReadDeadline(time.Now().Add(enough))
	if _, err := refused.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read from a refused connection: %v", err)
	}
	pass(t, client, server)
}

func TestTrickleIsSlowAndLosesNothing(t *testing.T) {
	p, client, server := pair(t)
	p.Trickle(1000)
	began, sent := time.Now(), strings.Repeat("drop", 50)
	if _, err := io.WriteString(client, sent); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(server, got); err != nil || string(got) != sent {
		t.Errorf("%q arrived: %v", got, err)
	}
	if took := time.Since(began); took < 190*time.Millisecond {
		t.Errorf("200 bytes took %s at 1000 a second", took)
	}
	p.Trickle(0)
	pass(t, client, server)
}
