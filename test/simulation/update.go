package simulation

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
)

func parseLSN(s string) (lsn, error) { return pglogrepl.ParseLSN(s) }

// assignment sets a column of outrider.checkpoint.
type assignment struct {
	column string
	value  func(r row, args []any) any
}

var columnTypes = map[string]uint32{
	"name": text, "generation": int8, "instance": text, "system_id": text, "timeline": int8, "slot": text, "lsn": text, "kafka_cluster_id": text,
	"delivery": text, "producer_ids": int8, "decode_hash": text, "clean": boolean, "verdict": jsonb, "decision": jsonb,
	"kept": jsonb,
}

// updating makes a statement of the assignments and conditions of an update of outrider.checkpoint. Nothing is taken for
// granted: a condition that is not in the text does not hold the update back.
func updating(flat string) *statement {
	sets, where, ok := strings.Cut(flat, " where ")
	if !ok {
		return nil
	}
	st := &statement{}
	var assignments []assignment
	for _, set := range splitList(sets) {
		column, expression, ok := strings.Cut(set, " = ")
		value := expressionOf(strings.TrimSpace(expression), st, columnTypes[column])
		if !ok || value == nil {
			return nil
		}
		assignments = append(assignments, assignment{column, value})
	}
	var conditions []func(r row, args []any) bool
	for _, c := range strings.Split(where, " and ") {
		column, operand, holds := comparisonOf(c)
		value := expressionOf(operand, st, columnTypes[column])
		if holds == nil || value == nil {
			return nil
		}
		conditions = append(conditions, func(r row, args []any) bool { return holds(r[column], value(r, args)) })
	}
	st.run = func(b *backend, args []any) ([][]any, string, error) {
		changed := 0
		for _, r := range b.s.rows {
			if slices.ContainsFunc(conditions, func(holds func(row, []any) bool) bool { return !holds(r, args) }) {
				continue
			}
			changed++
			values := make([]any, len(assignments))
			for i, a := range assignments {
				values[i] = a.value(r, args)
			}
			before := r.lsn()
			for i, a := range assignments {
				r[a.column] = values[i]
			}
			b.s.storedTo(before, r)
			b.s.written()
			switch {
			case r.lsn() > before:
				b.s.journey.reach(b.process, storing)
			case strings.Contains(sets, "kafka_cluster_id"):
				b.s.journey.reach(b.process, prepared)
			}
		}
		return nil, "UPDATE " + strconv.Itoa(changed), nil
	}
	return st
}

// comparisons are those of the relay, and one as it would write it that minds no successor.
var comparisons = []struct {
	sign  string
	holds func(a, b any) bool
}{
	{" = ", func(a, b any) bool { return a == b }},
	{" >= ", func(a, b any) bool { return a.(int64) >= b.(int64) }},
	{" is not distinct from ", func(a, b any) bool { // of JSON, which comes back as it was written
		x, _ := a.([]byte)
		y, _ := b.([]byte)
		return bytes.Equal(x, y)
	}},
}

// comparisonOf takes a condition apart; holds is nil for one that the relay does not use.
func comparisonOf(condition string) (column, operand string, holds func(a, b any) bool) {
	for _, c := range comparisons {
		if column, operand, ok := strings.Cut(condition, c.sign); ok {
			return column, operand, c.holds
		}
	}
	return "", "", nil
}

// splitList splits at commas outside of parentheses.
func splitList(s string) []string {
	var parts []string
	depth, from := 0, 0
	for i, c := range s {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			parts = append(parts, strings.TrimSpace(s[from:i]))
			from = i + 1
		}
	}
	return append(parts, strings.TrimSpace(s[from:]))
}

var (
	parameter    = regexp.MustCompile(`^\$(\d)(?:::[a-z_]+)*$`)
	anyParameter = regexp.MustCompile(`\$(\d)`)
	nullIf       = regexp.MustCompile(`^nullif\(\$(\d), ''\)$`)
	addElement   = regexp.MustCompile(`^case when \$(\d) = any \(producer_ids\) then producer_ids else producer_ids \|\| \$(\d) end$`)
)

// expressionOf understands the expressions that the relay uses; nil for any other. It notes the parameter's type.
func expressionOf(e string, st *statement, oid uint32) func(r row, args []any) any {
	use := func(number string) int {
		n, err := strconv.Atoi(number)
		if err != nil || oid == 0 {
			panic(fmt.Sprintf("parameter $%s of no type", number))
		}
		for len(st.params) < n {
			st.params = append(st.params, text)
		}
		st.params[n-1] = oid
		return n - 1
	}
	switch {
	case e == "clock_timestamp()":
		return func(row, []any) any { return time.Now() }
	case e == "null":
		return func(row, []any) any { return nil }
	case parameter.MatchString(e):
		i := use(parameter.FindStringSubmatch(e)[1])
		return func(_ row, args []any) any { return args[i] }
	case nullIf.MatchString(e):
		i := use(nullIf.FindStringSubmatch(e)[1])
		return func(_ row, args []any) any {
			if args[i] == "" {
				return nil
			}
			return args[i]
		}
	case strings.HasPrefix(e, "jsonb_build_object("): // of columns that nothing here looks at
		for _, p := range anyParameter.FindAllStringSubmatch(e, -1) {
			oid = text
			use(p[1])
		}
		return func(row, []any) any { return []byte("{}") }
	case addElement.MatchString(e):
		i := use(addElement.FindStringSubmatch(e)[1])
		return func(r row, args []any) any {
			ids, id := r["producer_ids"].([]int64), args[i].(int64)
			if slices.Contains(ids, id) {
				return ids
			}
			return append(slices.Clone(ids), id)
		}
	}
	return nil
}
