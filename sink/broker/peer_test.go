package broker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
)

// No test may leave a reader behind, whatever its peer did.
func TestMain(m *testing.M) {
	code := m.Run()
	for deadline := time.Now().Add(5 * time.Second); ; runtime.Gosched() { // a reader that has just said Done may still be on its way out
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if !bytes.Contains(stacks, []byte("broker.(*Conn)")) {
			break
		}
		if time.Now().After(deadline) {
			fmt.Fprintf(os.Stderr, "goroutines of a connection were left behind:\n%s", stacks)
			code = 1
			break
		}
	}
	os.Exit(code)
}

// offered is what a peer says it speaks, unless a test says otherwise.
var offered = []apiversions.ApiKeyResponse{
	{ApiKey: int16(protocol.Produce), MinVersion: 3, MaxVersion: 12},
	{ApiKey: int16(protocol.Metadata), MinVersion: 0, MaxVersion: 13},
	{ApiKey: int16(protocol.SaslHandshake), MinVersion: 0, MaxVersion: 1},
	{ApiKey: int16(protocol.ApiVersions), MinVersion: 0, MaxVersion: 4},
	{ApiKey: int16(protocol.SaslAuthenticate), MinVersion: 0, MaxVersion: 2},
}

// played is a peer's end of a connection.
type played struct{ net.Conn }

// request is a frame as it came.
type request struct {
	key     protocol.ApiKey
	version int16
	id      int32
	size    int
}

// next reads a request without decoding it; false when the client is gone.
func (p played) next() (request, bool) {
	var head [12]byte
	if _, err := io.ReadFull(p, head[:]); err != nil {
		return request{}, false
	}
	r := request{
		key:     protocol.ApiKey(binary.BigEndian.Uint16(head[4:])),
		version: int16(binary.BigEndian.Uint16(head[6:])),
		id:      int32(binary.BigEndian.Uint32(head[8:])),
		size:    int(binary.BigEndian.Uint32(head[:])),
	}
	_, err := io.CopyN(io.Discard, p, int64(r.size-8))
	return r, err == nil
}

func (p played) answer(r request, msg protocol.Message) {
	_ = protocol.WriteResponse(p, r.version, r.id, msg) // a client that is gone is the test's own doing
}

// greet does a broker's part of the ApiVersions exchange.
func (p played) greet() bool {
	r, ok := p.next()
	if ok {
		p.answer(r, &apiversions.Response{ApiKeys: offered})
	}
	return ok
}

// gone waits until the client has closed the connection.
func (p played) gone() { _, _ = io.Copy(io.Discard, p) }

// listen starts a peer that plays the same part to every client, on connections made by accept (nil: as they are).
func listen(t testing.TB, accept func(net.Conn) net.Conn, play func(p played)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		conns []net.Conn
	)
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			all.Go(func() {
				defer func() { _ = c.Close() }()
				stream := c
				if accept != nil {
					stream = accept(c)
				}
				play(played{stream})
			})
		}
	})
	return l.Addr().String()
}

// dial connects to a peer, with a time-out that no test waits for unless it sets its own.
func dial(t testing.TB, addr string, cfg Config) *Conn {
	t.Helper()
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Minute
	}
	c, err := Dial(t.Context(), addr, &cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// dialError is the error of a dial that must fail.
func dialError(t *testing.T, addr string, cfg Config) error {
	t.Helper()
	c, err := Dial(t.Context(), addr, &cfg)
	if err == nil {
		_ = c.Close()
		t.Fatal("the dial succeeded")
	}
	return err
}

// wantError checks an error's kind, and that it says what an operator has to know.
func wantError(t *testing.T, err error, kind Kind, says ...string) {
	t.Helper()
	if KindOf(err) != kind {
		t.Errorf("kind %d, want %d: %v", KindOf(err), kind, err)
	}
	for _, s := range says {
		if err == nil || !strings.Contains(err.Error(), s) {
			t.Errorf("%q is missing in: %v", s, err)
		}
	}
}

// await receives, unless that takes so long that something hangs.
func await[T any](t testing.TB, what string, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: nothing happened", what)
	}
	return v
}

type result struct {
	msg protocol.Message
	err error
}

// send sends, and gives a channel with the answer.
func send(c *Conn, req protocol.Message) <-chan result {
	answered := make(chan result, 2) // two, so that a second call of done does not hide
	c.Send(req, func(msg protocol.Message, err error) { answered <- result{msg, err} })
	return answered
}

// topics is a request that can be told from others by its size.
func topics(names ...string) *metadata.Request { return &metadata.Request{TopicNames: names} }

// batch is a produce request with size bytes in place of a record batch.
func batch(size int) *rawproduce.Request {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+size), uint32(size))
	return wire(b[:4+size])
}

// wire is a produce request for partition 0 of topic t; set is a record set with its size.
func wire(set []byte) *rawproduce.Request {
	return &rawproduce.Request{Acks: -1, Timeout: 1000, Topics: []rawproduce.RequestTopic{{Topic: "t", Partitions: []rawproduce.RequestPartition{
		{RecordSet: protocol.RawRecordSet{Reader: bytes.NewReader(set)}},
	}}}}
}

// Each is needed for its registration with kafka-go, or for a peer's answers.
var (
	_ = produce.Response{}
	_ = saslauthenticate.Response{}
	_ = saslhandshake.Response{}
)
