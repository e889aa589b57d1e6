package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// Stored is a batch as a partition's log holds it, whoever wrote it: a broker may have compressed it anew, and compaction
// may have taken records out of it. It shares the memory that it was read from.
type Stored struct {
	// BaseOffset is the offset of the first record that the batch was written with, and LastOffset that of the last;
	// compaction keeps both.
	BaseOffset, LastOffset int64
	// Count is the number of records that are left.
	Count int
	// ProducerID and ProducerEpoch are -1 for a producer that was not idempotent.
	ProducerID    int64
	ProducerEpoch int16
	// Control says that its one record is the marker that ends a transaction (KIP-98), and not a record of anybody's.
	Control bool

	compression   Compression
	baseTimestamp int64
	section       []byte // the records, compressed
}

const (
	// What a batch in a log does not have of the layout in builder.go, because it is the size prefix of a Produce request.
	sizePrefix = baseOffsetAt
	// lengthEnd is how much of a batch its length does not count.
	lengthEnd = leaderEpochAt - sizePrefix

	compressionBits = 0x07
	controlBit      = 0x20
	currentMagic    = 2
)

// ErrAncient is a batch in a format before version 2, which Kafka's producers have not written since 0.11.
var ErrAncient = errors.New("a batch in a format before version 2: the topic holds what no producer of today writes")

// Next takes the first batch off a record set as a Fetch brings it. The set may end inside a batch (KIP-74); what is left of
// it then yields no batch, and no error. It trusts no byte of the set: a batch comes with its checksum verified.
func Next(set []byte) (b Stored, rest []byte, ok bool, err error) {
	if len(set) <= magicAt-sizePrefix {
		return b, nil, false, nil
	}
	be := binary.BigEndian
	if magic := set[magicAt-sizePrefix]; magic < currentMagic {
		return b, nil, false, ErrAncient
	} else if magic > currentMagic {
		return b, nil, false, fmt.Errorf("a record batch of the unknown format %d", magic)
	}
	length := int64(be.Uint32(set[lengthAt-sizePrefix:]))
	if length < Overhead-leaderEpochAt {
		return b, nil, false, fmt.Errorf("a record batch of %d bytes, less than its header", length)
	}
	if length > int64(len(set)-lengthEnd) {
		return b, nil, false, nil
	}
	wire, rest := set[:lengthEnd+length], set[lengthEnd+length:]
	at := func(i int) []byte { return wire[i-sizePrefix:] }
	if sum := crc32.Checksum(at(attributesAt), castagnoli); sum != be.Uint32(at(crcAt)) {
		return b, nil, false, fmt.Errorf("the record batch at offset %d does not match its checksum", be.Uint64(wire))
	}
	attributes, count := be.Uint16(at(attributesAt)), int32(be.Uint32(at(countAt)))
	b = Stored{
		BaseOffset: int64(be.Uint64(wire)), Count: int(count),
		ProducerID: int64(be.Uint64(at(producerIDAt))), ProducerEpoch: int16(be.Uint16(at(producerEpochAt))),
		Control:     attributes&controlBit != 0,
		compression: Compression(attributes & compressionBits), baseTimestamp: int64(be.Uint64(at(baseTimestampAt))),
		section: at(Overhead),
	}
	b.LastOffset = b.BaseOffset + int64(int32(be.Uint32(at(lastOffsetDeltaAt))))
	if b.BaseOffset < 0 || b.LastOffset < b.BaseOffset || count < 0 {
		return Stored{}, nil, false, fmt.Errorf("a record batch of %d records with the offsets %d to %d", count, b.BaseOffset, b.LastOffset)
	}
	return b, rest, true, nil
}

// Records yields the records with their offsets, in order, until yield returns false. A record's bytes lie in the memory of
// the batch, or in a decompressed copy of it; its Headers are overwritten when yield returns.
func (b *Stored) Records(yield func(offset int64, r Record) bool) error {
	section, err := decompress(b.compression, b.section, math.MaxInt32)
	if err != nil {
		return fmt.Errorf("decompress the record batch at offset %d with %s: %w", b.BaseOffset, b.compression, err)
	}
	next := b.BaseOffset
	var disorder error
	err = readRecords(section, b.Count, b.baseTimestamp, func(_ int, delta int64, r Record) bool {
		offset := b.BaseOffset + delta
		if offset < next || offset > b.LastOffset {
			disorder = fmt.Errorf("the record batch at offset %d has a record at %d where one of %d to %d is due", b.BaseOffset, offset, next, b.LastOffset)
			return false
		}
		next = offset + 1
		return yield(offset, r)
	})
	return errors.Join(err, disorder)
}
