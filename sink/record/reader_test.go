package record

import (
	"slices"
	"strings"
	"testing"
)

func TestReaderRefusesWhatIsNoBatch(t *testing.T) {
	good := sealed(t, None, []Record{{Value: []byte("a")}, {Value: []byte("b")}})
	short, long, many, few := good, good, good, good
	short.wire = good.wire[:Overhead-1]
	long.wire = append(slices.Clone(good.wire), 0)
	many.count++
	few.count--
	cases := map[string]struct {
		batch Batch
		want  string
	}{
		"zero":                 {Batch{}, "less than its header"},
		"short header":         {short, "less than its header"},
		"byte after records":   {long, "1 bytes after the last"},
		"count too large":      {many, "record 2 of 3: ends inside a varint"},
		"count too small":      {few, "after the last of its 1 records"},
		"negative length":      {section("\x01"), "ends outside"},
		"length past the end":  {section("\x10\x00"), "ends outside"},
		"endless varint":       {section(strings.Repeat("\xff", 20)), "varint"},
		"offset delta":         {section("\x0c\x00\x00\x02\x01\x01\x00"), "offset delta 1"},
		"key length -2":        {section("\x0c\x00\x00\x00\x03\x01\x00"), "ends outside"},
		"value past the body":  {section("\x0c\x00\x00\x00\x01\x08\x00"), "ends outside"},
		"headers -1":           {section("\x0c\x00\x00\x00\x01\x01\x01"), "ends outside"},
		"headers by the load":  {section("\x14\x00\x00\x00\x01\x01\xfe\xff\xff\xff\x0f"), "ends outside"},
		"null header key":      {section("\x10\x00\x00\x00\x01\x01\x02\x01\x01"), "ends outside"},
		"byte after the field": {section("\x0e\x00\x00\x00\x01\x01\x00\x00"), "1 bytes after its last field"},
		"unknown compression":  {Batch{wire: good.wire, compression: Zstd + 1, count: 2}, "no such compression"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := c.batch.Records(func(int, Record) bool { return true })
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
		})
	}
}

// section is a batch of one record with these bytes.
func section(records string) Batch {
	return Batch{wire: append(make([]byte, Overhead), records...), count: 1}
}

func FuzzReadRecords(f *testing.F) {
	for _, c := range compressions {
		batch := sealed(f, c, []Record{row(), {}, row(), {Key: []byte{}, Value: []byte{}, Headers: []Header{{}}}, row()})
		f.Add(batch.wire[Overhead:], int8(batch.compression), uint16(batch.plain), uint16(batch.count))
	}
	f.Fuzz(func(t *testing.T, records []byte, c int8, plain, count uint16) {
		batch := Batch{
			wire:        append(make([]byte, Overhead), records...),
			compression: Compression(c),
			plain:       int(plain),
			count:       int(count),
		}
		seen := 0
		err := batch.Records(func(i int, r Record) bool {
			if i != seen {
				t.Fatalf("index %d after %d records", i, seen)
			}
			seen++
			return true
		})
		if err == nil && seen != int(count) {
			t.Fatalf("%d of %d records without an error", seen, count)
		}
		if err != nil || count < 2 {
			return
		}
		// What can be read can be split, and the halves read.
		first, second, err := batch.Split(int(count) / 2)
		if err != nil {
			t.Fatal(err)
		}
		want := viaRecords(t, &batch)
		same(t, "halves", append(viaRecords(t, &first), viaRecords(t, &second)...), want)
	})
}
