package sink

import (
	"slices"
	"strconv"

	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/sink/record"
	"github.com/outrider-relay/outrider/sink/route"
)

// A dead letter is a poison event on its way to the dead-letter topic, which is a topic like any other: registered, fenced,
// scanned. Its ack is the event's. Until then the event's own place stays taken, by a stand-in in its partition's queue or
// by its topic's lobby, so that nothing passes it there; and the number that it carries keeps the checkpoint back.

// Header names of dead letters, beside those that the event's record would have had.
var (
	headerReason    = []byte("outrider-reason")
	headerTopic     = []byte("outrider-topic")     // where it was to go, as far as that is known
	headerTruncated = []byte("outrider-truncated") // bytes that the payload had before it was cut
)

// standIn makes the batch that takes the place of the dead letters of a queue. It has no records.
func standIn(row heldRow) *batch {
	return &batch{first: row.number, oldest: row.commit, standIn: true, acked: planted("a dead letter leaves its queue before its ack")}
}

// bury sends rec as a dead letter: in the place of row, which is counted already, without waiting for room. Kafka.mu is held.
func (k *Kafka) bury(rec *record.Record, p *Poison, row heldRow) {
	letter := k.letter(rec, p)
	row.partition = -1
	_ = k.place(k.topic(k.cfg.DeadLetter), &letter, row, true) // refused only for a partition that is beyond the topic's
	k.wakeLeaders()                                            // whoever leads it need not be the one whose answer brought this about
}

// buryAt is bury with stand-in b of queue q, which goes when all of its letters are acked.
func (k *Kafka) buryAt(q *queue, b *batch, rec *record.Record, p *Poison) {
	b.letters++
	k.bury(rec, p, heldRow{number: b.first, commit: b.oldest, then: func() { k.letterAcked(q, b) }})
}

// letterAcked takes the ack of one of the letters that b stands in for.
func (k *Kafka) letterAcked(q *queue, b *batch) {
	if b.letters--; b.letters > 0 {
		return
	}
	b.acked = true
	k.letGo(q)
	if q.leader != nil {
		q.leader.wakeUp()
	}
}

// buryUnroutable sends an event that could not become a record: as much of it as can be had. It waits for room as Append does,
// but not with a lobby closed, whose rows may be what takes the room.
func (k *Kafka) buryUnroutable(e *decoder.Event, number uint64, p *Poison) error {
	salvaged := k.router.Salvage(e, k.now)
	p.topic = string(salvaged.Topic)
	row := heldRow{number: number, partition: -1, commit: e.CommitTime}
	closed := false
	// Where it would have had a key or a partition, it holds the place that it would have had.
	if t := k.placeOf(salvaged); t != nil {
		if q, ok := t.pick(salvaged.Record.Key, salvaged.Partition); q != nil {
			row.then = k.standInFor(q, row)
		} else if closed = ok; closed {
			row.then = k.closeLobby(t)
		}
	}
	letter := k.letter(&salvaged.Record, p)
	err := k.place(k.topic(k.cfg.DeadLetter), &letter, row, closed)
	if err == nil {
		k.records++
	}
	return err
}

// placeOf is the topic in which an event that became a dead letter holds a place: also where it is the first that names that
// topic, since others may follow before the letter is acked. nil: none. The dead letters' own topic is no such place, for the
// letter would wait behind itself.
func (k *Kafka) placeOf(r *route.Routed) *topic {
	if r.Record.Key == nil && r.Partition < 0 || k.router.CheckTopic(r.Topic) != nil {
		return nil
	}
	if t := k.topic(string(r.Topic)); !t.deadLetter {
		return t
	}
	return nil
}

// standInFor puts a stand-in for one row at the end of q, and gives what to call at the ack of its letter.
func (k *Kafka) standInFor(q *queue, row heldRow) (then func()) {
	if q.open.count() > 0 {
		q.close()
	}
	b := standIn(row)
	b.letters, b.seq = 1, q.nextSeq
	q.batches = append(q.batches, b)
	return func() { k.letterAcked(q, b) }
}

// letter makes the dead letter of a record. Its position is the last header, as everywhere.
func (k *Kafka) letter(rec *record.Record, p *Poison) record.Record {
	letter := *rec
	letter.Headers = make([]record.Header, 0, len(rec.Headers)+3)
	for _, h := range rec.Headers {
		if string(h.Key) != route.HeaderPosition {
			letter.Headers = append(letter.Headers, h)
		}
	}
	letter.Headers = append(letter.Headers, record.Header{Key: headerReason, Value: []byte(p.Reason)})
	if p.topic != "" {
		letter.Headers = append(letter.Headers, record.Header{Key: headerTopic, Value: []byte(p.topic)})
	}
	if p.Position != "" { // it is known, unless position_header is false
		letter.Headers = append(letter.Headers, record.Header{Key: []byte(route.HeaderPosition), Value: []byte(k.cfg.Name + ":" + p.Position)})
	}
	var alone record.Builder
	if over := alone.Len() + alone.Size(&letter) - k.cfg.BatchBytes; over > 0 {
		cut(&letter, over)
	}
	return letter
}

// cut takes n bytes off a letter's value, or all of it, and marks it as cut. It is false when there is nothing to take.
func cut(letter *record.Record, n int) bool {
	if len(letter.Value) == 0 {
		return false
	}
	if !slices.ContainsFunc(letter.Headers, func(h record.Header) bool { return string(h.Key) == string(headerTruncated) }) {
		mark := record.Header{Key: headerTruncated, Value: strconv.AppendInt(nil, int64(len(letter.Value)), 10)}
		letter.Headers = slices.Insert(letter.Headers, len(letter.Headers)-1, mark)
		n += len(headerTruncated) + len(mark.Value) + 2*maxVarint
	}
	letter.Value = letter.Value[:max(0, len(letter.Value)-n)]
	return true
}

// maxVarint is what the length of a header's part takes at most.
const maxVarint = 5

// shorten makes a letter that its topic found too large half as long; nil when that is no help.
func shorten(b *batch, compression record.Compression) (shorter *batch, err error) {
	var builder record.Builder
	readErr := b.wire.Records(func(_ int, rec record.Record) bool {
		if cut(&rec, (len(rec.Value)+1)/2) {
			builder.Append(&rec)
		}
		return true
	})
	if readErr != nil || builder.Count() == 0 {
		return nil, readErr
	}
	wire, err := builder.Seal(compression)
	if err != nil {
		return nil, err
	}
	return &batch{wire: wire, sealed: true, first: b.first, oldest: b.oldest, then: b.then}, nil
}
