// Package record writes Kafka record batches (message format v2), and reads back the ones that it wrote.
//
// A row is encoded once, straight into the memory that goes to the broker: Builder.Append adds it to the open batch,
// Builder.Seal turns the open batch into a Batch, Batch.Stamp makes that the next one of a producer, and Batch.Wire
// is what a Produce request carries.
package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// Record is one record as the caller has it. Nothing of it is kept after Append.
type Record struct {
	// Timestamp is CreateTime, in milliseconds since the Unix epoch.
	Timestamp int64
	// Key and Value are null when nil, and empty when empty but not nil.
	Key, Value []byte
	Headers    []Header
}

// Header is a record header. Kafka knows no null header key, so a nil Key is an empty one; a nil Value is null.
type Header struct {
	Key, Value []byte
}

// Where the fields of a batch lie on the wire, the size prefix of a Produce request included
// (Kafka protocol guide, "Record Batch"; KIP-98).
const (
	sizeAt            = 0
	baseOffsetAt      = 4
	lengthAt          = 12
	leaderEpochAt     = 16
	magicAt           = 20
	crcAt             = 21
	attributesAt      = 25
	lastOffsetDeltaAt = 27
	baseTimestampAt   = 31
	maxTimestampAt    = 39
	producerIDAt      = 47
	producerEpochAt   = 55
	baseSequenceAt    = 57
	countAt           = 61

	// Overhead is how many bytes a batch has beside its records: the size prefix and the batch header.
	Overhead = 65
)

var noHeader [Overhead]byte

// Builder is a batch being filled. The zero Builder is an empty batch without memory of its own.
// One goroutine at a time may use it.
type Builder struct {
	buf           []byte // the batch from its size prefix on; its header stays blank until Seal
	count         int
	baseTimestamp int64
	maxTimestamp  int64
}

// Reset drops what the builder holds and takes over buf's memory, whatever it contains, for the next batch.
// The memory of an acked batch comes back this way: Reset(batch.Wire()).
func (b *Builder) Reset(buf []byte) {
	*b = Builder{buf: buf[:0]}
}

// Move puts what the builder holds into buf's memory, which must be large enough for it, and gives back the memory that it had.
func (b *Builder) Move(buf []byte) (old []byte) {
	old = b.buf[:0]
	b.buf = append(buf[:0], b.buf...)
	return old
}

// Memory is what the builder holds; the batch that Seal makes takes it over.
func (b *Builder) Memory() []byte { return b.buf }

// Len is the number of bytes that the batch has on the wire so far, uncompressed and with its Overhead. It is four
// more than what a broker compares with max.message.bytes, which does not count the size prefix.
func (b *Builder) Len() int { return max(len(b.buf), Overhead) }

// Cap is how many bytes of memory the builder holds.
func (b *Builder) Cap() int { return cap(b.buf) }

// Count is the number of records appended.
func (b *Builder) Count() int { return b.count }

// BaseTimestamp is the first record's timestamp; 0 while there is none.
func (b *Builder) BaseTimestamp() int64 { return b.baseTimestamp }

// MaxTimestamp is the largest timestamp of the records; 0 while there is none.
func (b *Builder) MaxTimestamp() int64 { return b.maxTimestamp }

// Size is exactly what Append(r) would now add to Len.
func (b *Builder) Size(r *Record) int {
	body := b.bodySize(r)
	return varintSize(int64(body)) + body
}

// Append adds r to the batch. It allocates only when r does not fit into the memory that the builder has.
func (b *Builder) Append(r *Record) {
	if b.count == 0 {
		b.buf = append(b.buf[:0], noHeader[:]...)
		b.baseTimestamp, b.maxTimestamp = r.Timestamp, r.Timestamp
	}
	body := b.bodySize(r)
	buf := slices.Grow(b.buf, varintSize(int64(body))+body)
	buf = appendVarint(buf, int64(body))
	buf = append(buf, 0) // record attributes: none are defined
	buf = appendVarint(buf, r.Timestamp-b.baseTimestamp)
	buf = appendVarint(buf, int64(b.count))
	buf = appendNullable(buf, r.Key)
	buf = appendNullable(buf, r.Value)
	buf = appendVarint(buf, int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		buf = appendVarint(buf, int64(len(h.Key)))
		buf = append(buf, h.Key...)
		buf = appendNullable(buf, h.Value)
	}
	b.buf = buf
	b.count++
	b.maxTimestamp = max(b.maxTimestamp, r.Timestamp)
}

// Seal ends the batch, compressed with c unless that would not make it smaller. The batch takes the builder's memory
// with it; the builder is then empty. After an error the builder is as it was.
//
// The batch belongs to no producer yet: Stamp it before it is sent.
func (b *Builder) Seal(c Compression) (Batch, error) {
	if b.count == 0 {
		return Batch{}, errors.New("record batch is empty")
	}
	if len(b.buf)-baseOffsetAt > math.MaxInt32 {
		return Batch{}, fmt.Errorf("record batch has %d bytes, and its length field ends at %d", len(b.buf), math.MaxInt32)
	}
	plain := len(b.buf) - Overhead
	wire, c, err := compressTail(b.buf, c)
	if err != nil {
		return Batch{}, err
	}
	batch := Batch{
		wire:          wire,
		compression:   c,
		plain:         plain,
		count:         b.count,
		baseTimestamp: b.baseTimestamp,
		maxTimestamp:  b.maxTimestamp,
	}
	batch.writeHeader()
	*b = Builder{}
	return batch, nil
}

// compressTail compresses the records of wire in place, and says which compression they have now.
func compressTail(wire []byte, c Compression) ([]byte, Compression, error) {
	if c == None {
		return wire, None, nil
	}
	e := encoders.Get().(*encoder)
	defer e.free()
	records := wire[Overhead:]
	packed, err := e.encode(c, records)
	if err != nil {
		return nil, None, fmt.Errorf("compress record batch with %s: %w", c, err)
	}
	if len(packed) >= len(records) {
		return wire, None, nil
	}
	// Copied back, so that a batch has one buffer from its first row to its ack, whatever the compression.
	return wire[:Overhead+copy(records, packed)], c, nil
}

// bodySize is the size of r in this batch without the length in front of it.
func (b *Builder) bodySize(r *Record) int {
	var delta int64 // the first record's is 0: it gives the base
	if b.count > 0 {
		delta = r.Timestamp - b.baseTimestamp
	}
	n := 1 + varintSize(delta) + varintSize(int64(b.count)) +
		nullableSize(r.Key) + nullableSize(r.Value) + varintSize(int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		n += varintSize(int64(len(h.Key))) + len(h.Key) + nullableSize(h.Value)
	}
	return n
}

// appendVarint appends v as Kafka's varint and varlong do, which differ in range only: zigzag, 7 bits a byte.
func appendVarint(buf []byte, v int64) []byte {
	if v >= -64 && v < 64 { // most are one byte; binary.AppendVarint is too large to be inlined
		return append(buf, byte(v<<1)^byte(v>>63))
	}
	return binary.AppendVarint(buf, v)
}

func varintSize(v int64) int {
	zigzag := uint64(v<<1) ^ uint64(v>>63)
	return (bits.Len64(zigzag|1) + 6) / 7
}

func appendNullable(buf, field []byte) []byte {
	if field == nil {
		return appendVarint(buf, -1)
	}
	buf = appendVarint(buf, int64(len(field)))
	return append(buf, field...)
}

func nullableSize(field []byte) int {
	if field == nil {
		return 1
	}
	return varintSize(int64(len(field))) + len(field)
}
