package decoder

import "strings"

// Relation is a table as the server described it.
type Relation struct {
	ID        uint32 // OID; a partition's root with publish_via_partition_root
	Namespace string // the schema; empty for pg_catalog
	Name      string
	Columns   []Column // the published ones, in the table's order
	Foreign   bool     // its rows are no events: published, and not meant for us
}

// Column is a column of a Relation.
type Column struct {
	Name     string
	Type     uint32 // OID of the type
	Modifier int32  // atttypmod; -1 for none
	Key      bool   // part of the replica identity
	NotNull  bool   // takes no NULL; false where that is not known
}

// String gives schema.table as an operator would type it: quoted where it holds more than lower-case letters, digits and
// underscores. (Key words stay unquoted.)
func (r *Relation) String() string {
	namespace := r.Namespace
	if namespace == "" {
		namespace = "pg_catalog"
	}
	return quoteIdentifier(namespace) + "." + quoteIdentifier(r.Name)
}

func quoteIdentifier(s string) string {
	plain := s != ""
	for i, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c == '_':
		case c >= '0' && c <= '9' && i > 0:
		default:
			plain = false
		}
	}
	if plain {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}

// minColumn is the size of a described column with an empty name: flags, terminator, type, modifier.
const minColumn = 1 + 1 + 4 + 4

// readRelation reads the body of a Relation message. It copies the names: a relation outlives its message.
func readRelation(c *cursor) *Relation {
	r := &Relation{ID: c.uint32()}
	r.Namespace = string(c.cstring())
	r.Name = string(c.cstring())
	c.uint8() // replica identity: matters to updates and deletes only
	n := int(c.uint16())
	if n > len(c.rest)/minColumn {
		// Before the allocation below, which a few bytes could else make a large one.
		c.refuse(short)
		return r
	}
	r.Columns = make([]Column, n)
	for i := range r.Columns {
		col := &r.Columns[i]
		col.Key = c.uint8()&1 != 0
		col.Name = string(c.cstring())
		col.Type = c.uint32()
		col.Modifier = int32(c.uint32())
	}
	return r
}
