package main

import (
	"bytes"
	"errors"
	"os"
	"testing"
)

// docs is where make bench-chart puts what it has made of one run.
const docs = "../../docs/"

// No figure there is typed by hand: tables and chart are what the bench makes of the run that lies beside them. Without a run
// there are none.
func TestFiguresInTheDocumentsAreThoseOfTheRun(t *testing.T) {
	page, err := os.ReadFile(docs + "speed.md")
	if err != nil {
		t.Fatal(err)
	}
	r, err := readResults(docs + "bench.json")
	if errors.Is(err, os.ErrNotExist) {
		if !bytes.Contains(page, []byte(pageBegin+pageEnd)) {
			t.Error("docs/speed.md has figures, and docs/bench.json, which they would be of, is not there")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if want, err := r.fill(page); err != nil || !bytes.Equal(page, want) {
		t.Errorf("docs/speed.md: %v; go run ./test/bench --from docs/bench.json --page docs/speed.md writes its tables", err)
	}
	drawn, err := os.ReadFile(docs + "bench.svg")
	if errors.Is(err, os.ErrNotExist) {
		return // it is drawn for a release
	}
	if want, chartErr := r.chart(); err != nil || chartErr != nil || !bytes.Equal(drawn, want) {
		t.Errorf("docs/bench.svg: %v, %v; go run ./test/bench --from docs/bench.json --svg docs/bench.svg draws it", err, chartErr)
	}
}
