package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// print writes the results as tables.
func (r *results) print(out io.Writer) error {
	if _, err := fmt.Fprintf(out, "%d CPUs, PostgreSQL %d over %s, one Apache Kafka %s broker on the same machine. Loss, repetition and order were checked.\n\n",
		r.Machine.CPUs, r.Postgres, r.Transport, r.Kafka); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\t\n", args...) } // into memory
	if len(r.Drains) > 0 {
		line("backlog\tround\treader\tdelivery\trows\trows/s\treader CPU-s/M\twalsender CPU-s/M\tbroker CPU-s/M\tpeak RSS MB")
	}
	for _, d := range r.Drains {
		line("%s\t%d\t%s\t%s\t%d\t%.0f\t%.2f\t%.2f\t%.2f\t%.1f", d.Workload, d.Round, d.Reader, d.shown(), d.Rows, d.RowsPerS, d.ReaderCPU, d.WalsenderCPU, d.BrokerCPU, megabytes(d.PeakRSS))
	}
	for _, ratio := range r.ratios() {
		line("%s", ratio)
	}
	if len(r.Latencies) > 0 {
		line("")
		line("latency\trows/s\trows\tp50 ms\tp99 ms\tp99.9 ms\tmax ms\trelay CPU %%\tpeak RSS MB")
	}
	for _, l := range r.Latencies {
		line("%s\t%d\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t%.1f\t%.1f", l.Way, l.Rate, l.Rows, l.P50, l.P99, l.P999, l.Max, l.CPU, megabytes(l.PeakRSS))
	}
	return w.Flush() // which writes
}

// shown is the delivery of a reader that has one.
func (d *drain) shown() string {
	if d.Reader == relayReader {
		return d.Delivery
	}
	return ""
}

// ratios of the relay's rate to the other reader's of the same backlog, and of one delivery's median to the other's: a bare
// figure says more about the machine.
func (r *results) ratios() (lines []string) {
	rates := make(map[string]map[string][]float64) // of the relay, by backlog and delivery
	var deliveries []string
	for _, own := range r.Drains {
		if own.Reader != relayReader {
			continue
		}
		for _, other := range r.Drains {
			if other.Reader != relayReader && other.Workload == own.Workload && other.Round == own.Round && other.Delivery == own.Delivery {
				lines = append(lines, fmt.Sprintf("%s, round %d, %s: %.2f of %s", own.Workload, own.Round, own.Delivery, own.RowsPerS/other.RowsPerS, other.Reader))
			}
		}
		if rates[own.Workload] == nil {
			rates[own.Workload] = make(map[string][]float64)
		}
		rates[own.Workload][own.Delivery] = append(rates[own.Workload][own.Delivery], own.RowsPerS)
		if !slices.Contains(deliveries, own.Delivery) {
			deliveries = append(deliveries, own.Delivery)
		}
	}
	for workload, by := range rates {
		for _, other := range deliveries[1:] {
			lines = append(lines, fmt.Sprintf("%s, median: %s reaches %.3f of %s", workload, deliveries[0], median(by[deliveries[0]])/median(by[other]), other))
		}
	}
	return lines
}

func median(rates []float64) float64 {
	slices.Sort(rates)
	return rates[len(rates)/2]
}

func megabytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }
