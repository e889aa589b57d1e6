package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/outrider-relay/outrider/cdc"
)

// How often the relay is asked, and how often its answer is shown: when that changes, often while it lags, seldom otherwise.
const (
	askInterval  = 100 * time.Millisecond
	lagInterval  = time.Second
	showInterval = 10 * time.Second
	// lagShown is the lag that is worth a line. An application that rolls back lags a little: its WAL has nothing to ack.
	lagShown = 2 * time.Second
)

// watch shows how the relay at url is doing, until ctx ends. It closes relaying when it first relays.
func watch(ctx context.Context, url string, s *screen, relaying chan<- struct{}) error {
	client := &http.Client{Timeout: time.Second} // a relay that has died leaves a request unanswered
	defer client.CloseIdleConnections()
	tick := time.NewTicker(askInterval)
	defer tick.Stop()
	var last cdc.Status
	shown := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		st, err := status(ctx, client, url)
		if err != nil {
			continue // the supervisor tells what became of the relay
		}
		if st.State == cdc.Relaying && relaying != nil {
			close(relaying)
			relaying = nil
		}
		interval := showInterval
		if st.State == cdc.Degraded || st.LagSeconds > lagShown.Seconds() {
			interval = lagInterval
		}
		changed := st.State != last.State || st.Reason != last.Reason
		if !changed && time.Since(shown) < interval {
			continue
		}
		s.note("relay", "%s", describe(st, changed))
		last, shown = st, time.Now()
	}
}

// describe puts a status into a line, with its reason where that is new.
func describe(st cdc.Status, changed bool) string {
	line := string(st.State)
	if st.State == cdc.Relaying || st.State == cdc.Degraded {
		line += fmt.Sprintf(", lag %.1f s or %d bytes of WAL, %d records in flight", st.LagSeconds, st.Postgres.LagBytes, st.InFlight.Records)
	}
	if changed && st.State != cdc.Relaying && st.Reason != "" {
		line += ": " + st.Reason
	}
	return line
}

func status(ctx context.Context, client *http.Client, url string) (st cdc.Status, _ error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"status", nil)
	if err != nil {
		return st, err
	}
	res, err := client.Do(req)
	if err != nil {
		return st, err
	}
	defer func() { _ = res.Body.Close() }()
	return st, json.NewDecoder(res.Body).Decode(&st)
}
