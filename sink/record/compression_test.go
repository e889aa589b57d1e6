package record

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestCompressionNamesParse(t *testing.T) {
	for i, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		c, err := ParseCompression(name)
		if err != nil || int(c) != i || c.String() != name {
			t.Errorf("%q parses to %d, named %q, error %v", name, int(c), c, err)
		}
	}
	for _, name := range []string{"", "LZ4", "brotli"} {
		if _, err := ParseCompression(name); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
	if got := Compression(9).String(); got != "compression 9" {
		t.Errorf("an unknown compression is called %q", got)
	}
}

// What Kafka's Java readers insist on, beyond what the decoders of the other tests do.
func TestFramesAreThoseThatJavaReads(t *testing.T) {
	const text = "a row that compresses well; "
	src := bytes.Repeat([]byte(text), 2*zstdWindow/len(text))
	e := new(encoder)

	packed, err := e.encode(LZ4, src)
	if err != nil {
		t.Fatal(err)
	}
	// Magic; version 1 with independent blocks, no checksums, no content size; 64 KiB blocks; header checksum.
	if want := []byte("\x04\x22\x4d\x18\x60\x40\x82"); !bytes.HasPrefix(packed, want) {
		t.Errorf("lz4 frame begins % x, want % x", packed[:7], want)
	}

	packed, err = e.encode(Snappy, src)
	if err != nil {
		t.Fatal(err)
	}
	blocks, ok := bytes.CutPrefix(packed, []byte("\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01"))
	if !ok {
		t.Fatalf("snappy stream begins % x", packed[:16])
	}
	for len(blocks) > 0 {
		n := 4 + int(binary.BigEndian.Uint32(blocks))
		if length, _ := binary.Uvarint(blocks[4:]); length > 32<<10 {
			t.Errorf("snappy block of %d bytes", length)
		}
		blocks = blocks[n:]
	}

	packed, err = e.encode(Zstd, src)
	if err != nil {
		t.Fatal(err)
	}
	var h zstd.Header
	// A single segment is a window as large as all of src.
	if err := h.Decode(packed); err != nil || h.HasCheckSum || h.SingleSegment || h.WindowSize > zstdWindow {
		t.Errorf("zstd frame: %+v, error %v", h, err)
	}
}

func TestDecompressKeepsToItsLimit(t *testing.T) {
	src := bytes.Repeat([]byte("0123456789"), 10_000)
	e := new(encoder)
	for _, c := range compressions[1:] {
		packed, err := e.encode(c, src)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 1, len(src) - 1} {
			if _, err := decompress(c, packed, size); err == nil {
				t.Errorf("%s: %d bytes decompressed to %d", c, len(src), size)
			}
		}
		if _, err := decompress(c, packed[:len(packed)/2], len(src)); err == nil {
			t.Errorf("%s: half a stream was accepted", c)
		}
		if got, err := decompress(c, packed, len(src)); err != nil || !bytes.Equal(got, src) {
			t.Errorf("%s: %d bytes, error %v", c, len(got), err)
		}
	}
}

func TestHugeBatchLeavesNoScratchBehind(t *testing.T) {
	e := new(encoder)
	if _, err := e.encode(LZ4, make([]byte, maxScratch+1)); err != nil {
		t.Fatal(err)
	}
	e.free()
	for range 100 {
		if got := encoders.Get().(*encoder); got == e {
			t.Fatalf("an encoder with %d bytes was kept", e.out.Cap())
		}
	}
}
