package decoder

import (
	"math"
	"strings"
	"testing"
)

func TestPositionIsReadAsItWasWritten(t *testing.T) {
	for _, tt := range []struct {
		position Position
		text     string
	}{
		{Position{}, "0:0/0:0"},
		{Position{Timeline: 1, LSN: 0x1A2B3C8}, "1:0/1A2B3C8:0"},
		{Position{Timeline: 12, LSN: 0xABCDEF_00000010, Ordinal: 10_000_000}, "12:ABCDEF/10:10000000"},
		{Position{math.MaxUint32, math.MaxUint64, math.MaxUint64}, "4294967295:FFFFFFFF/FFFFFFFF:18446744073709551615"},
	} {
		if got := tt.position.String(); got != tt.text {
			t.Errorf("%+v is written %q, want %q", tt.position, got, tt.text)
		}
		if got := string(tt.position.Append([]byte("orders:"))); got != "orders:"+tt.text {
			t.Errorf("appended as %q", got)
		}
		got, err := ParsePosition(tt.text)
		if err != nil || got != tt.position {
			t.Errorf("%q is read as %+v, %v, want %+v", tt.text, got, err, tt.position)
		}
		if _, lsn, _ := strings.Cut(tt.text, ":"); !strings.HasPrefix(lsn, tt.position.LSN.String()+":") {
			t.Errorf("%q does not hold the LSN as %v", tt.text, tt.position.LSN)
		}
	}
}

func TestOtherSpellingsOfAPositionAreRefused(t *testing.T) {
	for _, s := range []string{
		"", ":", "::", ":/:", "1", "1:0/1A", "1:0/1A:", "1:0/1A:0:0", "1:0/1A:0 ", " 1:0/1A:0", "1:0/1A/0:0", "1:1A:0",
		"01:0/1A:0", "1:00/1A:0", "1:0/01A:0", "1:0/1A:00", "+1:0/1A:0", "1:0/1A:-0", "1:0/1a:0", "1:0/0x1A:0", "1:0/1_A:0", "1_0:0/1A:0",
		"4294967296:0/0:0", "1:100000000/0:0", "1:0/100000000:0", "1:0/0:18446744073709551616", "orders:1:0/1A:0",
	} {
		if p, err := ParsePosition(s); err == nil {
			t.Errorf("%q is read as %v", s, p)
		}
	}
}

func TestPositionAppendsWithoutAllocation(t *testing.T) {
	b := make([]byte, 0, 64)
	p := Position{math.MaxUint32, math.MaxUint64, math.MaxUint64}
	if n := testing.AllocsPerRun(100, func() { b = p.Append(b[:0]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzPositionHasOneSpelling(f *testing.F) {
	f.Add("1:0/1A2B3C8:0")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParsePosition(s); err == nil && p.String() != s {
			t.Errorf("%q is read as %v", s, p)
		}
	})
}
