package sink

import "math/bits"

// buffers keeps the memory of acked batches for the next ones, by size class: powers of two from smallestBuffer up.
// What is in use is counted, and that count is what max_in_flight_bytes bounds. Guarded by Kafka.mu.
type buffers struct {
	inUse int64
	kept  int64
	free  [bufferClasses][][]byte
}

const (
	smallestBufferBits = 12 // 4 KiB: a few rows, so that a thousand quiet partitions cost little
	smallestBuffer     = 1 << smallestBufferBits
	bufferClasses      = 10 // up to 2 MiB; larger ones are left to the garbage collector
	// maxKept bounds the idle memory that is held back from the garbage collector.
	maxKept = 8 << 20
)

// classOf is the smallest class whose buffers hold n bytes.
func classOf(n int) int {
	if n <= smallestBuffer {
		return 0
	}
	return bits.Len(uint(n-1)) - smallestBufferBits
}

// sizeFor is the capacity that get(n) will give.
func sizeFor(n int) int {
	if c := classOf(n); c < bufferClasses {
		return smallestBuffer << c
	}
	return n
}

func (b *buffers) get(n int) []byte {
	size := sizeFor(n)
	b.inUse += int64(size)
	if c := classOf(n); c < bufferClasses {
		if last := len(b.free[c]) - 1; last >= 0 {
			buf := b.free[c][last]
			b.free[c][last] = nil
			b.free[c] = b.free[c][:last]
			b.kept -= int64(size)
			return buf
		}
	}
	return make([]byte, 0, size)
}

func (b *buffers) put(buf []byte) {
	size := cap(buf)
	b.inUse -= int64(size)
	c := classOf(size)
	if size == 0 || c >= bufferClasses || size != smallestBuffer<<c || b.kept+int64(size) > maxKept {
		return
	}
	b.kept += int64(size)
	b.free[c] = append(b.free[c], buf[:0])
}
