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

// abandonQueue gives up the unacked rows of a partition of such a topic. The broker has taken none of them, so the rows
// after them get their sequence numbers.
func (k *Kafka) abandonQueue(q *queue) {
	if !k.certain(q) {
		return
	}
	if q.open.count() > 0 {
		q.close()
	}
	seq := q.batches[0].seq
	for _, b := range q.batches {
		k.takeBack(b, func(_ int, rec *record.Record) { k.giveUp(rec, q.topic, errorName(q.barredCode)) })
	}
	q.batches = nil
	q.renumber(seq)
	k.checkIdle()
	k.regrow(q.topic)
}

// giveUp lets policy decide about a row that waits.
func (k *Kafka) giveUp(rec *record.Record, t *topic, why string) {
	p := &Poison{Where: "topic " + t.name, Reason: why}
	p.identify(*rec)
	if err := k.decide(p); err != nil {
		k.failLocked(err)
		return
	}
	k.records--
}

// eachHeld reads the rows of one batch of a lobby back, and frees its memory.
func (k *Kafka) eachHeld(h *heldBatch, f func(heldRow, *record.Record)) {
	k.takeBack(&batch{builder: h.builder}, func(i int, rec *record.Record) { f(h.rows[i], rec) })
}

// takeBack reads the rows of a batch that will not be sent, and frees its memory.
func (k *Kafka) takeBack(b *batch, f func(i int, rec *record.Record)) {
	var err error
	if !b.sealed {
		b.wire, err = b.builder.Seal(record.None)
		b.sealed = err == nil
	}
	if err == nil {
		err = b.wire.Records(func(i int, rec record.Record) bool { f(i, &rec); return true })
	}
	if err != nil {
		k.failLocked(fmt.Errorf("read unsent rows back: %w", err))
		return
	}
	k.buffers.put(b.memory())
	k.room.Signal()
}
