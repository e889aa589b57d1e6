package cdc

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
)

// timelines is the history of a server: which timeline wrote which part of its WAL. A position names the timeline that
// owns its LSN, never the session's: a transaction before a switch point has the same position on both sides of a failover.
type timelines struct {
	current uint32
	past    []pastTimeline // oldest first, the ends increasing
}

// pastTimeline is a timeline that was left at end: the first LSN that belongs to its successor.
type pastTimeline struct {
	id  uint32
	end lsn
}

// owner is the timeline that wrote the WAL at l.
func (t timelines) owner(l lsn) uint32 {
	for _, p := range t.past {
		if l < p.end {
			return p.id
		}
	}
	return t.current
}

// parseHistory reads a timeline history file as TIMELINE_HISTORY sends it: a line per ancestor with its number,
// the LSN where it was left, and a reason (PostgreSQL: access/transam/timeline.c). Timeline 1 has none: text is empty.
func parseHistory(current uint32, text []byte) (timelines, error) {
	t := timelines{current: current}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) < 2 {
			return t, fmt.Errorf("timeline history: no switch point in line %q", line)
		}
		id, err := strconv.ParseUint(fields[0], 10, 32)
		if err != nil {
			return t, fmt.Errorf("timeline history: no timeline in line %q", line)
		}
		end, err := pglogrepl.ParseLSN(fields[1])
		if err != nil {
			return t, fmt.Errorf("timeline history: no switch point in line %q", line)
		}
		p := pastTimeline{id: uint32(id), end: end}
		if n := len(t.past); n > 0 && (p.id <= t.past[n-1].id || p.end < t.past[n-1].end) {
			return t, fmt.Errorf("timeline history: timeline %d at %s comes after timeline %d at %s", p.id, p.end, t.past[n-1].id, t.past[n-1].end)
		}
		if p.id >= current {
			return t, fmt.Errorf("timeline history: timeline %d is said to be an ancestor of %d", p.id, current)
		}
		t.past = append(t.past, p)
	}
	return t, lines.Err()
}
