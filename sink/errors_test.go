package sink

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Names are compared with an independent client's table.
func TestErrorNamesAreKafkas(t *testing.T) {
	for code, known := range errorCodes {
		if code == 0 {
			continue
		}
		want, ok := kerr.ErrorForCode(code).(*kerr.Error)
		if !ok || want.Code != code {
			t.Errorf("%d (%s) is no code of Kafka", code, known.name)
			continue
		}
		if code == 6 {
			want = &kerr.Error{Message: "NOT_LEADER_OR_FOLLOWER"} // the name since Kafka 2.6; that client keeps the older one
		}
		if known.name != want.Message {
			t.Errorf("%d is %s, not %s", code, want.Message, known.name)
		}
	}
	if got := errorName(999); got != "error code 999" {
		t.Errorf("an unknown code is called %q", got)
	}
}

// What an independent client retries, we retry as well, except where the table says why not.
func TestErrorsThatPassAreNotFatal(t *testing.T) {
	stricter := []int16{
		2,   // CORRUPT_MESSAGE: encoded anew by the next session
		120, // TRANSACTION_ABORTABLE
	}
	passing := []class{classRetry, classMetadata, classTopic}
	for code, known := range errorCodes {
		err := kerr.ErrorForCode(code)
		if code != 0 && kerr.IsRetriable(err) && !slices.Contains(passing, known.class) && !slices.Contains(stricter, code) {
			t.Errorf("%s can be retried", known.name)
		}
	}
}

func TestErrorClassesDecideTheFate(t *testing.T) {
	for want, codes := range map[class][]int16{
		classNone:      {0},
		classRetry:     {7, 14, 19, 20, 51},
		classMetadata:  {5, 6, 16, 41, 56, 74},
		classTopic:     {3, 17, 29},
		classRecord:    {10, 18, 32, 87},
		classSequence:  {45},
		classDuplicate: {46},
		classFenced:    {47, 49, 90},
		classState:     {48, 52, 53, 59},
		classFatal:     {-1, 31, 35, 42, 43, 58, 76, 999, -2},
	} {
		for _, code := range codes {
			if got := classify(code); got != want {
				t.Errorf("%s (%d) has class %d, want %d", errorName(code), code, got, want)
			}
		}
	}
}
