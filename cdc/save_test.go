package cdc

import (
	"context"
	"testing"

	"github.com/outrider-relay/outrider/checkpoint"
)

// What was acked is stored, and a verdict is written, over the same connection after the session has ended.
func TestStatementUnderWayOutlivesItsSession(t *testing.T) {
	s := &session{storing: make(chan struct{}, 1), control: control(t, database(t, ""))}
	for _, c := range []struct {
		name     string
		takes    string
		finished bool
	}{
		{"short", "0.2", true},
		{"long", "60", false},
	} {
		ctx, end := context.WithCancel(t.Context())
		began := make(chan struct{})
		go func() { <-began; end() }()
		err := s.ask(ctx, func(ctx context.Context) error {
			close(began)
			_, err := s.control.Exec(ctx, "select pg_sleep("+c.takes+")")
			return err
		})
		if finished := err == nil && !s.control.IsClosed(); finished != c.finished {
			t.Errorf("%s: finished is %v (%v)", c.name, finished, err)
		}
	}
}

// Where a person moved the start, Postgres may forget what lies below only when that is stored.
func TestNothingIsConfirmedBeforeTheNewStartIsStored(t *testing.T) {
	s := &session{cfg: &Config{}, facts: facts{slot: &slotFacts{Confirmed: 100}}}
	s.begin(checkpoint.Row{LSN: 200})
	if got := s.confirmed.Load(); got != 100 {
		t.Errorf("%d is confirmed, and 100 was before", got)
	}
}
