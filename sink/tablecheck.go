package sink

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/sink/route"
)

// CheckTables looks whether rows of these tables can become records with the settings.
func CheckTables(cfg Config, tables []*decoder.Relation) []Finding {
	cfg.setDefaults()
	var found []Finding
	r, err := route.New(cfg.Name, cfg.Routing, cfg.Log)
	if err != nil {
		return []Finding{{Fail, oneLine(err), "no row could be routed", "correct the settings"}}
	}
	for _, table := range tables {
		keyless, err := r.CheckTable(table)
		switch {
		case err != nil:
			found = append(found, Finding{Fail, oneLine(err), "the relay stops at the first row of it", "name the columns in outbox.columns, or alter the table"})
		case keyless:
			found = append(found, Finding{Warn, "table " + table.String() + " has no aggregate id: its records have no key", "there is no order among records without a key", "name a column in outbox.key, or set outbox.key: none where that is meant"})
		default:
			found = append(found, Finding{Level: OK, What: "table " + table.String() + " has the columns that its records need"})
		}
	}
	return found
}

// CheckRows looks what would become of rows: the topics that they go to, and those that cannot become records.
func CheckRows(cfg Config, rows []*decoder.Event) (topics []string, found []Finding) {
	cfg.setDefaults()
	r, err := route.New(cfg.Name, cfg.Routing, cfg.Log)
	if err != nil {
		return nil, nil // told by CheckTables, as is a table that is wrong as a whole
	}
	type tally struct {
		all, poison int
		reason      string
	}
	seen, tallies := make(map[string]bool), make(map[string]*tally)
	for _, e := range rows {
		t := tallies[e.Relation.String()]
		if t == nil {
			t = new(tally)
			tallies[e.Relation.String()] = t
		}
		t.all++
		routed, err := r.Route(e, time.Now())
		if err == nil {
			err = r.CheckTopic(routed.Topic)
		}
		var poison *route.Unroutable
		switch {
		case err == nil:
			seen[string(routed.Topic)] = true
		case errors.As(err, &poison):
			t.poison++
			t.reason = poison.Reason
		}
	}
	for _, table := range slices.Sorted(maps.Keys(tallies)) {
		if t := tallies[table]; t.poison > 0 {
			found = append(found, Finding{
				Warn, fmt.Sprintf("of %d rows of %s that were looked at, %d cannot become records: %s", t.all, table, t.poison, t.reason),
				map[Policy]string{Stop: "unless they are old, the relay stops at them", DeadLetter: "unless they are old, they go to the dead-letter topic", Skip: "unless they are old, they are left out"}[cfg.OnPoison],
				"find out who writes such rows; outbox.on_poison says what becomes of them",
			})
		}
	}
	return slices.Sorted(maps.Keys(seen)), found
}
