package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// print writes the results as tables.
func (r *results) print(out io.Writer) error {
	if _, err := fmt.Fprintf(out, "%d CPUs, PostgreSQL %d over %s, one Apache Kafka %s broker on the same machine, %s. Loss, repetition and order were checked.\n\n",
		r.Machine.CPUs, r.Postgres, r.Transport, r.Kafka, r.Delivery); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\t\n", args...) } // into memory
	if len(r.Drains) > 0 {
		line("backlog\tround\treader\trows\trows/s\treader CPU-s/M\twalsender CPU-s/M\tbroker CPU-s/M\tpeak RSS MB")
	}
	for _, d := range r.Drains {
		line("%s\t%d\t%s\t%d\t%.0f\t%.2f\t%.2f\t%.2f\t%.1f", d.Workload, d.Round, d.Reader, d.Rows, d.RowsPerS, d.ReaderCPU, d.WalsenderCPU, d.BrokerCPU, megabytes(d.PeakRSS))
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

// ratios of the relay's rate to the other reader's in the same round: a bare figure says more about the machine.
func (r *results) ratios() (lines []string) {
	for _, own := range r.Drains {
		for _, other := range r.Drains {
			if own.Reader == "outrider" && other.Reader != own.Reader && other.Workload == own.Workload && other.Round == own.Round {
				lines = append(lines, fmt.Sprintf("%s, round %d: %.2f of %s", own.Workload, own.Round, own.RowsPerS/other.RowsPerS, other.Reader))
			}
		}
	}
	return lines
}

func megabytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }
