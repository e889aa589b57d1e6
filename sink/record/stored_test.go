package record

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// viaStored decodes all batches of a record set with Next.
func viaStored(t testing.TB, set []byte) (batches []Stored, records []Record) {
	t.Helper()
	for {
		b, rest, ok, err := Next(set)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return batches, records
		}
		batches, set = append(batches, b), rest
		offset := b.BaseOffset
		if err := b.Records(func(at int64, r Record) bool {
			if at != offset {
				t.Fatalf("offset %d, not %d", at, offset)
			}
			offset++
			r.Headers = slices.Clone(r.Headers)
			records = append(records, r)
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// stored is a batch as it lies in a log at offset base.
func stored(t testing.TB, base int64, c Compression, records []Record) []byte {
	t.Helper()
	b := sealed(t, c, records)
	b.Stamp(7, 3, 0)
	set := slices.Clone(b.Wire()[sizePrefix:])
	binary.BigEndian.PutUint64(set, uint64(base)) // what a broker does; the checksum does not cover it
	return set
}

// sum writes the checksum anew.
func sum(set []byte) []byte {
	binary.BigEndian.PutUint32(set[crcAt-sizePrefix:], crc32.Checksum(set[attributesAt-sizePrefix:], castagnoli))
	return set
}

func TestStoredIsWhatWasAppended(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range compressions {
		first, second := randomRecords(r), append(randomRecords(r), row())
		set := append(stored(t, 100, c, first), stored(t, 100+int64(len(first)), c, second)...)
		batches, records := viaStored(t, set)
		if len(batches) != 2 || batches[1].BaseOffset != 100+int64(len(first)) || batches[1].LastOffset != 100+int64(len(first)+len(second))-1 ||
			batches[1].Count != len(second) || batches[1].ProducerID != 7 || batches[1].ProducerEpoch != 3 || batches[1].Control {
			t.Fatalf("%s: %+v", c, batches)
		}
		same(t, "Stored of "+c.String(), records, append(first, second...))
	}
}

// An answer may end anywhere: what is whole is read, and the rest is no error.
func TestSetMayEndInsideABatch(t *testing.T) {
	one := stored(t, 5, None, []Record{row(), row()})
	set := slices.Concat(one, one)
	for n := range set {
		batches, _ := viaStored(t, set[:n])
		if len(batches) != n/len(one) {
			t.Fatalf("%d batches in %d of %d bytes", len(batches), n, len(set))
		}
	}
}

// Compaction takes records out of a batch, and leaves its offsets.
func TestCompactedBatchKeepsItsOffsets(t *testing.T) {
	set := stored(t, 40, None, []Record{{Value: []byte("a")}, {Value: []byte("b")}, {Value: []byte("c")}})
	be := binary.BigEndian
	middle := []byte{14, 0, 0, 2, 1, 2, 'b', 0}
	at := bytes.Index(set, middle)
	if at < 0 {
		t.Fatalf("no such record in % x", set)
	}
	set = slices.Delete(set, at, at+len(middle))
	be.PutUint32(set[lengthAt-sizePrefix:], uint32(len(set)-lengthEnd))
	be.PutUint32(set[countAt-sizePrefix:], 2)
	b, _, ok, err := Next(sum(set))
	if !ok || err != nil || b.LastOffset != 42 || b.Count != 2 {
		t.Fatalf("%+v %v %v", b, ok, err)
	}
	var offsets []int64
	if err := b.Records(func(offset int64, _ Record) bool { offsets = append(offsets, offset); return true }); err != nil || !slices.Equal(offsets, []int64{40, 42}) {
		t.Errorf("offsets %v, %v", offsets, err)
	}
}

func TestNextRefusesWhatIsNoBatch(t *testing.T) {
	for name, tc := range map[string]struct {
		mend func(set []byte)
		want string
	}{
		"format 1":            {func(set []byte) { set[magicAt-sizePrefix] = 1 }, "before version 2"},
		"format 3":            {func(set []byte) { set[magicAt-sizePrefix] = 3 }, "unknown format 3"},
		"a length of nothing": {func(set []byte) { binary.BigEndian.PutUint32(set[lengthAt-sizePrefix:], 48) }, "less than its header"},
		"a flipped bit":       {func(set []byte) { set[len(set)-1] ^= 1 }, "checksum"},
		"a flipped count":     {func(set []byte) { set[countAt-sizePrefix] ^= 1 }, "checksum"},
		"offsets backwards":   {func(set []byte) { set[lastOffsetDeltaAt-sizePrefix] = 0xff; sum(set) }, "offsets 5 to"},
		"a negative count":    {func(set []byte) { set[countAt-sizePrefix] = 0xff; sum(set) }, "records with the offsets"},
		"a negative offset":   {func(set []byte) { set[0] = 0xff }, "records with the offsets"},
	} {
		set := stored(t, 5, None, []Record{row(), row()})
		tc.mend(set)
		if _, _, ok, err := Next(set); ok || err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v %v, want %q", name, ok, err, tc.want)
		}
	}
}

func TestStoredRefusesRecordsOutOfPlace(t *testing.T) {
	for name, mend := range map[string]func(b *Stored){
		"beyond the last offset": func(b *Stored) { b.LastOffset = b.BaseOffset },
		"too few":                func(b *Stored) { b.Count++ },
		"too many":               func(b *Stored) { b.Count-- },
	} {
		b, _, _, err := Next(stored(t, 5, None, []Record{row(), row()}))
		if err != nil {
			t.Fatal(err)
		}
		mend(&b)
		if err := b.Records(func(int64, Record) bool { return true }); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A broker whose topic has a compression of its own compresses anew, and other clients have other writers.
func TestStoredReadsWhatOthersCompress(t *testing.T) {
	records := []Record{row(), row(), row()}
	plain := sealed(t, None, records)
	for _, codec := range []struct {
		name string
		kgo  kgo.CompressionCodec
		bits Compression
	}{{"gzip", kgo.GzipCompression(), Gzip}, {"snappy", kgo.SnappyCompression(), Snappy}, {"lz4", kgo.Lz4Compression(), LZ4}, {"zstd", kgo.ZstdCompression(), Zstd}} {
		compressor, err := kgo.DefaultCompressor(codec.kgo)
		if err != nil {
			t.Fatal(err)
		}
		packed, _ := compressor.Compress(new(bytes.Buffer), plain.Wire()[Overhead:], kgo.CompressDisableZstd)
		if codec.bits == Zstd {
			packed, _ = compressor.Compress(new(bytes.Buffer), plain.Wire()[Overhead:])
		}
		b := Stored{Count: 3, LastOffset: 2, compression: codec.bits, section: packed, baseTimestamp: plain.BaseTimestamp()}
		var got []Record
		if err := b.Records(func(_ int64, r Record) bool {
			r.Headers = slices.Clone(r.Headers)
			got = append(got, r)
			return true
		}); err != nil {
			t.Errorf("%s: %v", codec.name, err)
			continue
		}
		same(t, codec.name, got, records)
	}
}

func FuzzStored(f *testing.F) {
	for _, c := range compressions {
		f.Add(stored(f, 9, c, []Record{row(), {}, row(), row()}))
	}
	f.Fuzz(func(t *testing.T, set []byte) {
		if len(set) > countAt {
			sum(set) // the interesting mistakes are behind it
		}
		b, rest, ok, err := Next(set)
		if err != nil || !ok {
			return
		}
		if len(rest) >= len(set) {
			t.Fatal("nothing was taken")
		}
		seen, last := 0, b.BaseOffset-1
		errRead := b.Records(func(offset int64, _ Record) bool {
			if offset <= last || offset > b.LastOffset {
				t.Fatalf("offset %d after %d in %+v", offset, last, b)
			}
			seen, last = seen+1, offset
			return true
		})
		if errRead == nil && seen != b.Count {
			t.Fatalf("%d of %d records without an error", seen, b.Count)
		}
	})
}

// A scan reads as fast as Kafka sends: no memory per record or batch.
func BenchmarkStored(b *testing.B) {
	for _, perBatch := range []int{1, 500} {
		b.Run(map[int]string{1: "single", 500: "bulk"}[perBatch], func(b *testing.B) {
			records := make([]Record, perBatch)
			for i := range records {
				records[i] = row()
			}
			set := stored(b, 0, None, records)
			b.ReportAllocs()
			for n := 0; n < b.N; n += perBatch {
				s, _, ok, err := Next(set)
				if !ok || err != nil {
					b.Fatal(ok, err)
				}
				if err := s.Records(func(int64, Record) bool { return true }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
