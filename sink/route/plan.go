package route

import (
	"fmt"

	"github.com/outrider-relay/outrider/decoder"
)

// plan is what a relation's columns mean, resolved once.
type plan struct {
	relation    *decoder.Relation
	topic       boundTemplate
	key         boundTemplate // nil: no key, or keyPart's
	keyPart     part          // a key that has to be written; nil for most
	keyColumn   string        // whose column it is
	value       maker
	id          int // columns; -1: the table has none
	eventType   int
	payload     int
	headers     int
	timestamp   int
	partition   int
	bytea       bool // payload is a bytea
	looseJSON   bool // headers are text that Postgres has not checked
	placed      []placedHeader
	source      boundTemplate // of CloudEvents
	contentType []byte        // likewise; nil: a column says it
}

// CheckTable says why rows of a table cannot become records, or nil. keyless: their records have no key, though the settings
// do not ask for that.
func (r *Router) CheckTable(table *decoder.Relation) (keyless bool, err error) {
	p, err := r.planFor(table)
	if err != nil {
		return false, err
	}
	return p.key == nil && p.keyPart == nil && !r.parsed.keyAbsent, nil
}

// planFor resolves what a relation's columns mean. Its errors stop the relay before anything of the table is produced.
func (r *Router) planFor(rel *decoder.Relation) (*plan, error) {
	if r.last != nil && r.last.relation == rel {
		return r.last, nil
	}
	if p, ok := r.plans[rel]; ok {
		r.last = p
		return p, nil
	}
	p, err := r.resolve(rel)
	if err != nil {
		return nil, err
	}
	for old := range r.plans {
		if old.ID == rel.ID {
			delete(r.plans, old)
		}
	}
	r.plans[rel] = p
	r.last = p
	return p, nil
}

func (r *Router) resolve(rel *decoder.Relation) (*plan, error) {
	c := columns{relation: rel, overrides: r.settings.Columns}
	if rel == r.messages.relation {
		c.messages = r.messages
	}
	p := &plan{relation: rel}
	if err := r.findColumns(p, c); err != nil {
		return nil, err
	}
	if err := r.bindTopic(p, c); err != nil {
		return nil, err
	}
	if err := r.bindKey(p, c); err != nil {
		return nil, err
	}
	if err := r.bindValue(p, c); err != nil {
		return nil, err
	}
	return p, r.place(p, c)
}

// findColumns finds the columns that have a role of their own.
func (r *Router) findColumns(p *plan, c columns) (err error) {
	if p.payload, err = c.typed("payload", payloadTypes, "jsonb, json, text, varchar or bytea"); err != nil {
		return err
	}
	if p.payload < 0 {
		return fmt.Errorf("table %s has no payload column (it has %s): name one in outbox.columns.payload, or publish with all columns", c.relation, c.list())
	}
	p.bytea = c.relation.Columns[p.payload].Type == oidBytea
	p.headers = -1
	// Debezium's router knows no such column: it is one only where it is named.
	if _, named := c.configured("headers"); named || !r.settings.Debezium {
		if p.headers, err = c.typed("headers", headerTypes, "jsonb, json or text"); err != nil {
			return err
		}
	}
	p.looseJSON = p.headers >= 0 && !isJSON(c, p.headers)
	if p.partition, err = c.typed("partition", []uint32{oidInt2, oidInt4, oidInt8}, "an integer"); err != nil {
		return err
	}
	if p.timestamp, err = c.typed("timestamp", []uint32{oidTimestamp, oidTimestamptz}, "timestamp or timestamptz"); err != nil {
		return err
	}
	if p.id, err = c.role("id"); err != nil {
		return err
	}
	p.eventType, err = c.role("event_type")
	return err
}

// bindTopic chooses and binds the template of the topic.
func (r *Router) bindTopic(p *plan, c columns) error {
	aggregate, err := c.role("aggregate_type")
	if err != nil {
		return err
	}
	topic := r.parsed.topic
	if r.parsed.topicIsDefault {
		routed := template{{text: "aggregate_type", ref: true}}
		_, configured := c.configured("topic")
		switch {
		case configured:
			topic = template{{text: "topic", ref: true}}
		case aggregate < 0 && !r.settings.Debezium:
			topic = template{{text: "event_type", ref: true}}
		case r.parsed.regex != nil:
			topic = routed
		default:
			topic = append(template{{text: "outbox.event."}}, routed...)
		}
	}
	if p.topic, err = topic.bind(c.find); err != nil {
		return fmt.Errorf("table %s: outbox.topic: %w (it has %s)", c.relation, err, c.list())
	}
	return nil
}

// bindKey chooses and binds the template of the key.
func (r *Router) bindKey(p *plan, c columns) error {
	aggregate, err := c.role("aggregate_id")
	if err != nil || r.parsed.keyAbsent {
		return err
	}
	key := r.parsed.key
	if len(key) == 0 {
		_, configured := c.configured("key")
		switch {
		case configured:
			key = template{{text: "key", ref: true}}
		case aggregate >= 0 || r.settings.Debezium:
			key = template{{text: "aggregate_id", ref: true}}
		default:
			r.log.Info().Stringer("table", c.relation).Msg("the table has no aggregate id: its records have no key, and so no order among them; outbox.key can name a column")
			return nil
		}
	}
	bound, err := key.bind(c.find)
	if err != nil {
		return fmt.Errorf("table %s: outbox.key: %w (it has %s)", c.relation, err, c.list())
	}
	if len(bound) > 1 || bound[0].column < 0 {
		if p.key = bound; r.parsed.keyFormat != Verbatim {
			p.key, p.keyPart = nil, &templatePart{template: bound}
		}
		return nil
	}
	part, err := r.partOf(c, bound[0].column)
	if err != nil {
		return err
	}
	if p.key = bound; r.parsed.keyFormat != Verbatim || r.settings.Debezium && part.typ.convert != nil {
		p.key, p.keyPart, p.keyColumn = nil, part, bound[0].text
	}
	return nil
}
