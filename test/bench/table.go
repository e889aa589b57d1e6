package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// table is figures with names.
type table struct {
	title string
	head  []string // of the columns; the first so many are words
	words int
	rows  [][]string
}

func (t *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		switch c := c.(type) {
		case float64:
			row[i] = figure(c)
		case nil:
		default:
			row[i] = fmt.Sprint(c)
		}
	}
	t.rows = append(t.rows, row)
}

// figure has about three digits: more would claim what no run repeats.
func figure(f float64) string {
	switch {
	case f == 0:
		return "0"
	case f < 10:
		return fmt.Sprintf("%.2f", f)
	case f < 100:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.0f", f)
}

// share has a digit more: it is the deliveries' that differ by some in a hundred.
func share(f float64) string { return fmt.Sprintf("%.3f", f) }

// text writes the table for a terminal.
func (t *table) text(out io.Writer) error {
	if _, err := fmt.Fprintf(out, "\n%s\n", t.title); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{t.head}, t.rows...) {
		_, _ = fmt.Fprintln(w, strings.Join(row, "\t")) // into memory
	}
	return w.Flush() // which writes
}

// markdown writes it for a page.
func (t *table) markdown(out *bytes.Buffer) {
	fmt.Fprintf(out, "\n%s\n\n", t.title)
	line := func(cells []string) { fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.head)
	for i := range t.head {
		if i < t.words {
			out.WriteString("|---")
		} else {
			out.WriteString("|---:")
		}
	}
	out.WriteString("|\n")
	for _, row := range t.rows {
		line(row)
	}
}

// tables are the results to be read.
func (r *results) tables() (all []*table) {
	order, rounds := byEntry(r.Drains)
	drained := &table{
		title: "Backlogs, drained from the start of the process to the last row. Of several rounds the one with the median rate.",
		head: []string{
			"backlog", "reader", "delivery", "Postgres over", "rows/s", "MB/s", "first row after s", "rows/s from then", "reader CPU-s per million", "walsender CPU-s", "broker CPU-s",
			"peak RSS MB", "lost", "repeated", "misordered",
		},
		words: 4,
	}
	for _, e := range order {
		d := median(rounds[e])
		if e.Reader == recvlogicalReader {
			drained.add(e.backlog, e.Reader, nil, e.Transport, d.RowsPerS, d.MBPerS, nil, nil, d.ReaderCPU, d.WalsenderCPU, nil, megabytes(d.PeakRSS), nil, nil, nil)
			continue
		}
		f := worst(rounds[e])
		drained.add(e.backlog, e.Reader, e.Delivery, e.Transport, d.RowsPerS, d.MBPerS, d.First, d.Flowing, d.ReaderCPU, d.WalsenderCPU, d.BrokerCPU, megabytes(d.PeakRSS),
			f.Lost, f.Repeated, f.misorder())
	}
	compared := &table{
		title: "Rates compared, round by round.",
		head:  []string{"backlog", "reader", "delivery", "over", "to", "delivery", "over", "rounds", "min", "median", "max"}, words: 7,
	}
	for _, c := range r.Ratios {
		compared.add(c.backlog, c.Reader, c.Delivery, c.Transport, c.To, c.ToDelivery, c.ToTransport, c.Rounds, share(c.Min), share(c.Median), share(c.Max))
	}
	late := &table{
		title: "Latency in ms at an open-loop rate of single-row transactions: from the commit's return to a consumer, and from when the row was due.",
		head: []string{
			"reader", "delivery", "rows/s", "p50", "p99", "p99.9", "max", "due p50", "due p99", "due p99.9", "writers late p99", "CPU %", "peak RSS MB",
			"repeated", "misordered",
		},
		words: 2,
	}
	for _, l := range r.Latencies {
		cpu, rss := any(l.CPU), any(megabytes(l.PeakRSS))
		if l.Reader == noRelay {
			cpu, rss = nil, nil
		}
		late.add(l.Reader, l.Delivery, l.Rate, l.P50, l.P99, l.P999, l.Max, l.DueP50, l.DueP99, l.DueP999, l.LateP99, cpu, rss, l.Findings.Repeated, l.Findings.misorder())
	}
	for _, t := range []*table{drained, compared, late} {
		if len(t.rows) > 0 {
			all = append(all, t)
		}
	}
	return all
}

// worst adds up what was found in all rounds.
func worst(rounds []drain) (f findings) {
	for _, d := range rounds {
		f.Lost += d.Findings.Lost
		f.Repeated += d.Findings.Repeated
		f.Misordered += d.Findings.Misordered
		f.Uncounted = f.Uncounted || d.Findings.Uncounted
	}
	return f
}

// misorder is the number of rows out of order, where that can be known.
func (f findings) misorder() any {
	if f.Uncounted {
		return "?"
	}
	return f.Misordered
}

func megabytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// setting says on what the figures were taken.
func (r *results) setting() string {
	busy := ""
	if r.Machine.Busy > quiet {
		busy = fmt.Sprintf(" of whose CPUs others used %.0f %%: no figures to go by", 100*r.Machine.Busy)
	}
	return fmt.Sprintf("%d CPUs, PostgreSQL %d, one Apache Kafka %s broker, all on one machine%s. Loss, repetition and order were checked in the same run.",
		r.Machine.CPUs, r.Postgres, r.Kafka, busy)
}

// print writes everything for a terminal.
func (r *results) print(out io.Writer) error {
	if _, err := fmt.Fprintln(out, r.setting()); err != nil {
		return err
	}
	for _, t := range r.tables() {
		if err := t.text(out); err != nil {
			return err
		}
	}
	return nil
}

// The part of a page that fill writes stands between these.
const pageBegin, pageEnd = "<!-- bench -->\n", "<!-- /bench -->"

// fill puts the tables into a page of Markdown.
func (r *results) fill(page []byte) ([]byte, error) {
	before, rest, begun := bytes.Cut(page, []byte(pageBegin))
	_, after, ended := bytes.Cut(rest, []byte(pageEnd))
	if !begun || !ended {
		return nil, fmt.Errorf("it has no %q with %q behind it", strings.TrimSpace(pageBegin), pageEnd)
	}
	var out bytes.Buffer
	out.Write(before)
	out.WriteString(pageBegin + r.setting() + "\n")
	for _, t := range r.tables() {
		t.markdown(&out)
	}
	out.WriteString("\n" + pageEnd)
	out.Write(after)
	return out.Bytes(), nil
}
