package broker

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
)

// Dial connects to the broker at addr (host:port), up to where requests can be sent. ctx bounds the dialling, not the
// connection. The caller owns the connection and closes it.
func Dial(ctx context.Context, addr string, cfg *Config) (*Conn, error) {
	c := &Conn{addr: addr, clientID: cfg.ClientID, timeout: cfg.timeout(), done: make(chan struct{})}
	deadline := time.Now().Add(c.timeout)
	dial := cfg.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	dialing, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	socket, err := dial(dialing, "tcp", addr)
	if err != nil {
		if ctx.Err() != nil {
			return nil, interrupted(ctx, addr)
		}
		kind := KindUnreachable
		var malformed *net.AddrError
		if errors.As(err, &malformed) {
			kind = KindSettings // a port is missing, say
		}
		return nil, &Error{addr, "connect", kind, err}
	}
	c.socket = socket
	_ = socket.SetDeadline(deadline) // stays armed over every round of the handshakes
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
	err = c.handshake(ctx, deadline, cfg)
	if !stop() {
		err = interrupted(ctx, addr) // the socket is closed, or about to be
	}
	if err != nil {
		_ = socket.Close()
		return nil, err
	}
	_ = socket.SetDeadline(time.Time{})
	go c.read()
	return c, nil
}

func interrupted(ctx context.Context, addr string) error {
	return fmt.Errorf("dial broker %s: %w", addr, context.Cause(ctx))
}

// handshake makes a fresh TCP connection one that requests can be sent over.
func (c *Conn) handshake(ctx context.Context, deadline time.Time, cfg *Config) error {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	c.stream = c.socket
	if cfg.TLS != nil {
		if err := c.secure(ctx, cfg.TLS); err != nil {
			return err
		}
	}
	c.in = bufio.NewReader(c.stream)
	if err := c.negotiate(); err != nil {
		return err
	}
	if cfg.SASL != nil {
		return c.authenticate(ctx, cfg.SASL)
	}
	return nil
}

// exchange sends one request and reads its answer, before there is a reader. op is for the error.
func (c *Conn) exchange(op string, version int16, req protocol.Message) (protocol.Message, error) {
	c.lastID++
	if err := protocol.WriteRequest(c.stream, version, c.lastID, c.clientID, req); err != nil {
		return nil, c.failed(op, err)
	}
	k := call{id: c.lastID, key: req.ApiKey(), version: version}
	if k.key == protocol.ApiVersions && c.refusedVersion() {
		k.version = 0 // a broker that does not know the version asked with says so in version 0 (KIP-511)
	}
	msg, err := readAnswer(c.in, k)
	if err != nil {
		return nil, c.failed(op, err)
	}
	return msg, nil
}

// failed makes an Error of what went wrong before there was a reader.
func (c *Conn) failed(op string, err error) error {
	var bad *garbledError
	kind := ioKind(err)
	switch {
	case errors.Is(err, errTLSExpected):
		kind = KindTLS
	case errors.As(err, &bad):
		kind = KindGarbled
	case kind == KindTimeout:
		err = fmt.Errorf("not done %s after the dial began: %w", c.timeout, err)
	}
	return &Error{c.addr, op, kind, err}
}

const unsupportedVersion = 35 // UNSUPPORTED_VERSION

// refusedVersion looks ahead at an answer to ApiVersions: size, correlation id, error code. It leaves errors to whoever
// reads the answer.
func (c *Conn) refusedVersion() bool {
	head, err := c.in.Peek(10)
	return err == nil && binary.BigEndian.Uint16(head[8:]) == unsupportedVersion
}

// negotiate agrees with the broker on a version of each API that this program speaks: the highest that both know.
func (c *Conn) negotiate() error {
	const op = "ApiVersions"
	version := protocol.ApiVersions.MaxVersion()
	var offer *apiversions.Response
	for {
		msg, err := c.exchange(op, version, &apiversions.Request{})
		if err != nil {
			var e *Error
			if errors.As(err, &e) && e.Kind == KindLost && !c.usesTLS {
				e.Err = fmt.Errorf("the broker closed the connection (%w); does this listener want TLS?", e.Err)
			}
			return err
		}
		offer = msg.(*apiversions.Response)
		if offer.ErrorCode != unsupportedVersion || version == 0 {
			break
		}
		version = 0
	}
	if offer.ErrorCode != 0 {
		return &Error{c.addr, op, KindVersion, fmt.Errorf("the broker answers with error code %d", offer.ErrorCode)}
	}
	c.versions = make(map[protocol.ApiKey]int16, len(offer.ApiKeys))
	for _, o := range offer.ApiKeys {
		key := protocol.ApiKey(o.ApiKey)
		least, most := key.MinVersion(), key.MaxVersion()
		if most == 0 {
			continue // nothing in this program speaks it: kafka-go knows the messages of imported packages only
		}
		// kafka-go's own SelectVersion never looks at the broker's minimum.
		v := min(most, o.MaxVersion)
		if v < least || v < o.MinVersion {
			return &Error{c.addr, op, KindVersion, fmt.Errorf("the broker speaks %s v%d to v%d, this program v%d to v%d: they need versions that overlap",
				key, o.MinVersion, o.MaxVersion, least, most)}
		}
		c.versions[key] = v
	}
	return nil
}
