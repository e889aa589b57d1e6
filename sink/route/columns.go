package route

import (
	"fmt"
	"slices"
	"strings"

	"github.com/outrider-relay/outrider/decoder"
)

// columnNames lists, for each role, the column names that have it by default, the preferred one first.
// timestamp, topic, key and partition have no default names: a column is only read as one when the settings say so.
var columnNames = map[string][]string{
	"id":             {"id", "event_id"},
	"aggregate_type": {"aggregate_type", "aggregatetype"},
	"aggregate_id":   {"aggregate_id", "aggregateid"},
	"event_type":     {"event_type", "eventtype", "type"},
	"payload":        {"payload"},
	"headers":        {"headers"},
	"timestamp":      nil,
	"topic":          nil,
	"key":            nil,
	"partition":      nil,
}

// PostgreSQL type OIDs (pg_type.dat) that decide how a column is read.
const (
	oidBool        = 16
	oidBytea       = 17
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidText        = 25
	oidJSON        = 114
	oidFloat4      = 700
	oidFloat8      = 701
	oidBPChar      = 1042
	oidVarchar     = 1043
	oidDate        = 1082
	oidTimestamp   = 1114
	oidTimestamptz = 1184
	oidUUID        = 2950
	oidJSONB       = 3802
)

// payloadTypes are those whose text form, or whose bytes, are the record's value.
var payloadTypes = []uint32{oidBytea, oidText, oidVarchar, oidBPChar, oidJSON, oidJSONB}

// headerTypes can hold a JSON object of headers.
var headerTypes = []uint32{oidJSON, oidJSONB, oidText, oidVarchar}

// columns finds the columns of one relation by name and by role.
type columns struct {
	relation  *decoder.Relation
	overrides map[string]string
	messages  *messages // whose relation this is, if any: every name that is asked for can be in a message
}

// index gives the column called name, or -1.
func (c columns) index(name string) int {
	if c.messages != nil {
		return c.messages.column(name)
	}
	return slices.IndexFunc(c.relation.Columns, func(col decoder.Column) bool { return col.Name == name })
}

// role gives the column that has a role: the configured one, else the first well-known name. It is -1, without an
// error, where the table has none; a configured column that is missing is an error.
func (c columns) role(role string) (int, error) {
	if name, ok := c.configured(role); ok {
		i := c.index(name)
		if i < 0 {
			return -1, fmt.Errorf("table %s has no column %q, which outbox.columns.%s names (it has %s)", c.relation, name, role, c.list())
		}
		return i, nil
	}
	for _, name := range columnNames[role] {
		if i := c.index(name); i >= 0 {
			return i, nil
		}
	}
	return -1, nil
}

// configured gives the column that the settings give a role: this table's own setting, else that of all tables.
func (c columns) configured(role string) (name string, ok bool) {
	if name, ok = c.overrides[c.relation.Namespace+"."+c.relation.Name+"."+role]; !ok {
		name, ok = c.overrides[role]
	}
	return name, ok
}

// find resolves a template reference: a role first, else a column of that name. -1 when there is neither.
func (c columns) find(name string) int {
	if _, isRole := columnNames[name]; isRole {
		if i, err := c.role(name); err == nil && i >= 0 {
			return i
		}
	}
	return c.index(name)
}

// typed is role for a column that must have one of some types.
func (c columns) typed(role string, types []uint32, want string) (int, error) {
	i, err := c.role(role)
	if err != nil || i < 0 {
		return i, err
	}
	if !slices.Contains(types, c.relation.Columns[i].Type) {
		return -1, fmt.Errorf("column %q of table %s has type OID %d; as %s it must be %s",
			c.relation.Columns[i].Name, c.relation, c.relation.Columns[i].Type, role, want)
	}
	return i, nil
}

func (c columns) list() string {
	names := make([]string, len(c.relation.Columns))
	for i, col := range c.relation.Columns {
		names[i] = col.Name
	}
	return strings.Join(names, ", ")
}
