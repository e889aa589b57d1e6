package decoder

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"
)

// replay decodes a stream and calls event for each of its events.
func replay(tb testing.TB, d *Decoder, frames []frame, event func(*Event)) {
	tb.Helper()
	for i, f := range frames {
		kind, err := d.Decode(f.walStart, f.msg)
		if err != nil {
			tb.Fatalf("frame %d: %v", i, err)
		}
		if kind == KindEvent {
			event(&d.Event)
		}
	}
}

func TestCapturedStreamHoldsTheWorkload(t *testing.T) {
	var want []string
	for _, step := range workload {
		want = append(want, step.events...)
	}
	for _, path := range streams(t) {
		if strings.Contains(path, "binary") {
			continue
		}
		t.Run(path, func(t *testing.T) {
			var got []string
			d := newDecoder(wantedPrefix)
			replay(t, d, readStream(t, path), func(e *Event) { got = append(got, render(e)) })
			for i := range max(len(got), len(want)) {
				if i >= len(got) || i >= len(want) || got[i] != want[i] {
					t.Fatalf("from event %d on:\n%q\nwant\n%q", i, got[i:], want[i:])
				}
			}
			// Updates: the TOASTed row, the key, one of whole. Deletes: one of outbox, two of whole.
			if want := (Ignored{Updates: 3, Deletes: 3, Truncates: 1, Messages: 1}); d.Ignored != want {
				t.Errorf("ignored %+v, want %+v", d.Ignored, want)
			}
		})
	}
}

// The streams would prove little if they lacked a kind of message.
func TestCapturedStreamHoldsEveryMessageType(t *testing.T) {
	for _, path := range streams(t) {
		var seen []byte
		for _, f := range readStream(t, path) {
			if !slices.Contains(seen, f.msg[0]) {
				seen = append(seen, f.msg[0])
			}
		}
		slices.Sort(seen)
		if string(seen) != "BCDIMORTUY" {
			t.Errorf("%s holds %s", path, seen)
		}
	}
}

func TestPositionsAscendAndRepeat(t *testing.T) {
	for _, path := range streams(t) {
		var positions [2][]Position // of two replays: as text and in binary they are the same
		for i, path := range []string{path, strings.Replace(path, "-binary", "", 1)} {
			replay(t, newDecoder(wantedPrefix), readStream(t, path), func(e *Event) { positions[i] = append(positions[i], e.Position) })
		}
		if !slices.Equal(positions[0], positions[1]) {
			t.Fatalf("%s: another replay gave other positions:\n%v\n%v", path, positions[0], positions[1])
		}
		for i, p := range positions[0][1:] {
			previous := positions[0][i]
			next := p.LSN == previous.LSN && p.Ordinal == previous.Ordinal+1
			first := p.LSN > previous.LSN && p.Ordinal == 0
			if !next && !first {
				t.Errorf("%s: %v follows %v", path, p, previous)
			}
		}
	}
}

// Only the end of a transaction may be confirmed: it lies after the commit, and not after the next one.
func TestEndLiesBetweenTwoCommits(t *testing.T) {
	for _, path := range streams(t) {
		var end pglogrepl.LSN
		d := newDecoder()
		for i, f := range readStream(t, path) {
			kind, err := d.Decode(f.walStart, f.msg)
			switch {
			case err != nil:
				t.Fatal(err)
			case kind == KindBegin && d.Event.Position.LSN < end:
				t.Errorf("%s, frame %d: %v begins before the end %v", path, i, d.Event.Position, end)
			case kind == KindCommit && d.End <= d.Event.Position.LSN:
				t.Errorf("%s, frame %d: the end %v lies before the commit of %v", path, i, d.End, d.Event.Position)
			}
			end = d.End
		}
		if end == 0 {
			t.Errorf("%s holds no commit", path)
		}
	}
}
