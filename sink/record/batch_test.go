package record

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestStampRenumbers(t *testing.T) {
	for _, c := range compressions {
		want := []Record{row(), row()}
		batch := sealed(t, c, want)
		for _, stamp := range []struct {
			producerID   int64
			epoch        int16
			baseSequence int32
		}{
			{1 << 40, 3, 1 << 30},
			{7, 0, 0},
			{-1, -1, -1},
			{1<<63 - 1, 1<<15 - 1, 1<<31 - 1},
		} {
			batch.Stamp(stamp.producerID, stamp.epoch, stamp.baseSequence)
			rb, got := viaFranz(t, batch.Wire()) // checks the CRC
			same(t, c.String(), got, want)
			if rb.ProducerID != stamp.producerID || rb.ProducerEpoch != stamp.epoch || rb.FirstSequence != stamp.baseSequence {
				t.Errorf("%s: stamped %v, read %d %d %d", c, stamp, rb.ProducerID, rb.ProducerEpoch, rb.FirstSequence)
			}
		}
	}
}

func TestHalvesHoldWhatTheBatchHeld(t *testing.T) {
	for _, c := range compressions {
		for seed := range uint64(10) {
			r := rand.New(rand.NewPCG(seed, 2))
			want := append(randomRecords(r), row())
			batch := sealed(t, c, want)
			at := 1 + r.IntN(len(want)-1)
			first, second, err := batch.Split(at)
			if err != nil {
				t.Fatal(err)
			}
			for _, half := range []struct {
				batch *Batch
				want  []Record
			}{{&first, want[:at]}, {&second, want[at:]}} {
				half.batch.Stamp(1, 2, 3)
				_, got := viaFranz(t, half.batch.Wire())
				same(t, c.String(), got, half.want)
				if half.batch.BaseTimestamp() != half.want[0].Timestamp {
					t.Errorf("%s: base timestamp %d, want %d", c, half.batch.BaseTimestamp(), half.want[0].Timestamp)
				}
			}
			same(t, "the batch that was split", viaRecords(t, &batch), want)
		}
	}
}

func TestHalvesAreCompressedAsTheBatchWas(t *testing.T) {
	for _, c := range compressions {
		batch := sealed(t, c, slices.Repeat([]Record{row()}, 20))
		first, second, err := batch.Split(10)
		if err != nil {
			t.Fatal(err)
		}
		if first.compression != c || second.compression != c {
			t.Errorf("halves of a batch with %s have %s and %s", c, first.compression, second.compression)
		}
	}
}

func TestSplitRefusesAnEmptyHalf(t *testing.T) {
	batch := sealed(t, None, []Record{row(), row(), row()})
	for _, at := range []int{-1, 0, 3, 4} {
		if _, _, err := batch.Split(at); err == nil {
			t.Errorf("split of 3 at %d succeeded", at)
		}
	}
}

func TestRecordsStopsWhenTold(t *testing.T) {
	batch := sealed(t, LZ4, []Record{row(), row(), row()})
	var seen []int
	err := batch.Records(func(i int, _ Record) bool {
		seen = append(seen, i)
		return i < 1
	})
	if err != nil || !slices.Equal(seen, []int{0, 1}) {
		t.Errorf("saw %v, error %v", seen, err)
	}
}
