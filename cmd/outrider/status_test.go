package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrider-relay/outrider/cdc"
)

// A relay that is restarted while somebody watches it is shown again when it is back.
func TestWatchGoesOnThroughARestart(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			began, looks := time.Now(), 0
			ask := func(context.Context) (*cdc.Status, error) {
				switch looks++; looks {
				case 2:
					return nil, errors.New("no relay answers there")
				case 3:
					cancel()
				}
				return &cdc.Status{Name: "orders", State: cdc.Relaying}, nil
			}
			var out, log strings.Builder
			o := statusOptions{watch: true, asJSON: asJSON}
			if err := o.show(ctx, ask, &out, &log); err != nil || looks != 3 || time.Since(began) != 2*refreshInterval {
				t.Errorf("%v after %d looks in %s", err, looks, time.Since(began))
			}
			told := map[bool]string{false: out.String(), true: log.String()}[asJSON]
			if strings.Count(told, "cannot be shown: no relay answers there\n") != 1 {
				t.Errorf("it is not said once that it could not be shown: %q", told)
			}
			shown := strings.Count(out.String(), "state   relaying\n")
			if asJSON {
				shown = 0
				for line := range strings.Lines(out.String()) {
					var st cdc.Status
					if err := json.Unmarshal([]byte(line), &st); err != nil || st.State != cdc.Relaying {
						t.Errorf("a line that no program reads: %v: %s", err, line)
					}
					shown++
				}
			}
			if shown != 2 {
				t.Errorf("it is shown %d times, not twice:\n%s", shown, out.String())
			}
		})
	}
}

// Watched or not, what cannot be written has nobody who sees it.
func TestWatchEndsWithItsReader(t *testing.T) {
	o := statusOptions{watch: true}
	ask := func(context.Context) (*cdc.Status, error) { return &cdc.Status{State: cdc.Relaying}, nil }
	if err := o.show(t.Context(), ask, closedPipe{}, closedPipe{}); !errors.Is(err, errClosed) {
		t.Error(err)
	}
}

var errClosed = errors.New("closed")

type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, errClosed }
