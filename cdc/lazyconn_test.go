package cdc

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"os"
	"testing"
	"time"
)

func TestReaderWaitsOnlyWhileABacklogFlows(t *testing.T) {
	for name, c := range map[string]struct {
		every time.Duration // between two reads
		bytes int           // of each
		full  bool
		spent time.Duration // by the reader since the last one
		want  time.Duration
	}{
		"nothing for a minute":               {every: time.Minute, bytes: 400, want: 0},
		"1,000 rows a second":                {every: time.Millisecond, bytes: 400, want: 0},
		"a commit of 100 rows, ten a second": {every: 100 * time.Millisecond, bytes: 40_000, want: 0},
		"a backlog, row by row":              {every: 10 * time.Microsecond, bytes: 800, want: minLull},
		"a server short of CPU":              {every: 100 * time.Microsecond, bytes: 800, want: maxLull},
		"a backlog, block by block":          {every: minLull, bytes: 16 << 10, want: minLull},
		"a reader that was busy":             {every: minLull, bytes: 16 << 10, spent: 150 * time.Microsecond, want: 50 * time.Microsecond},
		"a reader that was busy for long":    {every: minLull, bytes: 16 << 10, spent: time.Second, want: 0},
		"more waits already":                 {every: minLull, bytes: blockSize, full: true, want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			var m flowMeter
			now := time.Unix(1_000_000, 0)
			for range int(2*flowWindow/c.every) + 2 {
				now = now.Add(c.every)
				m.took(c.bytes, c.full, now)
			}
			if got := max(0, m.wait(now.Add(c.spent))); got != c.want {
				t.Errorf("waits %v, want %v", got, c.want)
			}
		})
	}
}

func TestFirstReadAfterABacklogWaitsForNothingButData(t *testing.T) {
	var m flowMeter
	now := time.Unix(1_000_000, 0)
	for range 1000 {
		now = now.Add(10 * time.Microsecond)
		m.took(400, false, now)
	}
	now = now.Add(time.Second) // the backlog has ended; a commit comes
	m.took(400, false, now)
	if got := m.wait(now); got > 0 {
		t.Errorf("the commit after a quiet second makes the next read wait %v", got)
	}
}

// dribble gives a socket's bytes one by one, with a passed deadline before each.
type dribble struct {
	net.Conn
	late bool
}

func (d *dribble) Read(p []byte) (int, error) {
	if d.late = !d.late; d.late {
		return 0, os.ErrDeadlineExceeded
	}
	return d.Conn.Read(p[:1])
}

func TestDeadlineInTheMiddleOfATLSRecordLosesNothing(t *testing.T) {
	client, server := tlsPair(t)
	want := []string{"dfirst row", "dsecond row", "dthird row"}
	for _, w := range want {
		if _, err := server.Write(frame(w[0], w[1:])); err != nil {
			t.Fatal(err)
		}
	}
	if err := server.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	var c replConn
	if err := c.take(client); err != nil {
		t.Fatal(err)
	}
	c.sock.Conn = &dribble{Conn: c.sock.Conn}
	got, err := cut(&c.frames)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	sameFrames(t, got, want)
}

// A walsender flushes a TLS record per row. Handing them over one by one would lock the sink once a row.
func TestRowsUnderTLSComeInBlocks(t *testing.T) {
	client, server := tlsPair(t)
	for range 100 {
		if _, err := server.Write(frame('d', string(bytes.Repeat([]byte{'x'}, 300)))); err != nil {
			t.Fatal(err)
		}
	}
	var c replConn
	if err := c.take(client); err != nil {
		t.Fatal(err)
	}
	rows, fills := 0, 0
	for rows < 100 {
		if err := c.fill(); err != nil {
			t.Fatal(err)
		}
		fills++
		for {
			if _, _, ok := c.next(); !ok {
				break
			}
			rows++
		}
	}
	if fills > 10 {
		t.Errorf("100 rows took %d fills", fills)
	}
}

// What a man in the middle sends before the handshake must not be taken for what the server says after it.
func TestLazyConnHoldsNothingBeforeTheStream(t *testing.T) {
	a, b := loopback(t)
	sock := &lazyConn{Conn: a}
	if _, err := b.Write([]byte("Sstuffed")); err != nil {
		t.Fatal(err)
	}
	if n, err := sock.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if sock.buf != nil || sock.r != sock.w {
		t.Error("bytes were held back")
	}
}

// loopback is a TCP connection with itself.
func loopback(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = c.Close(), s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// tlsPair is an established TLS connection, as pgconn leaves it: a tls.Conn over a lazyConn.
func tlsPair(t *testing.T) (client, server *tls.Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"postgres"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(cert)
	a, b := loopback(t)
	client = tls.Client(&lazyConn{Conn: a}, &tls.Config{RootCAs: roots, ServerName: "postgres"})
	server = tls.Server(b, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	failed := make(chan error, 1)
	go func() { failed <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	return client, server
}
