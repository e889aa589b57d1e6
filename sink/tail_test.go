package sink

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"

	"github.com/outrider-relay/outrider/decoder"
)

// held is an event in a log, or in the stream.
type held struct {
	timeline uint32
	lsn      pglogrepl.LSN
	ordinal  uint64
	id       string
}

func (h held) position() decoder.Position {
	return decoder.Position{Timeline: h.timeline, LSN: h.lsn, Ordinal: h.ordinal}
}

// The stream brings transactions; what Kafka holds of them is skipped, and nothing else.
func TestTailIsMetExactly(t *testing.T) {
	for name, tc := range map[string]struct {
		kafka []held
		// stream is what the database brings, transaction by transaction.
		stream  [][]held
		skipped int
		says    string // the verdict; empty: none
		left    bool   // the stream has not brought everything yet
	}{
		"all of it": {
			kafka:  []held{{1, 10, 0, "a"}, {1, 10, 1, "b"}, {1, 20, 0, "c"}},
			stream: [][]held{{{1, 10, 0, "a"}, {1, 10, 1, "b"}}, {{1, 20, 0, "c"}}}, skipped: 3,
		},
		"part of a transaction": {
			kafka:  []held{{1, 10, 1, "b"}, {1, 10, 200, "e"}},
			stream: [][]held{{{1, 10, 0, "a"}, {1, 10, 1, "b"}, {1, 10, 2, "c"}, {1, 10, 199, "d"}, {1, 10, 200, "e"}, {1, 10, 201, "f"}, {1, 10, 9999, "g"}}}, skipped: 2,
		},
		"transactions in between are new": {
			kafka:  []held{{1, 30, 0, "c"}},
			stream: [][]held{{{1, 10, 0, "a"}}, {{1, 20, 0, "b"}}, {{1, 30, 0, "c"}}}, skipped: 1,
		},
		"the stream is on its way": {
			kafka:  []held{{1, 10, 0, "a"}, {1, 30, 0, "c"}},
			stream: [][]held{{{1, 10, 0, "a"}}, {{1, 20, 0, "b"}}}, skipped: 1, left: true,
		},
		"over a switch of timelines": {
			kafka:  []held{{1, 10, 0, "a"}, {2, 20, 0, "b"}},
			stream: [][]held{{{1, 10, 0, "a"}}, {{2, 20, 0, "b"}}}, skipped: 2,
		},
		"the same LSN on a timeline that was left": {
			kafka:  []held{{1, 20, 0, "b"}},
			stream: [][]held{{{2, 20, 0, "b"}}}, says: "Kafka holds 1 events of transaction 1:0/14, which the database never committed",
		},
		"a transaction that was never committed": {
			kafka:  []held{{1, 10, 0, "a"}, {1, 20, 0, "x"}},
			stream: [][]held{{{1, 10, 0, "a"}}, {{1, 30, 0, "c"}}}, skipped: 1, says: "Kafka holds 1 events of transaction 1:0/14, which the database never committed",
		},
		"more events than it has": {
			kafka:  []held{{1, 10, 0, "a"}, {1, 10, 1, "b"}, {1, 10, 70, "c"}},
			stream: [][]held{{{1, 10, 0, "a"}}}, skipped: 1, says: "Kafka holds 2 events of transaction 1:0/A, of which the transaction has no such events",
		},
		"other ids": {
			kafka:  []held{{1, 10, 0, "a"}, {1, 10, 1, "b"}},
			stream: [][]held{{{1, 10, 0, "a"}, {1, 10, 1, "c"}}}, skipped: 2, says: "with other event ids than the transaction's",
		},
		"ids in another order": {
			// As many, and the same ones: only a sum could not tell, and positions are what decides.
			kafka:  []held{{1, 10, 1, "b"}, {1, 10, 0, "a"}},
			stream: [][]held{{{1, 10, 0, "a"}, {1, 10, 1, "b"}}}, skipped: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			tail := newTail()
			for _, h := range tc.kafka {
				if !tail.add(h.position(), []byte(h.id)) {
					t.Fatalf("%+v is said to be there already", h)
				}
			}
			tail.sort()
			skipped := 0
			var err error
			for _, transaction := range tc.stream {
				for _, h := range transaction {
					if tail.take(h.position(), []byte(h.id)) {
						skipped++
					}
				}
				if err = tail.pass(transaction[0].position()); err != nil {
					break
				}
			}
			if skipped != tc.skipped {
				t.Errorf("%d events are skipped, not %d", skipped, tc.skipped)
			}
			var judged *Verdict
			if (err == nil) != (tc.says == "") || err != nil && (!errors.As(err, &judged) || judged.Name != "diverged" || !strings.Contains(err.Error(), tc.says)) {
				t.Errorf("%v, not %q", err, tc.says)
			}
			if err == nil && tail.empty() == tc.left {
				t.Errorf("met in full: %v", tail.empty())
			}
		})
	}
}

// What the database brings again after it was skipped once is not skipped twice.
func TestSkippedEventIsNotSkippedAgain(t *testing.T) {
	tail, p := newTail(), decoder.Position{Timeline: 1, LSN: 10, Ordinal: 3}
	if !tail.add(p, []byte("a")) || tail.add(p, []byte("a")) {
		t.Fatal("an event is in Kafka twice, and it is not told")
	}
	tail.sort()
	if !tail.take(p, []byte("a")) || tail.take(p, []byte("a")) {
		t.Error("one event of Kafka's stands for two of the stream")
	}
}

// When the verdict is accepted nobody looks for the rest any more, and so it has to say all.
func TestDivergenceListsAllThatTheStreamHasNotMet(t *testing.T) {
	tail := newTail()
	add := func(lsn pglogrepl.LSN, ordinals ...uint64) {
		for _, o := range ordinals {
			tail.add(decoder.Position{Timeline: 1, LSN: lsn, Ordinal: o}, []byte("id"))
		}
	}
	add(10, 0)
	add(20, 1, 64, 200)
	add(40, 5)
	tail.sort()
	tail.take(decoder.Position{Timeline: 1, LSN: 10}, []byte("id"))
	if err := tail.pass(decoder.Position{Timeline: 1, LSN: 10}); err != nil {
		t.Fatal(err)
	}
	diverged := func() (v *Verdict) {
		t.Helper()
		if err := tail.pass(decoder.Position{Timeline: 1, LSN: 30}); !errors.As(err, &v) {
			t.Fatal(err)
		}
		return v
	}
	v := diverged()
	if positions, more := v.Positions(); strings.Join(positions, " ") != "1:0/14:1 1:0/14:64 1:0/14:200 1:0/28:5" || more != 0 {
		t.Errorf("%v and %d more", positions, more)
	}
	if !strings.Contains(v.Reason, "Kafka holds 3 events of transaction 1:0/14, which the database never committed; and 1 events of 1 transactions that the stream has not come to") {
		t.Error(v.Reason)
	}
	for o := range uint64(10_000) {
		add(50, o)
	}
	tail.at = 0
	tail.sort()
	if positions, more := diverged().Positions(); len(positions) != maxListed || len(positions)+more != 10_004 {
		t.Errorf("%d and %d more", len(positions), more)
	}
}
