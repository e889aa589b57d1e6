package sink

import (
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
