package record

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var compressions = []Compression{None, Gzip, Snappy, LZ4, Zstd}

// sealed builds a batch and fails the test where Size or Len are not exact.
func sealed(t testing.TB, c Compression, records []Record) Batch {
	t.Helper()
	var b Builder
	for i := range records {
		want := b.Len() + b.Size(&records[i])
		b.Append(&records[i])
		if b.Len() != want {
			t.Fatalf("record %d: Len is %d, Size foretold %d", i, b.Len(), want)
		}
	}
	plain := b.Len()
	batch, err := b.Seal(c)
	if err != nil {
		t.Fatal(err)
	}
	if batch.Len() > plain {
		t.Fatalf("%s made %d bytes of %d", c, batch.Len(), plain)
	}
	if b.Count() != 0 || b.Len() != Overhead || b.Cap() != 0 {
		t.Fatalf("sealed builder still holds %d records, %d of %d bytes", b.Count(), b.Len(), b.Cap())
	}
	return batch
}

// viaFranz decodes a batch as franz-go's consumer would.
func viaFranz(t testing.TB, wire []byte) (kmsg.RecordBatch, []Record) {
	t.Helper()
	if size := int(binary.BigEndian.Uint32(wire)); size != len(wire)-4 {
		t.Fatalf("size prefix is %d, %d bytes follow", size, len(wire)-4)
	}
	var rb kmsg.RecordBatch
	if err := rb.ReadFrom(wire[4:]); err != nil {
		t.Fatal(err)
	}
	if sum := crc32.Checksum(wire[4+21:], crc32.MakeTable(crc32.Castagnoli)); uint32(rb.CRC) != sum {
		t.Fatalf("CRC is %08x, want %08x", uint32(rb.CRC), sum)
	}
	section := rb.Records
	if codec := rb.Attributes & 7; codec != 0 {
		var err error
		section, err = kgo.DefaultDecompressor().Decompress(section, kgo.CompressionCodecType(codec))
		if err != nil {
			t.Fatal(err)
		}
	}
	records := make([]Record, rb.NumRecords)
	for i := range records {
		body, n := binary.Varint(section)
		if n <= 0 || body > int64(len(section)-n) {
			t.Fatalf("record %d: length %d with %d bytes left", i, body, len(section))
		}
		var r kmsg.Record
		if err := r.ReadFrom(section[:n+int(body)]); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
		if r.OffsetDelta != int32(i) {
			t.Fatalf("record %d: offset delta %d", i, r.OffsetDelta)
		}
		records[i] = Record{Timestamp: rb.FirstTimestamp + r.TimestampDelta64, Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			records[i].Headers = append(records[i].Headers, Header{Key: []byte(h.Key), Value: h.Value})
		}
		section = section[n+int(body):]
	}
	if len(section) != 0 {
		t.Fatalf("%d bytes behind the last record", len(section))
	}
	return rb, records
}

// viaKafkaGo decodes a batch as kafka-go's fetch would; it checks the CRC itself.
func viaKafkaGo(t testing.TB, wire []byte) []Record {
	t.Helper()
	var set protocol.RecordSet
	if _, err := set.ReadFrom(bufio.NewReader(bytes.NewReader(wire))); err != nil {
		t.Fatal(err)
	}
	var records []Record
	for {
		r, err := set.Records.ReadRecord()
		if err != nil {
			return records // io.EOF; whatever else it is, the records are then too few
		}
		key, err := protocol.ReadAll(r.Key)
		if err != nil {
			t.Fatal(err)
		}
		value, err := protocol.ReadAll(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		record := Record{Timestamp: r.Time.UnixMilli(), Key: key, Value: value}
		for _, h := range r.Headers {
			record.Headers = append(record.Headers, Header{Key: []byte(h.Key), Value: h.Value})
		}
		records = append(records, record)
	}
}

// viaRecords decodes a batch with Batch.Records.
func viaRecords(t testing.TB, b *Batch) []Record {
	t.Helper()
	var records []Record
	err := b.Records(func(i int, r Record) bool {
		if i != len(records) {
			t.Fatalf("index %d after %d records", i, len(records))
		}
		r.Headers = slices.Clone(r.Headers)
		records = append(records, r)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// same fails the test where the records differ; null and empty are not the same.
func same(t testing.TB, decoder string, got, want []Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d records, want %d", decoder, len(got), len(want))
	}
	equal := func(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }
	for i, g := range got {
		w := want[i]
		if g.Timestamp != w.Timestamp {
			t.Fatalf("%s: record %d: timestamp %d, want %d", decoder, i, g.Timestamp, w.Timestamp)
		}
		if !equal(g.Key, w.Key) || !equal(g.Value, w.Value) {
			t.Fatalf("%s: record %d: key %.40q value %.40q, want %.40q and %.40q", decoder, i, g.Key, g.Value, w.Key, w.Value)
		}
		if len(g.Headers) != len(w.Headers) {
			t.Fatalf("%s: record %d: %d headers, want %d", decoder, i, len(g.Headers), len(w.Headers))
		}
		for j, h := range g.Headers {
			if !bytes.Equal(h.Key, w.Headers[j].Key) || !equal(h.Value, w.Headers[j].Value) {
				t.Fatalf("%s: record %d: header %d is %.40q, want %.40q", decoder, i, j, h, w.Headers[j])
			}
		}
	}
}

// randomRecords is up to 200 records of every shape, with a few large values among them.
func randomRecords(r *rand.Rand) []Record {
	records := make([]Record, 1+r.IntN(200))
	base := 1_700_000_000_000 + r.Int64N(1e10)
	for i := range records {
		records[i] = Record{
			Timestamp: base + r.Int64N(1<<(1+r.UintN(45))) - r.Int64N(1<<(1+r.UintN(40))),
			Key:       randomBytes(r, 40),
			Value:     randomBytes(r, 1+r.IntN(600)),
		}
		for range r.IntN(11) {
			h := Header{Key: randomBytes(r, 20), Value: randomBytes(r, 150)}
			records[i].Headers = append(records[i].Headers, h)
		}
	}
	if r.IntN(8) == 0 {
		records[r.IntN(len(records))].Value = randomBytes(r, 2<<20)
	}
	return records
}

// randomBytes is null, empty, or up to limit bytes of text that compresses or of noise that does not.
func randomBytes(r *rand.Rand, limit int) []byte {
	switch r.IntN(8) {
	case 0:
		return nil
	case 1:
		return []byte{}
	}
	field := make([]byte, r.IntN(limit+1))
	if r.IntN(2) == 0 {
		for i := range field {
			field[i] = byte(r.Uint32())
		}
		return field
	}
	for i := range field {
		field[i] = `{"order":12,"state":"paid"}`[i%27]
	}
	return field
}

func TestEveryDecoderReadsWhatWasAppended(t *testing.T) {
	for _, c := range compressions {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel() // so that the encoders are shared
			for seed := range uint64(40) {
				r := rand.New(rand.NewPCG(seed, 1))
				want := randomRecords(r)
				batch := sealed(t, c, want)
				batch.Stamp(int64(seed)<<40, int16(seed), int32(seed)<<20)

				rb, got := viaFranz(t, batch.Wire())
				same(t, "franz-go", got, want)
				same(t, "kafka-go", viaKafkaGo(t, batch.Wire()), want)
				same(t, "Records", viaRecords(t, &batch), want)

				latest := slices.MaxFunc(want, func(a, b Record) int { return int(a.Timestamp - b.Timestamp) }).Timestamp
				if rb.MaxTimestamp != latest || batch.MaxTimestamp() != latest {
					t.Fatalf("seed %d: max timestamp %d on the wire, %d in the batch, want %d", seed, rb.MaxTimestamp, batch.MaxTimestamp(), latest)
				}
				if rb.FirstTimestamp != want[0].Timestamp || batch.BaseTimestamp() != want[0].Timestamp {
					t.Fatalf("seed %d: base timestamp %d on the wire, %d in the batch, want %d", seed, rb.FirstTimestamp, batch.BaseTimestamp(), want[0].Timestamp)
				}
				if int(rb.LastOffsetDelta) != len(want)-1 || batch.Count() != len(want) {
					t.Fatalf("seed %d: last offset delta %d, count %d, want %d records", seed, rb.LastOffsetDelta, batch.Count(), len(want))
				}
			}
		})
	}
}

func TestBatchIsByteForByteAsSpecified(t *testing.T) {
	want := readHex(t, "testdata/batch.hex")
	batch := sealed(t, None, []Record{
		{
			Timestamp: 1_700_000_000_000,
			Key:       []byte("k1"),
			Value:     []byte(`{"a":1}`),
			Headers:   []Header{{Key: []byte("id"), Value: []byte("7")}},
		},
		{
			Timestamp: 1_699_999_999_995,
			Headers:   []Header{{Key: []byte("n")}},
		},
	})
	batch.Stamp(4242, 7, 1000)
	if !bytes.Equal(batch.Wire(), want) {
		t.Errorf("batch is\n%swant\n%s", hex.Dump(batch.Wire()), hex.Dump(want))
	}
}

// readHex reads a file of hex digits in which # begins a comment.
func readHex(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	bytes, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return bytes
}

func TestTimestampExtremesSurvive(t *testing.T) {
	want := []Record{{Timestamp: 1 << 62}, {Timestamp: -1 << 63}, {Timestamp: 1<<63 - 1}, {Timestamp: 0}}
	batch := sealed(t, None, want)
	batch.Stamp(-1, -1, -1)
	_, got := viaFranz(t, batch.Wire())
	same(t, "franz-go", got, want)
	same(t, "Records", viaRecords(t, &batch), want)
	if batch.MaxTimestamp() != 1<<63-1 {
		t.Errorf("max timestamp %d", batch.MaxTimestamp())
	}
}

func TestIncompressibleBatchIsSentPlain(t *testing.T) {
	noise := make([]byte, 100_000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for _, c := range compressions {
		batch := sealed(t, c, []Record{{Value: noise}})
		batch.Stamp(1, 0, 0)
		rb, got := viaFranz(t, batch.Wire())
		if rb.Attributes != 0 {
			t.Errorf("%s: attributes %#x", c, rb.Attributes)
		}
		same(t, c.String(), got, []Record{{Value: noise}})
	}
}

func TestBatchMemoryIsUsedAgain(t *testing.T) {
	var b Builder
	r := Record{Value: bytes.Repeat([]byte("v"), 100)}
	b.Reset(make([]byte, 500, 1000))
	first := append([]Record{}, r, r, r)
	for _, c := range compressions {
		for i := range first {
			b.Append(&first[i])
		}
		if b.Cap() != 1000 {
			t.Fatalf("%s: capacity %d, want the 1000 that Reset was given", c, b.Cap())
		}
		batch, err := b.Seal(c)
		if err != nil {
			t.Fatal(err)
		}
		batch.Stamp(1, 2, 3)
		_, got := viaFranz(t, batch.Wire())
		same(t, c.String(), got, first)
		b.Reset(batch.Wire())
	}
}

func TestSealErrorLeavesBuilderAsItWas(t *testing.T) {
	var b Builder
	if _, err := b.Seal(None); err == nil {
		t.Error("an empty batch was sealed")
	}
	want := []Record{{Timestamp: 5, Key: []byte("k"), Value: []byte("v")}}
	b.Append(&want[0])
	if _, err := b.Seal(Zstd + 1); err == nil {
		t.Error("an unknown compression was accepted")
	}
	batch, err := b.Seal(None)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "Records", viaRecords(t, &batch), want)
}

// row is what a typical outbox row becomes.
func row() Record {
	return Record{
		Timestamp: 1_700_000_000_000,
		Key:       []byte("order-1234567"),
		Value:     bytes.Repeat([]byte(`{"order": 1234567, "state": "paid"}`), 9)[:300],
		Headers: []Header{
			{Key: []byte("id"), Value: []byte("01890a5d-ac96-774b-bcce-b302099a8057")},
			{Key: []byte("event_type"), Value: []byte("order-paid")},
			{Key: []byte("outrider-position"), Value: []byte("1/0000000001A2B3C8/42")},
		},
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	var b Builder
	buf := make([]byte, 1<<20)
	r := row()
	allocs := testing.AllocsPerRun(100, func() {
		b.Reset(buf)
		for b.Len()+b.Size(&r) <= b.Cap() {
			b.Append(&r)
			r.Timestamp++
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for a batch of %d records", allocs, b.Count())
	}
}

func BenchmarkAppend(b *testing.B) {
	var builder Builder
	builder.Reset(make([]byte, 1<<20))
	r := row()
	b.SetBytes(int64(builder.Size(&r)))
	b.ReportAllocs()
	for b.Loop() {
		if builder.Len()+builder.Size(&r) > builder.Cap() {
			builder.Reset(builder.buf)
		}
		builder.Append(&r)
	}
}

func BenchmarkSeal(b *testing.B) {
	// Rows that differ as rows do: the same one 2,000 times would compress to nothing.
	r, noise := row(), rand.New(rand.NewPCG(1, 2))
	var full Builder
	full.Reset(make([]byte, 1<<20))
	for full.Len()+full.Size(&r) <= full.Cap() {
		full.Append(&r)
		for range 40 {
			r.Value[noise.IntN(len(r.Value))] = "0123456789abcdef"[noise.IntN(16)]
		}
	}
	for _, c := range compressions {
		b.Run(c.String(), func(b *testing.B) {
			buf := make([]byte, full.Len())
			var size int
			b.SetBytes(int64(full.Len()))
			b.ReportAllocs()
			for b.Loop() {
				builder := full
				builder.buf = append(buf[:0], full.buf...)
				batch, err := builder.Seal(c)
				if err != nil {
					b.Fatal(err)
				}
				batch.Stamp(1, 2, 3)
				size = batch.Len()
			}
			b.ReportMetric(float64(full.Len())/float64(size), "ratio")
		})
	}
}
