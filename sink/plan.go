package sink

import (
	"fmt"

	"github.com/outrider-relay/outrider/decoder"
)

// plan is what a relation's columns mean, resolved once.
type plan struct {
	relation   *decoder.Relation
	topic, key boundTemplate
	hasKey     bool
	id         int // columns; -1: the table has none
	eventType  int
	payload    int
	headers    int
	partition  int
	bytea      bool // payload is a bytea
	looseJSON  bool // headers are text that Postgres has not checked
	placed     []placedHeader
}

type placedHeader struct {
	name   []byte
	column int
}

// planFor resolves what a relation's columns mean. Its errors stop the relay before anything of the table is produced.
func (r *router) planFor(rel *decoder.Relation) (*plan, error) {
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

func (r *router) resolve(rel *decoder.Relation) (*plan, error) {
	c := columns{relation: rel, overrides: r.routing.Columns}
	if rel == r.messages.relation {
		c.messages = r.messages
	}
	p := &plan{relation: rel}
	var err error
	if p.payload, err = c.typed("payload", payloadTypes, "jsonb, json, text, varchar or bytea"); err != nil {
		return nil, err
	}
	if p.payload < 0 {
		return nil, fmt.Errorf("table %s has no payload column (it has %s): name one in outbox.columns.payload, or publish with all columns", rel, c.list())
	}
	p.bytea = rel.Columns[p.payload].Type == oidBytea
	if p.headers, err = c.typed("headers", headerTypes, "jsonb, json or text"); err != nil {
		return nil, err
	}
	p.looseJSON = p.headers >= 0 && rel.Columns[p.headers].Type != oidJSON && rel.Columns[p.headers].Type != oidJSONB
	if p.partition, err = c.typed("partition", []uint32{oidInt2, oidInt4, oidInt8}, "an integer"); err != nil {
		return nil, err
	}
	if p.id, err = c.role("id"); err != nil {
		return nil, err
	}
	if p.eventType, err = c.role("event_type"); err != nil {
		return nil, err
	}
	if err := r.bindTemplates(p, c); err != nil {
		return nil, err
	}
	return p, r.place(p, c)
}

// bindTemplates chooses and binds the topic and key templates for a table.
func (r *router) bindTemplates(p *plan, c columns) error {
	aggregate, err := c.role("aggregate_type")
	if err != nil {
		return err
	}
	key, err := c.role("aggregate_id")
	if err != nil {
		return err
	}
	topic := r.topic
	if r.topicDefault {
		switch _, configured := c.overrides["topic"]; {
		case configured:
			topic = template{{text: "topic", ref: true}}
		case aggregate >= 0:
			topic = template{{text: "outbox.event."}, {text: "aggregate_type", ref: true}}
		default:
			topic = template{{text: "event_type", ref: true}}
		}
	}
	if p.topic, err = topic.bind(c.find); err != nil {
		return fmt.Errorf("table %s: outbox.topic: %w (it has %s)", c.relation, err, c.list())
	}
	keyTemplate := r.key
	if r.keyDefault {
		switch _, configured := c.overrides["key"]; {
		case configured:
			keyTemplate = template{{text: "key", ref: true}}
		case key >= 0:
			keyTemplate = template{{text: "aggregate_id", ref: true}}
		}
	}
	p.hasKey = len(keyTemplate) > 0
	if p.key, err = keyTemplate.bind(c.find); err != nil {
		return fmt.Errorf("table %s: outbox.key: %w (it has %s)", c.relation, err, c.list())
	}
	return nil
}

// place lists the columns that become headers, in their order.
func (r *router) place(p *plan, c columns) error {
	add := func(name []byte, column int) {
		if column >= 0 {
			p.placed = append(p.placed, placedHeader{name, column})
		}
	}
	add(headerID, p.id)
	add(headerEventType, p.eventType)
	for _, name := range tracingColumns {
		add([]byte(name), c.index(name))
	}
	for _, h := range r.headers {
		column := c.find(h.column)
		if column < 0 {
			return fmt.Errorf("table %s has no column %q, which outbox.headers names (it has %s)", c.relation, h.column, c.list())
		}
		add([]byte(h.alias), column)
	}
	return nil
}
