package sink

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/segmentio/kafka-go/protocol/produce"

	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/sink/record"
	"github.com/outrider-relay/outrider/sink/route"
)

// Poison is an event that cannot be delivered as it is, under the policy Stop.
type Poison struct {
	// Where is the table of a row that could not be routed, or the partition whose broker refused the record.
	Where string
	// Position and ID name the event; ID is empty where the row has none.
	Position, ID string
	// Reason says why. It never holds a payload.
	Reason string

	topic  string // where it was to go, as far as that is known
	letter bool   // it is a dead letter already, which its own topic does not take
}

func (p *Poison) Error() string {
	return fmt.Sprintf("poison event at position %s (id %q, %s): %s", p.Position, p.ID, p.Where, p.Reason)
}

// Blocked gives what only a person can judge: the case in a word, what was seen, what to do, and what may be decided.
func (p *Poison) Blocked() (verdict, reason, advice string, options []string) {
	if p.letter {
		return "poison", p.Error(), "Nothing after it is confirmed. It is a dead letter already, and has nowhere else to go: correct that topic and start the relay again; or leave this one event out", []string{"skip"}
	}
	return "poison", p.Error(), "Nothing after it is confirmed. Correct the settings or the topic and start the relay again, or set outbox.on_poison: dead_letter or skip; or send this one event to the dead-letter topic or leave it out", []string{"dead-letter", "skip"}
}

// At is the event's position, as a decision names it.
func (p *Poison) At() string { return p.Position }

// poisoned lets policy decide about a row that could not be routed. taken says that a dead letter of it is on its way.
func (k *Kafka) poisoned(e *decoder.Event, number uint64, why *route.Unroutable) (taken bool, err error) {
	p := &Poison{Where: source(e), Position: e.Position.String(), Reason: why.Reason}
	if id, err := k.router.EventID(e); err == nil {
		p.ID = string(id)
	}
	switch k.judge(p) {
	case Stop:
		return false, p
	case DeadLetter:
		return true, k.buryUnroutable(e, number, p)
	}
	return false, nil
}

// source names the table of an event, or the prefix of a logical message.
func source(e *decoder.Event) string {
	if e.Relation == nil {
		return "logical message " + e.Prefix
	}
	return "table " + e.Relation.String()
}

// judge is the policy about a poison event: what a person has decided about it comes first. What
// Stop means is told by the verdict, the rest here.
func (k *Kafka) judge(p *Poison) Policy {
	policy := k.cfg.OnPoison
	if decided, ok := k.cfg.Decided[p.Position]; ok {
		policy = decided
	}
	k.cfg.Stats.poisoned(policy)
	if policy == Stop {
		return policy
	}
	said := k.cfg.Log.Error().Str("position", p.Position).Str("id", p.ID).Str("where", p.Where).Str("reason", p.Reason)
	if policy == DeadLetter {
		said.Str("topic", k.cfg.DeadLetter).Msg("event goes to the dead-letter topic")
	} else {
		said.Msg("event left out, as was decided: it is not on Kafka")
	}
	return policy
}

// refuse notes that the broker blames records of b. Nothing is decided while batches behind it are unanswered.
func (k *Kafka) refuse(q *queue, b *batch, a *produce.ResponsePartition) {
	q.rewind = true
	if q.refused != nil {
		return
	}
	q.refused = &refusal{batch: b, code: a.ErrorCode, message: a.ErrorMessage, record: -1}
	if len(a.RecordErrors) > 0 {
		if i := int(a.RecordErrors[0].BatchIndex); i < b.count() {
			q.refused.record = i
			if m := a.RecordErrors[0].BatchIndexErrorMessage; m != "" {
				q.refused.message = m
			}
		}
	}
}

// whenQuiet decides about a queue once everything in flight has been answered: about a batch that was refused, and about
// all of it when its topic has been unknown or forbidden for longer than topics.wait, as policy says.
func (k *Kafka) whenQuiet(q *queue, now time.Time) {
	if q.inFlight > 0 || q.empty() || k.err != nil {
		return
	}
	refused := q.refused
	q.refused = nil
	switch {
	case refused != nil && q.batches[0] == refused.batch:
		k.divide(q, refused)
	case refused != nil:
		// One before it failed too: both are sent again first.
	case k.givesUp(q.topic) && !q.barred.IsZero() && now.Sub(q.barred) > k.cfg.Topics.Wait:
		k.abandonQueue(q)
	}
}

// certain says that Kafka holds nothing of q's unacked batches, so that their sequence numbers can be given to others. If
// it cannot be known the session ends: a batch under numbers that the broker has seen would be lost, and acked.
func (k *Kafka) certain(q *queue) bool {
	for i, b := range q.batches {
		if b.acked && !b.standIn || i == 0 && b.unsure {
			k.failLocked(fmt.Errorf("%s refuses a batch, and may hold it or one behind it all the same; the session starts over", q))
			return false
		}
	}
	return true
}

// divide takes a refused batch apart: a batch of one record is poison, of a larger one the parts are sent, until the
// record is named. The queue is then numbered anew from there.
func (k *Kafka) divide(q *queue, r *refusal) {
	if !k.certain(q) {
		return
	}
	parts, err := r.batch.divide(r.record)
	if err != nil {
		k.failLocked(fmt.Errorf("divide a refused batch of %s: %w", q, err))
		return
	}
	seq := r.batch.seq
	if parts == nil {
		if parts, err = k.condemn(q, r); err != nil {
			k.failLocked(err)
			return
		}
	} else if r.code == codeMessageTooLarge || r.code == codeRecordListTooLarge {
		// A batch that was filled before the last one shrank may still be larger.
		q.topic.batchBytes = min(q.topic.batchBytes, max(r.batch.wire.Len()/2, smallestBuffer))
	}
	for _, part := range parts {
		k.buffers.inUse += int64(cap(part.memory()))
	}
	k.buffers.put(r.batch.memory())
	q.batches = append(parts, q.batches[1:]...)
	q.renumber(seq)
	k.checkIdle()
	if k.room.Signal(); q.leader != nil {
		q.leader.wakeUp()
	}
}

// divide splits b around the record at index named, or in halves where that is -1. A batch of one record has no parts.
func (b *batch) divide(named int) ([]*batch, error) {
	n := b.wire.Count()
	if n == 1 {
		return nil, nil
	}
	cuts := []int{n / 2}
	if named >= 0 {
		cuts = []int{named, named + 1}
	}
	var parts []*batch
	rest, done := b.wire, 0
	add := func(wire record.Batch) {
		// The first number of a later part is larger, but not known; a smaller one only delays the checkpoint.
		parts = append(parts, &batch{wire: wire, sealed: true, first: b.first, oldest: b.oldest})
	}
	for _, cut := range cuts {
		if cut == done || cut == n {
			continue
		}
		head, tail, err := rest.Split(cut - done)
		if err != nil {
			return nil, err
		}
		add(head)
		rest, done = tail, cut
	}
	add(rest)
	parts[len(parts)-1].then = b.then // acked last
	return parts, nil
}

// condemn lets policy decide about the one record of a refused batch, and gives what takes its place.
func (k *Kafka) condemn(q *queue, r *refusal) (instead []*batch, err error) {
	if q.topic.deadLetter && (r.code == codeMessageTooLarge || r.code == codeRecordListTooLarge) {
		if shorter, err := shorten(r.batch, k.cfg.Compression); err != nil || shorter != nil {
			return []*batch{shorter}, err
		}
	}
	p := &Poison{Where: "partition " + q.String(), Reason: (&answerError{r.code, r.message}).Error(), topic: q.topic.name, letter: q.topic.deadLetter}
	readErr := r.batch.wire.Records(func(_ int, rec record.Record) bool {
		p.identify(rec)
		switch policy := k.judge(p); {
		case policy == Stop, policy == DeadLetter && q.topic.deadLetter:
			err = p
		case policy == DeadLetter:
			b := standIn(heldRow{number: r.batch.first, commit: r.batch.oldest})
			k.buryAt(q, b, &rec, p)
			instead = append(instead, b)
		default:
			k.records--
			r.batch.done()
		}
		return false
	})
	return instead, cmp.Or(err, readErr)
}

// identify takes position and id from a record's headers: the first id, for a row may bring a header of that name.
func (p *Poison) identify(rec record.Record) {
	for i := len(rec.Headers) - 1; i >= 0; i-- {
		h := &rec.Headers[i]
		switch string(h.Key) {
		case route.HeaderID:
			p.ID = string(route.PlainID(h.Value))
		case route.HeaderPosition:
			_, p.Position, _ = strings.Cut(string(h.Value), ":") // the relay's name is in front
		}
	}
}
