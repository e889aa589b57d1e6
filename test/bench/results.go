package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// results are all that was measured.
type results struct {
	Machine struct {
		CPUs int     `json:"cpus"`
		Go   string  `json:"go"`
		Busy float64 `json:"busy"` // share of the CPUs that others used when it began
	} `json:"machine"`
	Postgres  int       `json:"postgres"`
	Kafka     string    `json:"kafka"`
	Drains    []drain   `json:"drains"`
	Ratios    []ratio   `json:"ratios"` // made of the drains
	Latencies []latency `json:"latencies"`
}

// stdout is the name of standard output for --json.
const stdout = "-"

// tell prints the tables, and writes the files that were asked for.
func (r *results) tell(o options) error {
	r.Ratios = ratios(r.Drains)
	if o.json != stdout {
		if err := r.print(os.Stdout); err != nil {
			return err
		}
	}
	if o.json != "" {
		if err := r.write(o.json); err != nil {
			return err
		}
	}
	if o.svg != "" {
		chart, err := r.chart()
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.svg, chart, 0o644); err != nil {
			return err
		}
	}
	if o.page == "" {
		return nil
	}
	page, err := os.ReadFile(o.page)
	if err != nil {
		return err
	}
	if page, err = r.fill(page); err != nil {
		return fmt.Errorf("%s: %w", o.page, err)
	}
	return os.WriteFile(o.page, page, 0o644)
}

// write writes everything as JSON.
func (r *results) write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if path == stdout {
		_, err := os.Stdout.Write(b)
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

// readResults reads what write wrote.
func readResults(path string) (*results, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(results)
	in := json.NewDecoder(bytes.NewReader(b))
	in.DisallowUnknownFields() // what an older bench wrote means something else
	if err := in.Decode(r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// broken names the relays that lost rows, changed their order, or sent twice what they promise to send once: their figures
// are of something else than was asked for.
func (r *results) broken() error {
	var errs []error
	for _, d := range r.Drains {
		if what := d.Findings.against(d.Delivery); what != "" {
			errs = append(errs, fmt.Errorf("%s, round %d: %s (%s, %s): %s", d.backlog, d.Round, d.Reader, d.Delivery, d.Transport, what))
		}
	}
	for _, l := range r.Latencies {
		if what := l.Findings.against(l.Delivery); what != "" {
			errs = append(errs, fmt.Errorf("%d rows/s: %s (%s): %s", l.Rate, l.Reader, l.Delivery, what))
		}
	}
	return errors.Join(errs...)
}
