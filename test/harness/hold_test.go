package harness

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

// request is one as Kafka's begin: size, API key, version, correlation id.
func request(key byte) []byte { return []byte{0, 0, 0, 8, 0, key, 0, 0, 0, 0, 0, 1} }

func TestHoldKeepsRequestsOfItsKindAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := NewHold(27)
		pass := func(f Filter, piece []byte) []byte {
			out, err := f.Request(piece)
			if err != nil {
				t.Error(err)
			}
			return out
		}
		f := hold.Filter()
		if out := pass(f, request(27)); !bytes.Equal(out, request(27)) {
			t.Errorf("%v has passed before anything was held", out)
		}
		hold.Begin()
		if out := pass(hold.Filter(), request(1)); !bytes.Equal(out, request(1)) {
			t.Errorf("%v of another kind has passed", out)
		}
		if out := pass(f, request(27)[:7]); len(out) > 0 {
			t.Errorf("%v of what is not complete has passed", out)
		}
		began := time.Now()
		time.AfterFunc(time.Minute, hold.End)
		if out := pass(f, request(27)[7:]); !bytes.Equal(out, request(27)) || time.Since(began) != time.Minute {
			t.Errorf("%v has passed after %s", out, time.Since(began))
		}
		hold.End() // is over already
		if out := pass(f, request(27)); !bytes.Equal(out, request(27)) {
			t.Errorf("%v has passed after the end", out)
		}
	})
}
