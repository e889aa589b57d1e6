package sink

import "encoding/binary"

// partitionOf is the partition that Java's default partitioner gives a keyed record:
// toPositive(murmur2(key)) % partitions. Other producers of a topic then agree with us on where a key lives.
func partitionOf(key []byte, partitions int32) int32 {
	// toPositive clears the sign bit; it is not the absolute value.
	return int32(murmur2(key)&0x7fffffff) % partitions
}

// murmur2 is MurmurHash2 in 32 bits with the seed of org.apache.kafka.common.utils.Utils.murmur2.
func murmur2(data []byte) uint32 {
	const (
		seed  = 0x9747b28c
		mix   = 0x5bd1e995
		shift = 24
	)
	h := uint32(seed) ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := binary.LittleEndian.Uint32(data) * mix
		k ^= k >> shift
		h = h*mix ^ k*mix
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(data[0])) * mix
	}
	h ^= h >> 13
	h *= mix
	return h ^ h>>15
}
