package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/template"
)

//go:embed chart.svg.tmpl
var chartTemplate string

// chart is what the template draws: groups of bars, each group on a scale of its own. It is read on light and on dark
// pages, and its description says in words what the bars show.
type chart struct {
	Title         string
	Width, Height int
	Left, BarX    int // where labels end, and bars begin
	BarHeight     int
	Groups        []*group
	Notes         []*note // below the bars
	longest, pad  int     // the longest bar, and the space above the notes
}

type note struct {
	Text string
	Y    int
}

type group struct {
	Title string
	Y     int
	Bars  []*bar
}

type bar struct {
	Label, Text, Class string
	Value              float64

	Y, Width, TextX, TextY int
}

// chart draws the backlogs and the latencies.
func (r *results) chart() ([]byte, error) {
	c := &chart{Title: "A backlog drained, and a steady load relayed", Width: 880, Left: 265, BarX: 275, BarHeight: 16, longest: 300, pad: 28}
	order, rounds := byEntry(r.Drains)
	for _, load := range charted(order) {
		g := &group{Title: fmt.Sprintf("%s of %d bytes, %s, on %s", grouped(load.Rows), load.Payload, transactions(load.Batch), counted(load.Partitions, "partition"))}
		for _, e := range order {
			if e.backlog != load {
				continue
			}
			d := median(rounds[e])
			g.Bars = append(g.Bars, &bar{
				Label: label(e.Reader, e.Delivery, e.Transport), Class: class(order, e.Reader), Value: d.RowsPerS,
				Text: fmt.Sprintf("%.0f k rows/s, %s CPU-s a million, %.0f MB", d.RowsPerS/1000, figure(d.ReaderCPU), megabytes(d.PeakRSS)),
			})
		}
		c.Groups = append(c.Groups, g)
	}
	var steady *group
	for i, l := range r.Latencies {
		if i == 0 || l.Rate != r.Latencies[i-1].Rate {
			steady = &group{Title: fmt.Sprintf("Commit to consumer at %d rows/s: 99 of 100 rows arrive within", l.Rate)}
			c.Groups = append(c.Groups, steady)
		}
		name := label(l.Reader, l.Delivery, "")
		steady.Bars = append(steady.Bars, &bar{
			Label: name, Class: class(order, l.Reader), Value: l.P99,
			Text: fmt.Sprintf("%s ms; half within %s ms", figure(l.P99), figure(l.P50)),
		})
	}
	if len(c.Groups) == 0 {
		return nil, errors.New("nothing was measured that a chart could show")
	}
	for sentence := range strings.SplitAfterSeq(r.setting(), ". ") {
		c.Notes = append(c.Notes, &note{Text: sentence})
	}
	c.layOut()
	var out bytes.Buffer
	err := template.Must(template.New("chart").Parse(chartTemplate)).Execute(&out, c)
	return out.Bytes(), err
}

// charted are the backlogs that are drawn: of each kind the one of the smallest rows on the most partitions.
func charted(order []entry) (loads []backlog) {
	for _, e := range order {
		i := slices.IndexFunc(loads, func(l backlog) bool { return l.Name == e.Name })
		switch {
		case i < 0:
			loads = append(loads, e.backlog)
		case e.Payload < loads[i].Payload, e.Payload == loads[i].Payload && e.Partitions > loads[i].Partitions:
			loads[i] = e.backlog
		}
	}
	return loads
}

// class is how a reader's bars look: the first relay, the limit, the others.
func class(order []entry, reader string) string {
	if reader == recvlogicalReader || reader == noRelay {
		return "limit"
	}
	i := slices.IndexFunc(order, func(e entry) bool { return e.Reader != recvlogicalReader })
	if i < 0 || order[i].Reader == reader {
		return "own"
	}
	return "other"
}

func label(reader, delivery, transport string) string {
	switch {
	case transport != "" && delivery != "":
		return fmt.Sprintf("%s, %s, %s", reader, delivery, transport)
	case transport != "":
		return fmt.Sprintf("%s, %s", reader, transport)
	case delivery != "":
		return fmt.Sprintf("%s, %s", reader, delivery)
	}
	return reader
}

func transactions(batch int) string {
	if batch == 1 {
		return "a transaction each"
	}
	return fmt.Sprintf("in transactions of %d", batch)
}

// grouped is a number of rows that can be read.
func grouped(rows int) string {
	if rows >= 1_000_000 {
		return fmt.Sprintf("%.3g million rows", float64(rows)/1e6)
	}
	return fmt.Sprintf("%d rows", rows)
}

// layOut gives everything its place.
func (c *chart) layOut() {
	const (
		groupHeight, barPitch = 34, 24
		baseline              = 13 // of a text beside a bar
		gap                   = 8
		notePitch             = 18
	)
	y := 0
	for _, g := range c.Groups {
		y += groupHeight
		g.Y = y - 10
		most := slices.MaxFunc(g.Bars, func(a, b *bar) int { return int(a.Value*1000) - int(b.Value*1000) }).Value
		for _, b := range g.Bars {
			b.Y, b.TextY = y, y+baseline
			if most > 0 {
				b.Width = max(1, int(float64(c.longest)*b.Value/most))
			}
			b.TextX = c.BarX + b.Width + gap
			y += barPitch
		}
	}
	y += c.pad
	for _, n := range c.Notes {
		n.Y = y
		y += notePitch
	}
	c.Height = y
}
