package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Compression is how the records of a batch are compressed. Its value is that of the batch's attribute bits.
type Compression int8

const (
	None Compression = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

var compressionNames = [...]string{"none", "gzip", "snappy", "lz4", "zstd"}

func (c Compression) String() string {
	if c < None || c > Zstd {
		return fmt.Sprintf("compression %d", int8(c))
	}
	return compressionNames[c]
}

// ParseCompression is the inverse of String.
func ParseCompression(name string) (Compression, error) {
	i := slices.Index(compressionNames[:], name)
	if i < 0 {
		return None, fmt.Errorf("unknown compression %q: want one of %s", name, strings.Join(compressionNames[:], ", "))
	}
	return Compression(i), nil
}

var errCompression = errors.New("no such compression")

const (
	// The default is 8 MiB, which the encoder may hold in memory and the consumer allocate. A batch is about 1 MiB.
	zstdWindow = 1 << 20
	// The block size that Java's snappy stream writes.
	xerialBlock = 32 << 10
	// A copy of at most 64 bytes takes three bytes of a snappy block at least, so no block of n bytes becomes longer
	// than this many times n.
	maxSnappyRatio = 32
	// An encoder that had to hold more than this, for one huge row, is not kept for the next batch.
	maxScratch = 4 << 20
)

// xerialHeader begins the stream of Java's snappy library, through which Kafka's Java clients and brokers read and
// write: magic, version 1, compatible since version 1. Blocks follow, each a size and a raw snappy block.
var xerialHeader = []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01")

// encoder compresses batches, one at a time. Its parts are made when first used, and used again.
type encoder struct {
	out  bytes.Buffer
	gzip *gzip.Writer
	lz4  *lz4.Writer
	zstd *zstd.Encoder
}

// encoders are shared by all Builders: there are many of these, and few seal at the same time.
var encoders = sync.Pool{New: func() any { return new(encoder) }}

func (e *encoder) free() {
	if e.out.Cap() <= maxScratch {
		encoders.Put(e)
	}
}

// encode returns src compressed, in memory that is the encoder's until its next use.
func (e *encoder) encode(c Compression, src []byte) ([]byte, error) {
	e.out.Reset()
	e.out.Grow(len(src)) // what does not fit has not become smaller and will be thrown away
	var err error
	switch c {
	case Gzip:
		err = e.encodeGzip(src)
	case Snappy:
		e.encodeSnappy(src)
	case LZ4:
		err = e.encodeLZ4(src)
	case Zstd:
		err = e.encodeZstd(src)
	default:
		err = errCompression
	}
	return e.out.Bytes(), err
}

func (e *encoder) encodeGzip(src []byte) error {
	if e.gzip == nil {
		e.gzip = gzip.NewWriter(nil)
	}
	e.gzip.Reset(&e.out)
	if _, err := e.gzip.Write(src); err != nil {
		return err
	}
	return e.gzip.Close()
}

func (e *encoder) encodeSnappy(src []byte) {
	e.out.Write(xerialHeader)
	for block := range slices.Chunk(src, xerialBlock) {
		e.out.Grow(4 + s2.MaxEncodedLen(len(block)))
		free := e.out.AvailableBuffer()
		packed := s2.EncodeSnappy(free[4:cap(free)], block)
		size := binary.BigEndian.AppendUint32(free, uint32(len(packed)))
		e.out.Write(size[:4+len(packed)]) // packed lies behind size already
	}
}

func (e *encoder) encodeLZ4(src []byte) error {
	if e.lz4 == nil {
		// 64 KiB blocks without checksums are what Java's producer writes; the batch has a checksum of its own.
		// Larger blocks would cost every reader buffers of their size.
		e.lz4 = lz4.NewWriter(nil)
		err := e.lz4.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false))
		if err != nil {
			return err
		}
	}
	e.lz4.Reset(&e.out)
	if _, err := e.lz4.Write(src); err != nil {
		return err
	}
	return e.lz4.Close()
}

func (e *encoder) encodeZstd(src []byte) error {
	if e.zstd == nil {
		// Without a checksum, as for lz4.
		zw, err := zstd.NewWriter(nil,
			zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow), zstd.WithEncoderCRC(false))
		if err != nil {
			return err
		}
		e.zstd = zw
	}
	_, err := e.out.Write(e.zstd.EncodeAll(src, e.out.AvailableBuffer()))
	return err
}

// decompress returns src decompressed, or an error where that takes more than limit bytes. It trusts no byte of src.
func decompress(c Compression, src []byte, limit int) ([]byte, error) {
	switch c {
	case None:
		return src, nil
	case Gzip:
		zr, err := gzip.NewReader(bytes.NewReader(src))
		if err != nil {
			return nil, err
		}
		return readUpTo(zr, limit)
	case Snappy:
		return decompressSnappy(src, limit)
	case LZ4:
		return readUpTo(lz4.NewReader(bytes.NewReader(src)), limit)
	case Zstd:
		return decompressZstd(src, limit)
	default:
		return nil, errCompression
	}
}

var errSize = errors.New("more comes out than went in")

func readUpTo(r io.Reader, limit int) ([]byte, error) {
	out, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err == nil && len(out) > limit {
		err = errSize
	}
	return out, err
}

// decompressSnappy reads the stream of Java's library, and a single raw block, which some clients in C send.
func decompressSnappy(src []byte, limit int) ([]byte, error) {
	blocks, ok := bytes.CutPrefix(src, xerialHeader)
	if !ok {
		return appendSnappy(nil, src, limit)
	}
	var out []byte
	for len(blocks) > 0 {
		if len(blocks) < 4 {
			return nil, io.ErrUnexpectedEOF
		}
		n := int64(binary.BigEndian.Uint32(blocks))
		if blocks = blocks[4:]; n > int64(len(blocks)) {
			return nil, io.ErrUnexpectedEOF
		}
		var err error
		if out, err = appendSnappy(out, blocks[:n], limit); err != nil {
			return nil, err
		}
		blocks = blocks[n:]
	}
	return out, nil
}

// appendSnappy looks at the length first: Decode would allocate whatever the block claims.
func appendSnappy(out, block []byte, limit int) ([]byte, error) {
	length, err := s2.DecodedLen(block)
	if err != nil {
		return nil, err
	}
	if length > limit-len(out) || length > maxSnappyRatio*len(block) {
		return nil, errSize
	}
	at := len(out)
	out = slices.Grow(out, length)[:at+length]
	if _, err := s2.Decode(out[at:], block); err != nil {
		return nil, err
	}
	return out, nil
}

func decompressZstd(src []byte, limit int) ([]byte, error) {
	// A short batch is below the window that its frame announces, and the limit is on both.
	memory := uint64(max(limit, zstdWindow))
	zr, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(memory))
	if err != nil {
		return nil, err
	}
	defer zr.Close()
	out, err := zr.DecodeAll(src, nil)
	if err == nil && len(out) > limit {
		err = errSize
	}
	return out, err
}
