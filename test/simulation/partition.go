package simulation

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"
	"time"
)

// Error codes that the model answers with (Kafka protocol guide, "Error Codes").
const (
	none                   int16 = 0
	offsetOutOfRange       int16 = 1
	unknownTopic           int16 = 3
	notLeader              int16 = 6
	requestTimedOut        int16 = 7
	coordinatorLoading     int16 = 14
	coordinatorAway        int16 = 15
	notCoordinator         int16 = 16
	notEnoughReplicas      int16 = 19
	notEnoughReplicasAfter int16 = 20
	outOfOrderSequence     int16 = 45
	invalidProducerEpoch   int16 = 47
	invalidTxnState        int16 = 48
	invalidProducerMapping int16 = 49
	concurrentTransactions int16 = 51
	operationNotAttempted  int16 = 55
	invalidRecord          int16 = 87
	producerFenced         int16 = 90
	corruptMessage         int16 = 2
	topicForbidden         int16 = 29
	leaderNotAvailable     int16 = 5
	topicAlreadyExists     int16 = 36
	noSequence             int32 = -1
	noEpoch                int16 = -1
	batchesRemembered            = 5
)

// batch is a record batch as a partition's log holds it.
type batch struct {
	offset   int64
	count    int32
	control  bool
	producer int64
	epoch    int16
	seq      int32 // of its first record
	stamp    int64 // largest timestamp of its records, in ms
	wire     []byte
}

// Places in a record batch (Kafka documentation, "Record Batch").
const (
	offsetAt, lengthAt, magicAt, crcAt, attributesAt, lastDeltaAt, baseStampAt, maxStampAt = 0, 8, 16, 17, 21, 23, 27, 35
	producerAt, epochAt, seqAt, countAt, recordsAt                                         = 43, 51, 53, 57, 61

	controlBit = 0x20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// readBatch takes a batch off the wire; ok is false for one that is damaged.
func readBatch(wire []byte) (b batch, ok bool) {
	be := binary.BigEndian
	if len(wire) < recordsAt || int(be.Uint32(wire[lengthAt:])) != len(wire)-lengthAt-4 || wire[magicAt] != 2 ||
		be.Uint32(wire[crcAt:]) != crc32.Checksum(wire[attributesAt:], castagnoli) {
		return batch{}, false
	}
	return batch{
		count: int32(be.Uint32(wire[countAt:])), control: be.Uint16(wire[attributesAt:])&controlBit != 0,
		producer: int64(be.Uint64(wire[producerAt:])), epoch: int16(be.Uint16(wire[epochAt:])), seq: int32(be.Uint32(wire[seqAt:])),
		stamp: int64(be.Uint64(wire[maxStampAt:])), wire: slices.Clone(wire),
	}, true
}

// encodeBatch makes a record batch; records are their bytes behind the length.
func encodeBatch(attributes uint16, producer int64, epoch int16, seq int32, stamp int64, records ...[]byte) []byte {
	be := binary.BigEndian
	wire := make([]byte, recordsAt)
	for _, r := range records {
		wire = append(binary.AppendVarint(wire, int64(len(r))), r...)
	}
	be.PutUint32(wire[lengthAt:], uint32(len(wire)-lengthAt-4))
	wire[magicAt] = 2
	be.PutUint16(wire[attributesAt:], attributes)
	be.PutUint32(wire[lastDeltaAt:], uint32(len(records)-1))
	be.PutUint64(wire[baseStampAt:], uint64(stamp))
	be.PutUint64(wire[maxStampAt:], uint64(stamp))
	be.PutUint64(wire[producerAt:], uint64(producer))
	be.PutUint16(wire[epochAt:], uint16(epoch))
	be.PutUint32(wire[seqAt:], uint32(seq))
	be.PutUint32(wire[countAt:], uint32(len(records)))
	be.PutUint32(wire[crcAt:], crc32.Checksum(wire[attributesAt:], castagnoli))
	return wire
}

// encodeRecord makes a record without headers, but for its length.
func encodeRecord(delta int64, key, value []byte) []byte {
	b := binary.AppendVarint([]byte{0, 0}, delta) // attributes, timestamp delta
	b = append(binary.AppendVarint(b, int64(len(key))), key...)
	b = append(binary.AppendVarint(b, int64(len(value))), value...)
	return append(b, 0)
}

// marker is the control batch that ends an aborted transaction.
func marker(producer int64, epoch int16, now time.Time) batch {
	const transactional = 0x10
	abort := encodeRecord(0, []byte{0, 0, 0, 0}, make([]byte, 6)) // version and type; version and coordinator's epoch
	b, _ := readBatch(encodeBatch(transactional|controlBit, producer, epoch, noSequence, now.UnixMilli(), abort))
	return b
}

// partition is a partition's log, and what its leader knows of producers. All replicas have all of it: acks=all.
type partition struct {
	topic     string
	id        int32
	leader    int32 // -1: none just now
	epoch     int32 // of the leader
	batches   []batch
	start     int64 // of the log: what was below has been removed
	end       int64
	producers map[int64]*producer
}

// producer is what a leader remembers of a producer id (ProducerStateEntry).
type producer struct {
	epoch int16
	last  []batch // the last five at most, oldest first, without their records
	stamp int64   // of the last batch or marker, by its own clock
}

// append takes a batch of a client. (ProducerAppendInfo and ProducerStateManager in Kafka's storage module.)
func (p *partition) append(b batch, now time.Time, expiration time.Duration) (code int16, offset int64) {
	if b.producer < 0 {
		return none, p.write(b)
	}
	known := p.remembered(b.producer, now, expiration)
	if known == nil {
		known = &producer{epoch: noEpoch} // no memory: whatever comes first is taken
	}
	last := b.seq + b.count - 1
	if b.epoch == known.epoch && !plantedIn(repeatsAppended) {
		for _, o := range known.last {
			if o.seq == b.seq && o.seq+o.count-1 == last {
				return none, o.offset // a repeat
			}
		}
	}
	switch {
	case b.epoch < known.epoch && !plantedIn(epochsIgnored):
		return invalidProducerEpoch, -1
	case b.epoch != known.epoch && known.epoch != noEpoch && b.seq != 0:
		return outOfOrderSequence, -1
	case b.epoch == known.epoch && b.seq != known.next() && !plantedIn(sequencesIgnored) && !plantedIn(repeatsAppended):
		return outOfOrderSequence, -1
	}
	if b.epoch != known.epoch {
		known = &producer{epoch: b.epoch}
	}
	p.producers[b.producer] = known
	offset = p.write(b)
	b.offset, b.wire, known.stamp = offset, nil, b.stamp
	if known.last = append(known.last, b); len(known.last) > batchesRemembered && !plantedIn(memoryWithoutEnd) {
		known.last = known.last[1:]
	}
	return none, offset
}

// next is the sequence number that has to come: 0 where the epoch has begun with a marker.
func (p *producer) next() int32 {
	if len(p.last) == 0 {
		return 0
	}
	b := p.last[len(p.last)-1]
	return int32((int64(b.seq) + int64(b.count)) & math.MaxInt32)
}

// remembered forgets a producer whose last batch or marker is stamped too long ago.
func (p *partition) remembered(id int64, now time.Time, expiration time.Duration) *producer {
	known := p.producers[id]
	if known != nil && now.UnixMilli()-known.stamp >= expiration.Milliseconds() && !plantedIn(memoryWithoutAge) {
		delete(p.producers, id)
		return nil
	}
	return known
}

// mark writes the marker of an aborted transaction, which raises the producer's epoch.
func (p *partition) mark(id int64, epoch int16, now time.Time) bool {
	known := p.producers[id]
	if known != nil && known.epoch > epoch {
		return false
	}
	if known == nil || known.epoch < epoch && !plantedIn(markersAsData) {
		known = &producer{epoch: epoch}
	}
	known.epoch = epoch
	known.stamp = now.UnixMilli()
	if !plantedIn(markersPowerless) {
		p.producers[id] = known
	}
	p.write(marker(id, epoch, now))
	return true
}

func (p *partition) write(b batch) int64 {
	b.offset = p.end
	binary.BigEndian.PutUint64(b.wire[offsetAt:], uint64(b.offset))
	p.batches = append(p.batches, b)
	p.end += int64(b.count)
	return b.offset
}

// restart is what a restart of the leader's process leaves of its memory: the last batch of each producer.
func (p *partition) restart() {
	for _, known := range p.producers {
		if n := len(known.last); n > 0 {
			known.last = known.last[n-1:]
		}
	}
}

// read gives the batches from the one that holds offset on, up to so many bytes and at least one.
func (p *partition) read(offset int64, bytes int) (code int16, records []byte) {
	if offset < p.start || offset > p.end {
		return offsetOutOfRange, nil
	}
	from, _ := slices.BinarySearchFunc(p.batches, offset, func(b batch, offset int64) int {
		if b.offset+int64(b.count) <= offset {
			return -1
		}
		return 1
	})
	for _, b := range p.batches[from:] {
		if len(records) > 0 && len(records)+len(b.wire) > bytes {
			break
		}
		records = append(records, b.wire...)
	}
	return none, records
}

// remove takes the batches away that lie below an offset.
func (p *partition) remove(below int64) {
	i := slices.IndexFunc(p.batches, func(b batch) bool { return b.offset+int64(b.count) > below })
	if i < 0 {
		i = len(p.batches)
	}
	p.batches, p.start = p.batches[i:], max(p.start, min(below, p.end))
}

// clear removes all records, as retention or DeleteRecords does.
func (p *partition) clear() { p.batches, p.start = nil, p.end }
