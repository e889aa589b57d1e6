package cdc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// frame makes a message as the server sends it.
func frame(typ byte, body string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{typ}, uint32(4+len(body)))
	return append(b, body...)
}

// cut reads everything that f has to give, up to the error.
func cut(f *frames) (got []string, err error) {
	for {
		if err := f.fill(); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			return got, err
		}
		for {
			typ, body, ok := f.next()
			if !ok {
				break
			}
			got = append(got, string(typ)+string(body))
		}
	}
}

// sameFrames compares without printing megabytes.
func sameFrames(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d frames, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("frame %d: %d bytes beginning %.20q, want %d bytes beginning %.20q", i, len(got[i]), got[i], len(want[i]), want[i])
		}
	}
}

func TestFramesAreTheSameWhereverTheStreamIsSplit(t *testing.T) {
	want := []string{"d", "dw", "Nnotice", "d" + strings.Repeat("x", 40), "S", "c"}
	var stream []byte
	for _, w := range want {
		stream = append(stream, frame(w[0], w[1:])...)
	}
	for at := range len(stream) + 1 {
		f := frames{src: io.MultiReader(bytes.NewReader(stream[:at]), bytes.NewReader(stream[at:]))}
		got, err := cut(&f)
		if !errors.Is(err, io.EOF) {
			t.Fatalf("split at %d: %v", at, err)
		}
		sameFrames(t, got, want)
	}
	got, _ := cut(&frames{src: iotest.OneByteReader(bytes.NewReader(stream))})
	sameFrames(t, got, want)
}

// chunks gives a stream in pieces of random sizes, with a passed deadline now and then, sometimes together with data.
type chunks struct {
	stream []byte
	rnd    *rand.Rand
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.stream) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.stream[:min(len(c.stream), c.rnd.IntN(1<<c.rnd.IntN(20)+1))])
	c.stream = c.stream[n:]
	if n == 0 || c.rnd.IntN(8) == 0 {
		return n, os.ErrDeadlineExceeded
	}
	return n, nil
}

func TestFramesOfAnySizeSurviveAnyChunksAndDeadlines(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			var stream []byte
			var want []string
			for range 200 {
				body := strings.Repeat(string(rune('a'+rnd.IntN(26))), rnd.IntN(1<<rnd.IntN(20)))
				want = append(want, "d"+body)
				stream = append(stream, frame('d', body)...)
			}
			got, err := cut(&frames{src: &chunks{stream, rnd}})
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			sameFrames(t, got, want)
		})
	}
}

func TestImpossibleLengthIsAnError(t *testing.T) {
	for _, length := range []uint32{0, 3, maxBody + 5, 1 << 31, 1<<32 - 1} {
		f := frames{src: bytes.NewReader(binary.BigEndian.AppendUint32([]byte("dxxx")[:1:1], length))}
		if _, _, ok := f.next(); ok {
			t.Errorf("length %d: a frame before anything was read", length)
		}
		err := f.fill()
		if err == nil || !strings.Contains(err.Error(), "out of step") {
			t.Errorf("length %d: %v", length, err)
		}
		if _, _, ok := f.next(); ok {
			t.Errorf("length %d: cut a frame", length)
		}
	}
}

// A length is a claim: 1 GiB may be announced, and nothing follow.
func TestBufferGrowsWithTheBytesNotWithTheClaim(t *testing.T) {
	claim := binary.BigEndian.AppendUint32([]byte{'d'}, maxBody+4)
	f := frames{src: io.MultiReader(bytes.NewReader(claim), bytes.NewReader(make([]byte, 3*blockSize)))}
	if err := f.fill(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if len(f.buf) > 8*blockSize {
		t.Errorf("%d bytes allocated for %d received", len(f.buf), 3*blockSize)
	}
}

func TestBufferIsGivenBackAfterAGiantFrame(t *testing.T) {
	giant := frame('d', strings.Repeat("x", 5<<20))
	f := frames{src: io.MultiReader(bytes.NewReader(giant), bytes.NewReader(frame('d', "small")))}
	got, _ := cut(&f)
	sameFrames(t, got, []string{"d" + strings.Repeat("x", 5<<20), "dsmall"})
	if len(f.buf) != blockSize {
		t.Errorf("the buffer kept %d bytes", len(f.buf))
	}
}

// endless repeats one piece of a stream.
type endless struct {
	piece []byte
	at    int
}

func (e *endless) Read(p []byte) (n int, err error) {
	for n < len(p) {
		c := copy(p[n:], e.piece[e.at:])
		e.at = (e.at + c) % len(e.piece)
		n += c
	}
	return n, nil
}

func TestFramesAllocateNothing(t *testing.T) {
	f := frames{src: &endless{piece: frame('d', "w"+strings.Repeat("r", 331))}}
	rows := 0
	if n := testing.AllocsPerRun(100, func() {
		if err := f.fill(); err != nil {
			t.Fatal(err)
		}
		for {
			_, body, ok := f.next()
			if !ok {
				break
			}
			if _, ok := parseWALData(body); ok {
				rows++
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations per block", n)
	}
	if rows < 100*blockSize/400 {
		t.Errorf("only %d rows", rows)
	}
}

func BenchmarkFrames(b *testing.B) {
	f := frames{src: &endless{piece: frame('d', "w"+strings.Repeat("r", 331))}}
	b.ReportAllocs()
	b.SetBytes(337)
	for rows := 0; rows < b.N; {
		if err := f.fill(); err != nil {
			b.Fatal(err)
		}
		for {
			_, body, ok := f.next()
			if !ok {
				break
			}
			if _, ok := parseWALData(body); !ok {
				b.Fatal("not a row")
			}
			rows++
		}
	}
}

func TestCopyDataIsParsedInPlace(t *testing.T) {
	number := func(n uint64) string { return string(binary.BigEndian.AppendUint64(nil, n)) }
	row := "w" + number(0x16_0000_0001) + number(0x16_0000_0100) + number(7) + "Idata"
	alive := "k" + number(0x16_0000_0200) + number(8)
	m, ok := parseWALData([]byte(row))
	if !ok || m.start != 0x16_0000_0001 || m.serverEnd != 0x16_0000_0100 || m.sentAt != 7 || string(m.data) != "Idata" {
		t.Errorf("%+v %v", m, ok)
	}
	for reply, want := range map[string]bool{"\x00": false, "\x01": true} {
		k, ok := parseKeepalive([]byte(alive + reply))
		if !ok || k.serverEnd != 0x16_0000_0200 || k.sentAt != 8 || k.replyRequested != want {
			t.Errorf("%+v %v", k, ok)
		}
	}
	for n := range 25 {
		if _, ok := parseWALData([]byte(row[:n])); ok {
			t.Errorf("WAL data of %d bytes", n)
		}
	}
	for n := range len(alive) + 1 {
		if _, ok := parseKeepalive([]byte(alive[:n])); ok {
			t.Errorf("keepalive of %d bytes", n)
		}
	}
	if _, ok := parseWALData([]byte(alive + strings.Repeat("\x00", 20))); ok {
		t.Error("a keepalive taken for WAL data")
	}
	if _, ok := parseKeepalive([]byte(row)); ok {
		t.Error("WAL data taken for a keepalive")
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(append(frame('d', "k12345678123456781"), frame('E', "SFATAL\x00C57P01\x00Mbye\x00\x00")...), byte(3))
	f.Add([]byte("d\x00\x00\x00\x03"), byte(1))
	f.Add([]byte("d\x7f\xff\xff\xff"), byte(1))
	f.Fuzz(func(t *testing.T, stream []byte, size byte) {
		r := frames{src: &chunks{bytes.Clone(stream), rand.New(rand.NewPCG(uint64(size), 0))}}
		rest := stream
		for {
			err := r.fill()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			if err != nil {
				break
			}
			for {
				typ, body, ok := r.next()
				if !ok {
					break
				}
				// Whatever is cut is what stands next in the stream.
				if want := frame(typ, string(body)); !bytes.HasPrefix(rest, want) {
					t.Fatalf("cut %q out of %q", want, rest)
				}
				rest = rest[frameHeader+len(body):]
				parseWALData(body)
				parseKeepalive(body)
				if parseServerError(body) == nil {
					t.Fatal("no error")
				}
			}
		}
		if len(r.buf) > blockSize && len(r.buf) > 2*len(stream) {
			t.Fatalf("%d bytes of buffer for %d of stream", len(r.buf), len(stream))
		}
	})
}
