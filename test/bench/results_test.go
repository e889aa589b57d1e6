package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// measured are results of three rounds.
func measured() *results {
	r := &results{Postgres: 18, Kafka: "4.3.1"}
	r.Machine.CPUs = 2
	load := backlog{Name: "bulk", Rows: 1_000_000, Batch: 1000, Payload: 300, Partitions: 12}
	for round, rates := range [][]float64{{100, 50, 90, 60}, {100, 50, 95, 70}, {100, 50, 120, 65}} {
		for i, d := range []drain{
			{Reader: recvlogicalReader, Transport: "unix"},
			{Reader: recvlogicalReader, Transport: "tcp"},
			{Reader: "outrider", Delivery: exactlyOnce, Transport: "unix"},
			{Reader: "a<b", Delivery: "at-least-once", Transport: "tcp", Findings: findings{Repeated: round}},
		} {
			d.backlog, d.Round, d.RowsPerS, d.PeakRSS = load, round+1, rates[i], int64(round)<<20
			r.Drains = append(r.Drains, d)
		}
	}
	r.Latencies = []latency{{Reader: noRelay, Rate: 1000, P50: 0.2, P99: 3}, {Reader: "outrider", Delivery: exactlyOnce, Rate: 1000, P50: 0.6, P99: 5}}
	r.Ratios = ratios(r.Drains)
	return r
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	var got []string
	for _, r := range measured().Ratios {
		got = append(got, fmt.Sprintf("%s %s to %s %s: %.2f %.2f %.2f of %d", r.Reader, r.Transport, r.To, r.ToTransport, r.Min, r.Median, r.Max, r.Rounds))
	}
	want := []string{
		"outrider unix to pg_recvlogical > /dev/null unix: 0.90 0.95 1.20 of 3",
		"a<b tcp to pg_recvlogical > /dev/null unix: 0.60 0.65 0.70 of 3",
		"a<b tcp to pg_recvlogical > /dev/null tcp: 1.20 1.30 1.40 of 3",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestRatiosAreOfTheSameBacklogAndTransport(t *testing.T) {
	one, other := backlog{Name: "bulk", Rows: 10, Partitions: 1}, backlog{Name: "bulk", Rows: 10, Partitions: 12}
	drains := []drain{
		{backlog: one, Reader: "a", Transport: "unix", Round: 1, RowsPerS: 6},
		{backlog: one, Reader: "b", Transport: "unix", Round: 1, RowsPerS: 3},
		{backlog: one, Reader: "c", Transport: "tcp", Round: 1, RowsPerS: 1},
		{backlog: other, Reader: "b", Transport: "unix", Round: 1, RowsPerS: 1},
		{backlog: one, Reader: "d", Transport: "unix", Round: 2, RowsPerS: 1},
	}
	all := ratios(drains)
	if len(all) != 1 || all[0].Reader != "a" || all[0].To != "b" || all[0].Median != 2 {
		t.Errorf("%+v", all)
	}
}

// The figures of a table's line are of one round, and what was found is of all.
func TestTableTakesTheMedianRoundAndEveryFinding(t *testing.T) {
	var out bytes.Buffer
	if err := measured().print(&out); err != nil {
		t.Fatal(err)
	}
	line := ""
	for l := range strings.Lines(out.String()) {
		if strings.Contains(l, "a<b") && line == "" {
			line = l
		}
	}
	cells := strings.Fields(line)
	// rate 65 was round 3's, whose memory is 2 MB; the rounds repeated 0, 1 and 2 records
	if got := strings.Join(cells[len(cells)-4:], " "); got != "2.00 0 3 0" || !strings.Contains(line, " 65.0 ") {
		t.Errorf("%s", line)
	}
}

func TestResultsComeBackAsTheyWereWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bench.json")
	r := measured()
	if err := r.write(file); err != nil {
		t.Fatal(err)
	}
	back, err := readResults(file)
	if err != nil {
		t.Fatal(err)
	}
	var own, its bytes.Buffer
	if err := errors.Join(r.print(&own), back.print(&its)); err != nil {
		t.Fatal(err)
	}
	if own.String() != its.String() {
		t.Errorf("written\n%s\nread\n%s", own.String(), its.String())
	}
	if err := os.WriteFile(file, []byte(`{"transport": "unix"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readResults(file); err == nil {
		t.Error("figures of another bench were taken")
	}
}

func TestFiguresOfABusyMachineSayThatTheyAre(t *testing.T) {
	for share, busy := range map[float64]bool{0.05: false, 0.75: true} {
		r := measured()
		r.Machine.Busy = share
		svg, err := r.chart()
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := r.print(&out); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{out.String(), string(svg)} {
			if strings.Contains(text, "others used 75 %") != busy {
				t.Errorf("%v of the CPUs busy:\n%s", share, text)
			}
		}
	}
}

func TestTablesGoBetweenTheMarksOfAPage(t *testing.T) {
	page := "before\n" + pageBegin + "old\n" + pageEnd + "after\n"
	once, err := measured().fill([]byte(page))
	if err != nil {
		t.Fatal(err)
	}
	text := string(once)
	if !strings.HasPrefix(text, "before\n"+pageBegin) || !strings.HasSuffix(text, pageEnd+"after\n") || strings.Contains(text, "old") || !strings.Contains(text, "| outrider |") {
		t.Errorf("%s", text)
	}
	if again, err := measured().fill(once); err != nil || !bytes.Equal(again, once) {
		t.Errorf("again: %v\n%s", err, again)
	}
	if _, err := measured().fill([]byte("no marks")); err == nil {
		t.Error("a page without marks was taken")
	}
}

func TestChartStandsAloneAndSaysInWordsWhatItShows(t *testing.T) {
	svg, err := measured().chart()
	if err != nil {
		t.Fatal(err)
	}
	text := string(svg)
	var widths []string
	for in := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := in.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		for _, a := range element.Attr {
			if a.Name.Local == "href" || a.Name.Local == "src" || strings.Contains(a.Value, "url(") {
				t.Errorf("<%s %s=%q> leads out of the file", element.Name.Local, a.Name.Local, a.Value)
			}
			if element.Name.Local == "rect" && a.Name.Local == "width" {
				widths = append(widths, a.Value)
			}
		}
	}
	// Medians of 100, 50, 95 and 65 rows a second; then 3 and 5 ms.
	if got := strings.Join(widths, " "); got != "300 150 285 195 180 300" {
		t.Errorf("the bars are %s wide", got)
	}
	_, description, _ := strings.Cut(text, "<desc")
	description, _, _ = strings.Cut(description, "</desc>")
	for _, shown := range []string{"outrider, exactly-once, unix", "a&lt;b, at-least-once, tcp", "5.00 ms; half within 0.60 ms", "1 million rows of 300 bytes"} {
		if strings.Count(text, shown) < 2 || !strings.Contains(description, shown) {
			t.Errorf("%q is not both drawn and described", shown)
		}
	}
	for _, needed := range []string{`role="img"`, "<title", "prefers-color-scheme: dark"} {
		if !strings.Contains(text, needed) {
			t.Errorf("the chart has no %s", needed)
		}
	}
	if _, err := new(results).chart(); err == nil {
		t.Error("a chart of nothing")
	}
}
