package broker

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/segmentio/kafka-go/protocol"
)

// outgoing is the writer that a request is encoded to. kafka-go writes an encoded request page by page; they are
// gathered until the frame is whole, so that it leaves in one system call without being copied, and so that nothing has
// left when encoding fails.
type outgoing struct {
	conn    *Conn
	call    call
	pages   net.Buffers
	missing int  // bytes of the frame that are still to come
	taken   bool // the call is queued; its answer is the reader's business
}

func (o *outgoing) begin(c *Conn, k call) {
	clear(o.pages) // they belong to kafka-go
	*o = outgoing{conn: c, call: k, pages: o.pages[:0]}
}

func (o *outgoing) Write(page []byte) (int, error) {
	if len(page) == 0 {
		return 0, nil
	}
	if len(o.pages) == 0 {
		o.missing = 4 + int(binary.BigEndian.Uint32(page)) // the first page holds the size, which does not count itself
	}
	o.pages = append(o.pages, page)
	if o.missing -= len(page); o.missing > 0 {
		return len(page), nil
	}
	if err := o.conn.transmit(o.call, o.pages); err != nil {
		return 0, err
	}
	o.taken = true
	return len(page), nil
}

// maxAnswer is the size above which an answer is taken for something else than Kafka's. Brokers themselves send at most
// what a fetch asks for, or one batch of message.max.bytes.
const maxAnswer = 256 << 20

// readAnswer reads the answer to k. Errors of the connection come as they are, an answer that is none as garbledError.
func readAnswer(in *bufio.Reader, k call) (protocol.Message, error) {
	prefix, err := in.Peek(4)
	if err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(prefix))
	if size < 4 || size > maxAnswer {
		if prefix[0] == tlsAlert && prefix[1] == tlsMajor {
			return nil, garbled(errTLSExpected)
		}
		return nil, garbled(fmt.Errorf("bytes % x instead of the size of an answer: is this a Kafka listener?", prefix))
	}
	if prefix, err = in.Peek(8); err != nil {
		return nil, err
	}
	if id := int32(binary.BigEndian.Uint32(prefix[4:])); id != k.id {
		return nil, garbled(fmt.Errorf("an answer to request %d came, %d (%s) was due", id, k.id, k.key))
	}
	if k.raw {
		raw := &Raw{Version: k.version, Body: make([]byte, size-4), key: k.key}
		_, _ = in.Discard(len(prefix)) // they are buffered
		_, err := io.ReadFull(in, raw.Body)
		return raw, err
	}
	body := incoming{in: in, left: 4 + size}
	msg, err := decode(&body, k)
	switch {
	case body.err != nil:
		return nil, body.err
	case err != nil:
		return nil, garbled(fmt.Errorf("an answer to %s v%d that cannot be decoded: %w", k.key, k.version, err))
	case body.left != 0:
		return nil, garbled(fmt.Errorf("an answer to %s v%d with %d bytes that do not belong to it", k.key, k.version, body.left))
	}
	return msg, nil
}

// decode keeps kafka-go's panics over lengths that make no sense from ending the process: the bytes are a peer's. It
// cannot keep it from allocating an array as long as the peer says, within an otherwise right answer.
func decode(body *incoming, k call) (msg protocol.Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	_, msg, err = protocol.ReadResponse(body, k.key, k.version)
	return msg, err
}

// incoming is one answer. Decoding cannot read past its end, so a length inside it that is wrong does not take bytes of
// the next answer. kafka-go looks for Peek and Discard to read record sets without a detour.
type incoming struct {
	in   *bufio.Reader
	left int
	err  error // of the connection, as opposed to the answer
}

func (b *incoming) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.in.Read(p[:min(len(p), b.left)])
	return b.took(n, err)
}

func (b *incoming) Discard(n int) (int, error) {
	want := min(n, b.left)
	got, err := b.took(b.in.Discard(want))
	if err == nil && want < n {
		err = io.EOF
	}
	return got, err
}

func (b *incoming) Peek(n int) ([]byte, error) {
	if n > b.left {
		return nil, io.ErrUnexpectedEOF
	}
	p, err := b.in.Peek(n)
	_, err = b.took(0, err)
	return p, err
}

func (b *incoming) took(n int, err error) (int, error) {
	b.left -= n
	if err != nil {
		b.err = err
	}
	return n, err
}

// garbledError is an answer that no Kafka broker gives.
type garbledError struct{ err error }

func garbled(err error) error { return &garbledError{err} }

func (e *garbledError) Error() string { return e.err.Error() }

func (e *garbledError) Unwrap() error { return e.err }

var errTLSExpected = errors.New("the listener speaks TLS, which kafka.tls.enabled would switch on")

// A TLS record begins with its type and the major version, which has been 3 since SSL 3.0 (RFC 8446, section 5.1).
const (
	tlsAlert = 0x15
	tlsMajor = 0x03
)
