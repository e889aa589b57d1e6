package sink

import (
	"fmt"

	"github.com/outrider-relay/outrider/sink/record"
)

// empty moves a topic's lobby into its queues, in order.
func (k *Kafka) empty(t *topic) {
	for len(t.lobby) > 0 && k.err == nil {
		h := t.lobby[0]
		t.lobby[0] = heldBatch{}
		t.lobby = t.lobby[1:]
		k.eachHeld(&h, func(row heldRow, rec *record.Record) {
			q, ok := t.pick(rec.Key, row.partition)
			if !ok {
				k.giveUp(rec, t, fmt.Sprintf("partition %d is beyond the topic's %d", row.partition, len(t.queues)))
				return
			}
			k.put(q, rec, row.number, row.commit, true)
		})
	}
}

// abandon gives up the rows of a topic that has been unknown or forbidden for longer than topics.wait, as policy says.
func (k *Kafka) abandon(t *topic, why string) {
	for i := range t.lobby {
		k.eachHeld(&t.lobby[i], func(_ heldRow, rec *record.Record) { k.giveUp(rec, t, why) })
	}
	t.lobby = nil
	k.checkIdle()
}

// giveUp lets policy decide about a held row.
func (k *Kafka) giveUp(rec *record.Record, t *topic, why string) {
	k.cfg.Stats.poisoned(k.cfg.OnPoison)
	p := &Poison{Where: "topic " + t.name, Reason: why}
	p.identify(*rec)
	if k.cfg.OnPoison == Stop {
		k.failLocked(p)
		return
	}
	k.logSkipped(p)
	k.records--
}

// eachHeld reads the rows of one batch of a lobby back, and frees its memory.
func (k *Kafka) eachHeld(h *heldBatch, f func(heldRow, *record.Record)) {
	b := batch{builder: h.builder}
	wire, err := b.builder.Seal(record.None)
	if err == nil {
		err = wire.Records(func(i int, rec record.Record) bool { f(h.rows[i], &rec); return true })
	}
	if err != nil {
		k.failLocked(fmt.Errorf("read held rows back: %w", err))
		return
	}
	k.buffers.put(wire.Wire())
	k.room.Signal()
}
