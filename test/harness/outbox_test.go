package harness

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// delivered is what topics hold after rows 1 to 3 of one key and row 4 of another.
func delivered() []*kgo.Record {
	return []*kgo.Record{
		record("1", "p1", "a", "v1"), record("2", "p2", "a", "v2"), record("3", "p3", "a", "v3"), record("4", "p4", "b", "v4"),
	}
}

func record(id, position, key, value string) *kgo.Record {
	return &kgo.Record{
		Topic: "orders", Key: []byte(key), Value: []byte(value),
		Headers: []kgo.RecordHeader{{Key: "id", Value: []byte(id)}, {Key: "outrider-position", Value: []byte(position)}},
	}
}

func TestCheckerFindsWhatIsWrong(t *testing.T) {
	outbox := map[string]outboxRow{"1": {"a", "v1", 1}, "2": {"a", "v2", 2}, "3": {"a", "v3", 3}, "4": {"b", "v4", 4}}
	for _, c := range []struct {
		wrong   string
		change  func([]*kgo.Record) []*kgo.Record
		repeats Repeats
		fault   string // empty: none
	}{
		{"nothing", func(r []*kgo.Record) []*kgo.Record { return r }, NoRepeats, ""},
		{"the last row is missing", func(r []*kgo.Record) []*kgo.Record { return r[:3] }, NoRepeats, "1 of 4 rows are missing, the first of them number 4"},
		{"a row is missing in between", func(r []*kgo.Record) []*kgo.Record { return slices.Delete(r, 1, 2) }, MayRepeat, "number 2"},
		{"two rows of a key are swapped", func(r []*kgo.Record) []*kgo.Record { r[1], r[2] = r[2], r[1]; return r }, MayRepeat, "row 2 of key a after row 3"},
		{"rows of two keys are swapped", func(r []*kgo.Record) []*kgo.Record { r[2], r[3] = r[3], r[2]; return r }, NoRepeats, ""},
		{"a row comes twice", func(r []*kgo.Record) []*kgo.Record { return append(r, r[3]) }, NoRepeats, "id 4 again"},
		{"a row comes twice, as it may", func(r []*kgo.Record) []*kgo.Record { return append(r, r[1:]...) }, MayRepeat, ""},
		{"a repeat has another position", func(r []*kgo.Record) []*kgo.Record { return append(r, record("4", "p5", "b", "v4")) }, MayRepeat, "at position p5 after p4"},
		{"two rows share a position", func(r []*kgo.Record) []*kgo.Record { r[3] = record("4", "p3", "b", "v4"); return r }, NoRepeats, "position p3 belongs to 3 and to 4"},
		{"a row was never committed", func(r []*kgo.Record) []*kgo.Record { return append(r, record("5", "p5", "a", "v5")) }, MayRepeat, "id 5 was never committed"},
		{"a value has changed", func(r []*kgo.Record) []*kgo.Record { r[0].Value = []byte("v0"); return r }, NoRepeats, `value "v0", not "v1"`},
		{"a key has changed", func(r []*kgo.Record) []*kgo.Record { r[0].Key = []byte("b"); return r }, NoRepeats, `key "b", not "a"`},
	} {
		t.Run(c.wrong, func(t *testing.T) {
			faults, missing := compare(outbox, c.change(delivered()), c.repeats)
			if missing != nil {
				faults = append(faults, missing.Error())
			}
			found := strings.Join(faults, "\n")
			if (found == "") != (c.fault == "") || !strings.Contains(found, c.fault) {
				t.Errorf("found: %q, want %q", found, c.fault)
			}
		})
	}
}
