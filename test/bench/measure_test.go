package main

import (
	"os"
	"strings"
	"testing"
)

// The relay's own adapter, over both transports and under both deliveries, through every kind of scene.
func TestEverySceneIsMeasuredAndChecked(t *testing.T) {
	if os.Getenv("TEST_LONG") == "" {
		t.Skip("takes a minute, and servers: asked for by TEST_LONG=1")
	}
	o, err := parse(strings.Fields("--rows 3000 --single 500 --huge 4000 --payload 300,4096 --partitions 3 --rounds 2 --rates 50 --for 2s " +
		"--transport unix,tcp --delivery exactly-once,at-least-once"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := measure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.broken(); err != nil {
		t.Errorf("%v", err)
	}
	measured := make(map[string]int) // by backlog
	for _, d := range r.Drains {
		relayed := d.Reader != recvlogicalReader
		if relayed {
			measured[d.backlog.String()]++
		}
		bytes := d.MBPerS * 1e6 / d.RowsPerS // of a row
		if d.RowsPerS <= 0 || d.PeakRSS == 0 || bytes < 0.9*float64(d.Payload) || bytes > 1.1*float64(d.Payload) || relayed != (d.First > 0) || relayed && d.BrokerCPU == 0 {
			t.Errorf("%+v", d)
		}
	}
	for _, load := range o.backlogs() {
		if n := measured[load.String()]; n != len(o.contestants)*o.rounds {
			t.Errorf("%s was drained %d times", load, n)
		}
	}
	if len(measured) != 5 || len(r.Latencies) != 2 {
		t.Errorf("%d backlogs were drained, and %d ways taken at the rate", len(measured), len(r.Latencies))
	}
	for _, l := range r.Latencies {
		if l.Rows != 100 || l.P50 <= 0 || l.P99 < l.P50 || l.Max < l.P999 || l.DueP50 < l.P50 {
			t.Errorf("%+v", l)
		}
	}
}
