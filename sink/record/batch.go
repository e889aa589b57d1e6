package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is a sealed record batch. A copy of a Batch shares its memory.
type Batch struct {
	wire          []byte
	compression   Compression
	plain         int // bytes of the records before compression
	count         int
	baseTimestamp int64
	maxTimestamp  int64
}

// Len is the number of bytes on the wire; as with Builder.Len, four of them do not count for max.message.bytes.
func (b *Batch) Len() int { return len(b.wire) }

// Count is the number of records.
func (b *Batch) Count() int { return b.count }

// BaseTimestamp is the first record's timestamp.
func (b *Batch) BaseTimestamp() int64 { return b.baseTimestamp }

// MaxTimestamp is the largest timestamp of the records: the one by which a broker ages its memory of a producer.
func (b *Batch) MaxTimestamp() int64 { return b.maxTimestamp }

// Wire is the batch with its size in front, as kafka-go's RawRecordSet wants to read it. It is the batch's own
// memory: once the batch is done with, a Builder may take it over.
func (b *Batch) Wire() []byte { return b.wire }

// Stamp makes b the batch of a producer whose first record has the sequence number baseSequence; -1 for all three
// makes it that of a producer that is not idempotent. It may be called again, when a queue is renumbered, but not
// while a request that carries the batch is being written.
func (b *Batch) Stamp(producerID int64, epoch int16, baseSequence int32) {
	be := binary.BigEndian
	be.PutUint64(b.wire[producerIDAt:], uint64(producerID))
	be.PutUint16(b.wire[producerEpochAt:], uint16(epoch))
	be.PutUint32(b.wire[baseSequenceAt:], uint32(baseSequence))
	be.PutUint32(b.wire[crcAt:], crc32.Checksum(b.wire[attributesAt:], castagnoli))
}

// writeHeader fills in everything but what Stamp does. The checksum is left out as well: it covers the producer's
// fields, and to compute it twice would cost more than all of the header.
func (b *Batch) writeHeader() {
	be := binary.BigEndian
	be.PutUint32(b.wire[sizeAt:], uint32(len(b.wire)-baseOffsetAt))
	be.PutUint64(b.wire[baseOffsetAt:], 0) // the broker assigns offsets
	be.PutUint32(b.wire[lengthAt:], uint32(len(b.wire)-leaderEpochAt))
	be.PutUint32(b.wire[leaderEpochAt:], ^uint32(0)) // -1: likewise
	b.wire[magicAt] = 2
	be.PutUint16(b.wire[attributesAt:], uint16(b.compression)) // CreateTime, not transactional, no control batch
	be.PutUint32(b.wire[lastOffsetDeltaAt:], uint32(b.count-1))
	be.PutUint64(b.wire[baseTimestampAt:], uint64(b.baseTimestamp))
	be.PutUint64(b.wire[maxTimestampAt:], uint64(b.maxTimestamp))
	be.PutUint32(b.wire[countAt:], uint32(b.count))
}

// Records yields the records in order with their index, until yield returns false. A record's bytes lie in the
// batch's memory, or in a decompressed copy of it; its Headers are overwritten when yield returns.
func (b *Batch) Records(yield func(i int, r Record) bool) error {
	if len(b.wire) < Overhead {
		return fmt.Errorf("record batch has %d bytes, less than its header", len(b.wire))
	}
	section, err := decompress(b.compression, b.wire[Overhead:], b.plain)
	if err != nil {
		return fmt.Errorf("decompress record batch with %s: %w", b.compression, err)
	}
	var disorder error
	err = readRecords(section, b.count, b.baseTimestamp, func(i int, delta int64, r Record) bool {
		if delta != int64(i) {
			disorder = fmt.Errorf("record %d of %d: has offset delta %d", i, b.count, delta)
			return false
		}
		return yield(i, r)
	})
	return errors.Join(err, disorder)
}

// Split copies the records [0, at) and [at, Count) into a batch each, to find out which half of a refused batch a
// broker refuses; an empty one is an error. Both have b's compression, the records' timestamps and no stamp. b
// remains as it is.
func (b *Batch) Split(at int) (first, second Batch, err error) {
	var low, high Builder
	err = b.Records(func(i int, r Record) bool {
		if i < at {
			low.Append(&r)
		} else {
			high.Append(&r)
		}
		return true
	})
	if err != nil {
		return Batch{}, Batch{}, err
	}
	if first, err = low.Seal(b.compression); err != nil {
		return Batch{}, Batch{}, err
	}
	if second, err = high.Seal(b.compression); err != nil {
		return Batch{}, Batch{}, err
	}
	return first, second, nil
}
