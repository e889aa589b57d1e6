// Package broker is a connection to one Kafka broker: requests are pipelined, and answered in the order of sending.
//
// kafka-go encodes and decodes the messages. Its own Transport is not used, because it opens a second connection where
// this one sends a second request, and so loses the order that an idempotent producer needs.
package broker

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go/protocol"
)

// DefaultTimeout is the time-out of a Config that names none: that of Kafka's own clients (request.timeout.ms).
const DefaultTimeout = 30 * time.Second

// Config is how brokers are dialled. The zero value is a plaintext connection.
type Config struct {
	// Dial, when not nil, opens the connections instead of a net.Dialer. ctx ends with Timeout.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// ClientID is the name that brokers log, and count quotas by.
	ClientID string
	// TLS, when not nil, gives the client's configuration. It is called at every dial, so that certificates can be
	// renewed on disk. An empty ServerName becomes the host dialled.
	TLS func() (*tls.Config, error)
	// SASL, when not nil, gives the mechanism to authenticate with; it is called at every dial, so that secrets can be
	// renewed. A nil mechanism is none.
	SASL func() (SASL, error)
	// Timeout bounds a dial as a whole (TCP, TLS, ApiVersions, SASL), the writing of each request and, counted from
	// when it was written, the wait for its answer. Zero means DefaultTimeout.
	Timeout time.Duration
}

func (cfg *Config) timeout() time.Duration {
	if cfg.Timeout == 0 {
		return DefaultTimeout
	}
	return cfg.Timeout
}

// Conn is a connection to one broker. It ends once, for good: by Close, by an error of the network, by an answer that is
// late, or by one that makes no sense. Its methods may be called from many goroutines.
type Conn struct {
	addr     string
	clientID string
	timeout  time.Duration
	versions map[protocol.ApiKey]int16 // of each API, the one spoken; set by Dial
	retireAt time.Time                 // set by Dial
	usesTLS  bool                      // set by Dial, like usesSASL
	usesSASL bool

	socket net.Conn      // the TCP connection. Closing it ends everything at once; TLS would wait to say goodbye.
	stream net.Conn      // socket, or TLS over it
	in     *bufio.Reader // of stream; Dial's, then the reader's

	writing sync.Mutex // held while a request is encoded and written, so that frames leave in the order of calls
	lastID  int32      // correlation id, guarded by writing
	out     outgoing   // guarded by writing

	mu      sync.Mutex // guards the rest; never held during I/O on the stream or a callback
	calls   []call     // written, or about to be, and not answered; oldest first
	err     error      // why the connection ended; the first reason wins
	drained bool       // the reader has answered its last call

	done chan struct{} // closed by the reader when it returns
}

// call is a request that awaits its answer.
type call struct {
	id       int32
	key      protocol.ApiKey
	version  int16
	raw      bool      // the answer is a Raw
	deadline time.Time // of the answer; zero while the request is being written, which has a deadline of its own
	done     func(protocol.Message, error)
}

// Addr is the address that was dialled.
func (c *Conn) Addr() string { return c.addr }

// Version is the version of an API that is spoken with this broker; false when the broker does not offer that API.
func (c *Conn) Version(key protocol.ApiKey) (int16, bool) {
	v, ok := c.versions[key]
	return v, ok
}

// RetireAt is the time by which the owner should have replaced the connection, because the broker will cut it soon
// after (KIP-368: re-authentication is not spoken here). Zero: never.
func (c *Conn) RetireAt() time.Time { return c.retireAt }

// Done is closed when the connection has ended, and everything sent over it has been answered.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is why the connection has ended, or is about to; nil while it lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection. When it returns, every call has been answered and the reader is gone; so a done callback
// must not call it. The error is always nil.
func (c *Conn) Close() error {
	c.end(&Error{c.addr, "request", KindClosed, net.ErrClosed})
	<-c.done
	return nil
}

// Send writes one request. It blocks while an earlier one is being written, and returns without awaiting the answer.
//
// done is called exactly once: from the connection's reader, in the order of sending, with the answer or with the error
// that ended the connection; or before Send returns, when the connection had ended long before or the request could not
// even be encoded, which leaves the connection as it was. done must neither block nor send.
func (c *Conn) Send(req protocol.Message, done func(protocol.Message, error)) {
	c.sendCall(req, call{done: done})
}

func (c *Conn) sendCall(req protocol.Message, k call) {
	if err := c.send(req, k); err != nil {
		k.done(nil, err)
	}
}

// Do sends one request and returns its answer. It waits until ctx or the connection ends; the writing itself, which
// does not heed ctx, is bounded by Config.Timeout. When ctx ends the connection goes on, and drops the late answer.
func (c *Conn) Do(ctx context.Context, req protocol.Message) (protocol.Message, error) {
	return c.do(ctx, req, false)
}

// Raw is an answer that nobody has decoded.
type Raw struct {
	// Version is that of the request.
	Version int16
	// Body is what follows the correlation id; the caller's own.
	Body []byte

	key protocol.ApiKey
}

// ApiKey is the request's.
func (r *Raw) ApiKey() protocol.ApiKey { return r.key }

// DoRaw is Do for an answer that the caller reads in place, because it is large.
func (c *Conn) DoRaw(ctx context.Context, req protocol.Message) (*Raw, error) {
	msg, err := c.do(ctx, req, true)
	if err != nil {
		return nil, err
	}
	return msg.(*Raw), nil
}

func (c *Conn) do(ctx context.Context, req protocol.Message, raw bool) (protocol.Message, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	type answer struct {
		msg protocol.Message
		err error
	}
	answered := make(chan answer, 1)
	c.sendCall(req, call{raw: raw, done: func(msg protocol.Message, err error) { answered <- answer{msg, err} }})
	select {
	case a := <-answered:
		return a.msg, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("await the answer of broker %s to %s: %w", c.addr, req.ApiKey(), ctx.Err())
	}
}

// send hands k.done over to the reader, or returns why it did not.
func (c *Conn) send(req protocol.Message, k call) error {
	key := req.ApiKey()
	version, ok := c.versions[key]
	if !ok {
		return &Error{c.addr, key.String(), KindVersion, errors.New("the broker does not offer this API")}
	}
	if r, ok := req.(interface{ HasResponse() bool }); ok && !r.HasResponse() {
		// The next answer would be taken for this one's.
		return fmt.Errorf("broker %s: %s: a request without an answer (acks=0) cannot be sent", c.addr, key)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.lastID++
	k.id, k.key, k.version = c.lastID, key, version
	c.out.begin(c, k)
	err := protocol.WriteRequest(&c.out, version, c.lastID, c.clientID, req)
	if c.out.taken {
		return nil // whatever went wrong then ended the connection, and done hears of it from the reader
	}
	var ended *Error
	if errors.As(err, &ended) {
		return err
	}
	return fmt.Errorf("broker %s: encode %s v%d: %w", c.addr, key, version, err)
}

// transmit queues a call and writes its frame. It is an error only if the call was not queued. c.writing is held.
func (c *Conn) transmit(k call, frame net.Buffers) error {
	c.mu.Lock()
	if c.drained {
		defer c.mu.Unlock()
		return c.err
	}
	c.calls = append(c.calls, k)
	ended := c.err != nil
	c.mu.Unlock()
	if ended {
		return nil // the reader is about to answer all calls, this one too
	}
	_ = c.stream.SetWriteDeadline(time.Now().Add(c.timeout)) // fails only on a closed socket, like the write then does
	if _, err := frame.WriteTo(c.stream); err != nil {
		// A part of the frame may have left, so nothing else can ever follow it.
		c.end(&Error{c.addr, "write " + k.key.String(), ioKind(err), err})
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.calls); n > 0 && c.calls[n-1].id == k.id { // not answered yet
		c.calls[n-1].deadline = time.Now().Add(c.timeout)
		c.arm()
	}
	return nil
}

// arm sets the read deadline to that of the oldest call: an answer comes to that one first, and no other is due earlier.
// An idle connection has none. c.mu is held.
func (c *Conn) arm() {
	var deadline time.Time
	if len(c.calls) > 0 {
		deadline = c.calls[0].deadline
	}
	_ = c.socket.SetReadDeadline(deadline) // fails only on a closed socket, which the reader sees anyway
}

// end closes the socket, which brings the reader to an end. The first reason given is kept.
func (c *Conn) end(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = why
		_ = c.socket.Close() // nothing of ours is lost by it: what was not answered is repeated elsewhere
	}
}

// read hands answers to their calls until the connection ends, and then the reason to all that are left.
func (c *Conn) read() {
	defer close(c.done)
	for answered := false; ; answered = true {
		msg, done, err := c.next()
		if err != nil {
			c.end(c.explain(err, answered))
			break
		}
		done(msg, nil)
	}
	for {
		c.mu.Lock()
		left, err := c.calls, c.err
		c.calls, c.drained = nil, len(left) == 0
		c.mu.Unlock()
		if len(left) == 0 {
			return
		}
		for _, k := range left {
			k.done(nil, err)
		}
	}
}

// next reads one answer, and takes the oldest call off the queue for it.
func (c *Conn) next() (protocol.Message, func(protocol.Message, error), error) {
	if _, err := c.in.Peek(1); err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	if len(c.calls) == 0 {
		c.mu.Unlock()
		return nil, nil, garbled(errors.New("an answer came that nothing was asked for"))
	}
	k := c.calls[0]
	c.mu.Unlock()
	msg, err := readAnswer(c.in, k)
	if err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = slices.Delete(c.calls, 0, 1)
	c.arm()
	return msg, k.done, nil
}

// explain makes an Error of what ended the reader. answered says whether the broker has answered anything since Dial.
func (c *Conn) explain(err error, answered bool) error {
	var bad *garbledError
	if errors.As(err, &bad) {
		return &Error{c.addr, "read", KindGarbled, err}
	}
	op, waiting := "read", false
	c.mu.Lock()
	if len(c.calls) > 0 {
		op, waiting = c.calls[0].key.String(), true
	}
	c.mu.Unlock()
	kind := ioKind(err)
	switch {
	case kind == KindTimeout:
		err = fmt.Errorf("no answer within %s: %w", c.timeout, err)
	case kind == KindLost && isEOF(err) && waiting && !answered && !c.usesSASL:
		// What a listener that wants SASL does with a request of somebody who has not logged in.
		err = fmt.Errorf("the broker closed the connection before it answered anything (%w); does this listener want SASL?", err)
	case kind == KindLost && isEOF(err):
		err = fmt.Errorf("the broker closed the connection: %w", err)
	}
	return &Error{c.addr, op, kind, err}
}
