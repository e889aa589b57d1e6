// Package check puts together what can be found wrong with a relay before it runs.
package check

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/sink"
)

// The sides that a finding is about.
const (
	Postgres = "postgres"
	Kafka    = "kafka"
	Relay    = "relay" // the one that runs
)

// Finding is a line of a report.
type Finding struct {
	Side   string `json:"side"`
	Level  string `json:"level"` // ok, warn or fail
	What   string `json:"what"`
	Why    string `json:"why,omitempty"`
	Repair string `json:"repair,omitempty"`
}

// Report is everything that was found, in the order in which a start would meet it.
type Report []Finding

// Run looks at both sides, and changes neither. What Postgres knows of the relay tells what is to be asked of Kafka.
func Run(ctx context.Context, relay cdc.Config, kafka sink.Config, principal string) Report {
	in := cdc.Inspect(ctx, &relay)
	var r Report
	for _, f := range in.Findings {
		r.add(Postgres, sink.Finding(f))
	}
	for _, f := range sink.CheckTables(kafka, in.Tables) {
		r.add(Postgres, f)
	}
	topics, found := sink.CheckRows(kafka, in.Rows)
	for _, f := range found {
		r.add(Postgres, f)
	}
	q := sink.Inquiry{ExactlyOnce: relay.Delivery == cdc.ExactlyOnce, Principal: principal, ClusterID: in.Row.KafkaClusterID, Likely: topics}
	for _, p := range in.Partitions {
		q.Topics = append(q.Topics, p.Topic)
	}
	for _, f := range sink.Inspect(ctx, kafka, q) {
		r.add(Kafka, f)
	}
	return r
}

// Running adds what the relay that runs says itself. Where it goes well there is nothing to add.
func (r *Report) Running(at string, st *cdc.Status) {
	f := sink.Finding{Level: sink.OK, What: "relay " + st.Name + ", which answers at " + at + ", is " + string(st.State)}
	switch st.State {
	case cdc.Relaying, cdc.Standby, cdc.Draining:
	case cdc.Halted: // the verdict is told where it came from
		f = sink.Finding{Level: sink.Warn, What: f.What, Why: "nothing is relayed until somebody decides", Repair: "outrider resolve --name " + st.Name}
	default:
		f = sink.Finding{Level: sink.Warn, What: f.What + ": " + st.Reason, Why: "it does not deliver all that it could", Repair: "mend what it names; it goes on by itself"}
	}
	r.add(Relay, f)
}

func (r *Report) add(side string, f sink.Finding) {
	*r = append(*r, Finding{side, f.Level, f.What, f.Why, f.Repair})
}

// Count is how many findings of a level a side has.
func (r Report) Count(side, level string) (n int) {
	for _, f := range r {
		if f.Side == side && f.Level == level {
			n++
		}
	}
	return n
}

// Print writes a line a finding, for people, or all of it as a JSON array.
func (r Report) Print(w io.Writer, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(r)
	}
	for _, f := range r {
		if _, err := fmt.Fprintln(w, f); err != nil {
			return err
		}
	}
	return nil
}

func (f Finding) String() string {
	line := fmt.Sprintf("%-4s  %-8s  %s", f.Level, f.Side, f.What)
	if f.Why != "" {
		line += ": " + f.Why
	}
	if f.Repair != "" {
		line += ". Repair: " + f.Repair
	}
	return strings.ReplaceAll(line, "\n", " ")
}
