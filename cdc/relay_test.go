package cdc

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrider-relay/outrider/checkpoint"
)

func TestErrorThatRepeatsIsCountedAndOldOnesGo(t *testing.T) {
	r := New(Config{})
	r.note("kafka", errors.New("first"))
	for range 3 {
		r.note("postgres", errors.New("again"))
	}
	st := r.Status()
	if len(st.Errors) != 2 || st.Errors[0].Message != "again" || st.Errors[0].Times != 3 || st.Errors[1].Message != "first" || st.Errors[1].Times != 1 {
		t.Errorf("%+v", st.Errors)
	}
	if st.LastError == nil || *st.LastError != st.Errors[0] {
		t.Errorf("the last error is %+v", st.LastError)
	}
	for i := range errorsKept {
		r.note("kafka", fmt.Errorf("error %d", i))
	}
	st = r.Status()
	if len(st.Errors) != errorsKept || st.Errors[0].Message != "error 9" || st.Errors[errorsKept-1].Message != "error 0" {
		t.Errorf("%+v", st.Errors)
	}
}

func TestStatusHoldsTheVerdictWhileItBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		blocked := &Blocked{Verdict: "gap", Reason: "seen", Advice: "do", Options: []checkpoint.Action{checkpoint.AcceptLoss}}
		if done, err := r.ended(context.Background(), blocked); done || err != nil {
			t.Fatal(done, err)
		}
		v := r.Status().Verdict
		if v == nil || v.Case != "gap" || v.Reason != "seen" || v.Advice != "do" || len(v.Options) != 1 || v.Options[0] != checkpoint.AcceptLoss {
			t.Errorf("%+v", v)
		}
		r.setState(Relaying, "")
		if v := r.Status().Verdict; v != nil {
			t.Errorf("a relay that relays has the verdict %+v", v)
		}
	})
}

func TestStandbyHasNoLagOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		r.setServer(facts{}, 1<<30)
		time.Sleep(time.Hour)
		if st := r.Status(); st.LagSeconds != 3600 || st.Postgres.LagBytes != 1<<30 {
			t.Errorf("one that starts: %f s, %d bytes", st.LagSeconds, st.Postgres.LagBytes)
		}
		r.setState(Standby, "")
		if st := r.Status(); st.LagSeconds != 0 || st.Postgres.LagBytes != 0 {
			t.Errorf("%f s, %d bytes", st.LagSeconds, st.Postgres.LagBytes)
		}
	})
}
