package decoder

import "testing"

func TestRefusedCursorReadsNothingMore(t *testing.T) {
	c := cursor{rest: []byte("12345678")}
	c.uint16()
	c.refuse("first")
	c.refuse("second")
	if n := c.uint32(); n != 0 {
		t.Errorf("read %#x after a refusal", n)
	}
	if c.done() || c.wrong != "first" {
		t.Errorf("wrong is %q, want the first refusal", c.wrong)
	}
}

func TestAppendingToAValueLeavesTheMessageAlone(t *testing.T) {
	c := cursor{rest: []byte("valuenext")}
	_ = append(c.take(5), "!!!!"...)
	if string(c.rest) != "next" {
		t.Errorf("the rest became %q", c.rest)
	}
}
