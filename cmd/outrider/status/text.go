// Package status shows people how a relay is doing.
package status

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/outrider-relay/outrider/cdc"
)

// Print writes st for a person: the state and its reason in words first, then how far behind it is, then what to do.
func Print(w io.Writer, st *cdc.Status) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) // into memory
	}
	state := string(st.State)
	if !st.Since.IsZero() && st.State != cdc.Stopped {
		state += ", since " + st.Since.UTC().Format(time.RFC3339)
	}
	line("relay", "%s (%s)", st.Name, st.Delivery)
	line("state", "%s", state)
	if st.Reason != "" {
		line("reason", "%s", strings.ReplaceAll(st.Reason, "\n", "\n\t"))
	}
	if st.Instance != "" {
		line("instance", "%s", strings.TrimSpace(st.Instance+" "+st.Version))
	}
	line("behind", "%s", behind(st))
	if slot := slotLine(st); slot != "" {
		line("slot", "%s", slot)
	}
	if at := lsns(&st.LSN); at != "" {
		line("LSNs", "%s", at)
	}
	if st.Version != "" { // else only the database was asked
		line("records", "%d relayed, %d skipped as repeats, %d poison; %d in flight (%s)",
			st.Records.Relayed, st.Records.SkippedDuplicates, st.Records.Poison, st.InFlight.Records, bytes(st.InFlight.Bytes))
	}
	for _, name := range slices.Sorted(maps.Keys(st.Topics)) {
		line("topic", "%s: %s, %s", name, Count(st.Topics[name].Records, "record"), bytes(st.Topics[name].Bytes))
	}
	if e := st.LastError; e != nil && e.Message != st.Reason {
		line("last error", "%s (%s): %s", e.At.UTC().Format(time.RFC3339), e.Class, strings.ReplaceAll(e.Message, "\n", "\n\t"))
	}
	line("to do", "%s", toDo(st))
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func behind(st *cdc.Status) string {
	if st.State == cdc.Standby {
		return "the one that reads the slot knows"
	}
	if st.Postgres.LagBytes == 0 && st.LagSeconds == 0 {
		return "nothing"
	}
	text := bytes(st.Postgres.LagBytes) + " of WAL"
	if st.Version == "" {
		return text + " between the checkpoint and the server's end"
	}
	if st.LagSeconds == 0 {
		return text + ", all of it without events for Kafka"
	}
	return text + ", " + time.Duration(st.LagSeconds*float64(time.Second)).Round(100*time.Millisecond).String()
}

func slotLine(st *cdc.Status) string {
	p := &st.Postgres
	if p.SlotStatus == "" {
		return p.Slot
	}
	text := fmt.Sprintf("%s: %s, holds back %s of WAL", p.Slot, p.SlotStatus, bytes(p.RetainedBytes))
	if p.SafeBytes != nil {
		text += "; lost after " + bytes(*p.SafeBytes) + " more"
	}
	return text
}

// unknownLSN is the position of who has read nothing yet, as of one that stands by.
const unknownLSN = "0/0"

func lsns(l *cdc.LSNStatus) string {
	var parts []string
	for _, p := range []struct{ name, at string }{
		{"confirmed", l.Confirmed}, {"stored", l.Stored}, {"acked", l.Acked}, {"received", l.Received}, {"server", l.Server},
	} {
		if p.at != "" && p.at != unknownLSN {
			parts = append(parts, p.name+" "+p.at)
		}
	}
	return strings.Join(parts, ", ")
}

// toDo is the advice that a state calls for.
func toDo(st *cdc.Status) string {
	switch st.State {
	case cdc.Halted:
		return "outrider resolve --name " + st.Name + " shows what may be decided"
	case cdc.Degraded:
		return "mend what the reason names; the relay goes on by itself (outrider check finds more)"
	case cdc.Stopped:
		return "outrider check finds what would keep it from starting; outrider run starts it"
	case cdc.Starting:
		return "wait, or mend what the reason names"
	}
	return "nothing"
}

// Count is n things in words: 1 row, 2 rows.
func Count(n int64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// bytes are a number that people can compare.
func bytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, units := float64(n)/unit, "KMGTP"
	for value >= unit && len(units) > 1 {
		value, units = value/unit, units[1:]
	}
	return fmt.Sprintf("%.1f %ciB", value, units[0])
}
