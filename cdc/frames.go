package cdc

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// The message types that a walsender may send once streaming has begun (PostgreSQL docs, "Message Formats").
const (
	frameCopyData        = 'd'
	frameCopyBoth        = 'W'
	frameCopyDone        = 'c'
	frameError           = 'E'
	frameNotice          = 'N'
	frameParameterStatus = 'S'
	frameCommandComplete = 'C'
	frameReady           = 'Z'
)

const (
	frameHeader = 5         // type byte, then the length, which counts itself but not the type
	blockSize   = 256 << 10 // bytes asked of the socket at once: some 600 rows of a few hundred bytes
	// maxBody is the longest body that Postgres can send: a message is built in one palloc'd chunk, below 1 GiB.
	// Anything longer means that we are out of step with the stream.
	maxBody = 1 << 30
	// keepBuffer is the size up to which a grown buffer stays. One of its like per frame would be garbage for every
	// row of an outbox with large payloads; a single giant row must not cost its size for ever.
	keepBuffer = 1 << 20
)

// frames cuts the server's messages out of the stream, in place: a large read brings many of them, and none is copied.
type frames struct {
	src io.Reader
	// below is the socket under src where src is TLS, which returns one record a read, and that is one row, while the
	// records behind it are in memory already; else nil.
	below *lazyConn

	buf  []byte
	r, w int // what has been read and not yet cut is buf[r:w]
}

// fill blocks until at least one whole frame is buffered. A frame handed out by next is invalid afterwards.
// An error leaves what was buffered as it is: after a deadline that passed, fill may be called again.
func (f *frames) fill() error {
	for {
		need, err := f.need()
		if err != nil {
			return err
		}
		if need == 0 {
			return nil
		}
		f.makeRoom(need)
		n, err := f.src.Read(f.buf[f.w:])
		f.w += n
		if err != nil {
			if need, bad := f.need(); need == 0 && bad == nil {
				return nil // an error that lasts comes back at the next read
			}
			return err
		}
		if f.below != nil {
			f.gather()
		}
	}
}

// gather reads what is in memory below TLS. Its error is dropped: one that lasts comes back at the next read.
func (f *frames) gather() {
	f.below.noWait = true
	defer func() { f.below.noWait = false }()
	for f.w < len(f.buf) {
		n, err := f.src.Read(f.buf[f.w:])
		f.w += n
		if err != nil {
			return
		}
	}
}

// need is the size of the frame at the head of the buffer if it is not whole yet, as far as it is known; 0 if it is whole.
func (f *frames) need() (int, error) {
	have := f.buf[f.r:f.w]
	if len(have) < frameHeader {
		return frameHeader, nil
	}
	length := binary.BigEndian.Uint32(have[1:])
	if length < 4 || length-4 > maxBody {
		return 0, fmt.Errorf("message of type %q with impossible length %d: the replication stream is out of step", have[0], length)
	}
	if size := 1 + int(length); len(have) < size {
		return size, nil
	}
	return 0, nil
}

// makeRoom moves what is left to the front, and grows the buffer when the frame of size bytes needs it. It grows by
// doubling, as the bytes arrive: a length is only a claim.
func (f *frames) makeRoom(size int) {
	left := f.w - f.r
	switch {
	case len(f.buf) == 0, len(f.buf) > keepBuffer && size <= blockSize:
		fresh := make([]byte, max(blockSize, left))
		copy(fresh, f.buf[f.r:f.w])
		f.buf = fresh
	case left == len(f.buf):
		fresh := make([]byte, max(blockSize, min(2*left, size)))
		copy(fresh, f.buf[f.r:f.w])
		f.buf = fresh
	case f.r > 0:
		copy(f.buf, f.buf[f.r:f.w])
	}
	f.r, f.w = 0, left
}

// next cuts the next whole frame off the buffer; ok is false when there is none. body is valid until the next fill.
func (f *frames) next() (typ byte, body []byte, ok bool) {
	have := f.buf[f.r:f.w]
	if len(have) < frameHeader {
		return 0, nil, false
	}
	length := binary.BigEndian.Uint32(have[1:])
	if length-4 > maxBody || int(length) >= len(have) { // a length below 4 wraps around; fill says what is wrong with it
		return 0, nil, false
	}
	f.r += 1 + int(length)
	return have[0], have[frameHeader : 1+length : 1+length], true
}

// walData is an XLogData message: a piece of the plugin's output.
type walData struct {
	start     lsn   // of the WAL record; neither monotonic nor unique, so never a sign of progress
	serverEnd lsn   // the end of WAL that the server has decoded up to
	sentAt    int64 // microseconds since 2000-01-01 UTC
	data      []byte
}

// keepalive is a Primary Keepalive message.
type keepalive struct {
	serverEnd      lsn
	sentAt         int64 // microseconds since 2000-01-01 UTC
	replyRequested bool
}

// The payload of a CopyData frame begins with one of these.
const (
	copyWALData   = 'w'
	copyKeepalive = 'k'
)

// parseWALData takes the body of a CopyData frame that begins with copyWALData. data points into body.
func parseWALData(body []byte) (m walData, ok bool) {
	if len(body) < 25 || body[0] != copyWALData {
		return m, false
	}
	m.start = lsn(binary.BigEndian.Uint64(body[1:]))
	m.serverEnd = lsn(binary.BigEndian.Uint64(body[9:]))
	m.sentAt = int64(binary.BigEndian.Uint64(body[17:]))
	m.data = body[25:]
	return m, true
}

// parseKeepalive takes the body of a CopyData frame that begins with copyKeepalive.
func parseKeepalive(body []byte) (m keepalive, ok bool) {
	if len(body) < 18 || body[0] != copyKeepalive {
		return m, false
	}
	m.serverEnd = lsn(binary.BigEndian.Uint64(body[1:]))
	m.sentAt = int64(binary.BigEndian.Uint64(body[9:]))
	m.replyRequested = body[17] != 0
	return m, true
}

// parseServerError takes the body of an ErrorResponse or NoticeResponse frame; both have the same fields.
func parseServerError(body []byte) *pgconn.PgError {
	var m pgproto3.ErrorResponse
	if err := m.Decode(body); err != nil {
		return &pgconn.PgError{Severity: "ERROR", Code: "08P01", Message: "unreadable error message from the server: " + err.Error()}
	}
	return pgconn.ErrorResponseToPgError(&m)
}

// pgEpoch is the zero of Postgres' timestamps.
var pgEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// pgMicros is t as Postgres counts it.
func pgMicros(t time.Time) int64 { return t.Sub(pgEpoch).Microseconds() }
