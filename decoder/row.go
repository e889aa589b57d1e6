package decoder

import "fmt"

func (d *Decoder) insert(c *cursor) Kind {
	r := d.rowRelation(c)
	if tuple := c.uint8(); tuple != 'N' {
		c.refuse("no new row in an insert")
	}
	d.values(c, r)
	if !c.done() {
		return KindOther
	}
	for i := range d.Event.Values {
		if d.Event.Values[i].Format == Unchanged {
			c.refuse(fmt.Sprintf("column %d of %v is unchanged in an insert", i, r))
			return KindOther
		}
	}
	// Counted before it is left out: other settings must not give other positions.
	d.place()
	if r.Foreign {
		d.Ignored.Inserts++
		return KindOther
	}
	d.Event.Relation = r
	d.Event.Prefix, d.Event.Content = "", nil
	return KindEvent
}

func (d *Decoder) update(c *cursor) {
	r := d.rowRelation(c)
	tuple := c.uint8()
	if tuple == 'K' || tuple == 'O' { // the old row's key, or all of it
		d.values(c, r)
		tuple = c.uint8()
	}
	if tuple != 'N' {
		c.refuse("no new row in an update")
	}
	d.values(c, r)
	if c.done() {
		d.Ignored.Updates++
	}
}

func (d *Decoder) delete(c *cursor) {
	r := d.rowRelation(c)
	if tuple := c.uint8(); tuple != 'K' && tuple != 'O' {
		c.refuse("no old row in a delete")
	}
	d.values(c, r)
	if c.done() {
		d.Ignored.Deletes++
	}
}

// rowRelation reads which relation a row is of. It gives nil when something is wrong.
func (d *Decoder) rowRelation(c *cursor) *Relation {
	id := c.uint32()
	d.inTransaction(c)
	if c.wrong != "" {
		return nil
	}
	r := d.relations[id]
	if r == nil {
		c.refuse(fmt.Sprintf("relation %d has not been described", id))
	}
	return r
}

// values reads a row of r into Event.Values.
func (d *Decoder) values(c *cursor, r *Relation) {
	n := int(c.uint16())
	if c.wrong != "" {
		return
	}
	if n != len(r.Columns) {
		c.refuse(fmt.Sprintf("row of %d columns, while %v was described with %d", n, r, len(r.Columns)))
		return
	}
	values := d.Event.Values[:0]
	for range n {
		v := Value{Format: Format(c.uint8())}
		switch v.Format {
		case Text, Binary:
			v.Data = c.take(c.uint32())
		case Null, Unchanged:
		default:
			if c.wrong == "" {
				c.refuse(fmt.Sprintf("column %d of %v is of unknown format %q", len(values), r, byte(v.Format)))
			}
		}
		if c.wrong != "" {
			return
		}
		values = append(values, v)
	}
	d.Event.Values = values
}
