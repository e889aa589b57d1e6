package sink

import (
	"fmt"

	"github.com/outrider-relay/outrider/sink/record"
)

// empty moves a topic's lobby into its queues, in order, as soon as they may be used. A batch leaves the lobby when all of
// its rows have another place, or none to be acked: where one of them ends the session, it keeps the checkpoint back.
func (k *Kafka) empty(t *topic) {
	for len(t.lobby) > 0 && t.usable() && k.err == nil {
		k.eachHeld(&t.lobby[0], func(row heldRow, rec *record.Record) {
			if q, ok := t.pick(rec.Key, row.partition); ok {
				k.put(q, rec, row, true)
				return
			}
			p := &Poison{Where: "topic " + t.name, Reason: fmt.Sprintf("partition %d is beyond the topic's %d", row.partition, len(t.queues)), topic: t.name}
			k.giveUp(rec, p, func() { k.bury(rec, p, row) })
		})
		if k.err != nil {
			return
		}
		t.lobby[0] = heldBatch{}
		t.lobby = t.lobby[1:]
	}
}

// abandon gives up the rows of a topic that has been unknown or forbidden for longer than topics.wait, as policy says.
func (k *Kafka) abandon(t *topic, why string) {
	for i := range t.lobby {
		k.eachHeld(&t.lobby[i], func(row heldRow, rec *record.Record) {
			p := &Poison{Where: "topic " + t.name, Reason: why, topic: t.name}
			k.giveUp(rec, p, func() {
				row.then = k.closeLobby(t)
				k.bury(rec, p, row)
			})
		})
	}
	if k.err != nil {
		return // the rows keep their places, and hold the checkpoint back
	}
	t.lobby = nil
	k.checkIdle()
}

// closeLobby keeps a topic's rows in its lobby until what it gives is called, once for each dead letter that held a place there.
func (k *Kafka) closeLobby(t *topic) (open func()) {
	t.letters++
	return func() {
		if t.letters--; t.letters == 0 {
			k.empty(t)
			k.wakeLeaders()
		}
	}
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
	stand := standIn(heldRow{number: q.oldest(), commit: q.batches[0].oldest})
	kept := []*batch{stand}
	for _, b := range q.batches {
		if b.standIn {
			kept = append(kept, b)
			continue
		}
		k.takeBack(b, func(_ int, rec *record.Record) {
			p := &Poison{Where: "topic " + q.topic.name, Reason: errorName(q.barredCode), topic: q.topic.name}
			k.giveUp(rec, p, func() { k.buryAt(q, stand, rec, p) })
		})
	}
	if k.err != nil {
		return // likewise
	}
	stand.acked = stand.letters == 0
	q.batches = kept
	q.renumber(seq)
	k.letGo(q)
	k.checkIdle()
}

// givesUp says whether rows of a topic that is unknown or forbidden become poison after topics.wait.
func (k *Kafka) givesUp(t *topic) bool {
	return k.cfg.OnPoison != Stop && !t.deadLetter && !k.fence.keeps(t.name)
}

// giveUp lets policy decide about a row that waits; bury makes it a dead letter.
func (k *Kafka) giveUp(rec *record.Record, p *Poison, bury func()) {
	p.identify(*rec)
	switch k.judge(p) {
	case Stop:
		k.failLocked(p)
	case DeadLetter:
		bury()
	default:
		k.records--
	}
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
