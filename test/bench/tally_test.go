package main

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// rows of a test: each key has three.
const rows = 3 * keys

// deliver gives the records that a faultless relay sends: key k in partition k modulo 12, with the offsets of that.
func deliver() (records []*kgo.Record) {
	offsets := make(map[int32]int64)
	for n := range rows {
		p := int32(n % keys % 12)
		records = append(records, &kgo.Record{Partition: p, Offset: offsets[p], Value: value(n)})
		offsets[p]++
	}
	return records
}

func value(n int) []byte {
	return (&stage{bench: &bench{options: options{payloads: []int{300}}}}).payload(n)
}

func TestEveryFaultIsFound(t *testing.T) {
	for what, c := range map[string]struct {
		plant func([]*kgo.Record) []*kgo.Record
		want  findings // but First
	}{
		"none":                        {func(r []*kgo.Record) []*kgo.Record { return r }, findings{}},
		"the last row is lost":        {func(r []*kgo.Record) []*kgo.Record { return r[:len(r)-1] }, findings{Lost: 1}},
		"a row in the middle is lost": {func(r []*kgo.Record) []*kgo.Record { return append(r[:1500:1500], r[1501:]...) }, findings{Lost: 1}},
		"all are lost":                {func([]*kgo.Record) []*kgo.Record { return nil }, findings{Lost: rows}},
		"a record comes twice":        {func(r []*kgo.Record) []*kgo.Record { return append(r, r[7]) }, findings{Repeated: 1}},
		"a relay starts over":         {func(r []*kgo.Record) []*kgo.Record { return append(r[:2000:2000], r[500:]...) }, findings{Repeated: 1500}},
		"one is lost and another repeated": {
			func(r []*kgo.Record) []*kgo.Record { r[4] = r[3]; return r },
			findings{Lost: 1, Repeated: 1},
		},
		"two rows of a key change places": {
			func(r []*kgo.Record) []*kgo.Record {
				r[5].Value, r[5+keys].Value = r[5+keys].Value, r[5].Value
				return r
			},
			findings{Misordered: 1},
		},
		"two rows of different keys change places": {
			func(r []*kgo.Record) []*kgo.Record { r[5], r[6] = r[6], r[5]; return r },
			findings{},
		},
		"a key is in two partitions": {
			func(r []*kgo.Record) []*kgo.Record { r[5+keys].Partition++; return r },
			findings{Misordered: 1},
		},
		"a record is no row":      {func(r []*kgo.Record) []*kgo.Record { r[9].Value = []byte("{}"); return r }, findings{Lost: 1, Foreign: 1}},
		"a row was never written": {func(r []*kgo.Record) []*kgo.Record { r[9].Value = value(rows); return r }, findings{Lost: 1, Foreign: 1}},
	} {
		tally := newTally(rows)
		for _, r := range c.plant(deliver()) {
			tally.record(r, plain)
		}
		got := tally.finish()
		if explained := got.First != ""; explained != (got.Misordered+got.Foreign > 0) {
			t.Errorf("%s: first: %q", what, got.First)
		}
		got.First = ""
		if got != c.want {
			t.Errorf("%s: %+v, not %+v", what, got, c.want)
		}
	}
}

// What the records do not tell is not made up: only their number is known.
func TestRecordsThatDoNotTellTheirRowAreCounted(t *testing.T) {
	for sent, want := range map[int]findings{
		rows:     {Uncounted: true},
		rows - 2: {Uncounted: true, Lost: 2},
		rows + 3: {Uncounted: true, Repeated: 3},
	} {
		tally := newTally(rows)
		for range sent {
			tally.record(&kgo.Record{Value: []byte{0, 1, 2}}, &adapter{Number: none})
		}
		if got := tally.finish(); got != want {
			t.Errorf("%d records of %d rows: %+v, not %+v", sent, rows, got, want)
		}
	}
}

func TestOnlyWhatWasPromisedIsBroken(t *testing.T) {
	for _, c := range []struct {
		found    findings
		delivery string
		want     string // in what is said; empty: nothing is
	}{
		{findings{}, exactlyOnce, ""},
		{findings{Repeated: 5}, exactlyOnce, "5 records repeated"},
		{findings{Repeated: 5}, "at-least-once", ""},
		{findings{Lost: 1}, "at-least-once", "1 rows lost"},
		{findings{Misordered: 2, First: "row 7"}, "at-least-once", "2 rows out of order, first: row 7"},
		{findings{Foreign: 3}, exactlyOnce, "3 records of no row"},
	} {
		got := c.found.against(c.delivery)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%+v under %s: %q, not %q", c.found, c.delivery, got, c.want)
		}
		for _, r := range []*results{
			{Drains: []drain{{Delivery: c.delivery, Findings: c.found}}},
			{Latencies: []latency{{Delivery: c.delivery, Findings: c.found}}},
		} {
			if err := r.broken(); (err == nil) != (c.want == "") {
				t.Errorf("%+v under %s: %v", c.found, c.delivery, err)
			}
		}
	}
}
