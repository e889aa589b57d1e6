package sink

import (
	"cmp"
	"hash/maphash"
	"slices"

	"github.com/jackc/pglogrepl"

	"github.com/outrider-relay/outrider/decoder"
)

// tail is the set of events that Kafka holds already although the checkpoint does not say so: what the sessions before
// this one published and did not get to store. The scan fills it; the stream, which brings the same transactions again,
// empties it. It is exact: a set of positions, and per transaction a sum over the ids of its events, so that what is
// skipped is known to be what was published.
type tail struct {
	transactions map[transaction]*published
	order        []transaction // by LSN, from at on; what the stream has not passed yet
	at           int
	seed         maphash.Seed
}

// transaction identifies one in a database's history.
type transaction struct {
	timeline uint32
	lsn      pglogrepl.LSN // commit LSN
}

// published is what Kafka holds of one transaction: a bitmap of ordinals, 1.2 MB for ten million rows.
type published struct {
	first  uint64   // ordinals 0 to 63, which are all that most have
	rest   []uint64 // from 64 on
	left   int      // published and not met in the stream yet
	met    int      // and met
	idSum  uint64   // over hashes of the ids that the scan found; order-free
	metSum uint64   // over those that the stream brought
}

func newTail() *tail {
	return &tail{transactions: make(map[transaction]*published), seed: maphash.MakeSeed()}
}

// add notes an event that the scan found. It is false for one that was found before: Kafka holds it twice.
func (t *tail) add(p decoder.Position, id []byte) bool {
	key := transaction{p.Timeline, p.LSN}
	tx := t.transactions[key]
	if tx == nil {
		tx = &published{}
		t.transactions[key] = tx
	}
	word, bit := tx.word(p.Ordinal, true)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	tx.left++
	tx.idSum += maphash.Bytes(t.seed, id)
	return true
}

// word gives the place of an ordinal in the bitmap; nil when it lies beyond, unless it is to grow.
func (p *published) word(ordinal uint64, grow bool) (word *uint64, bit uint64) {
	bit = 1 << (ordinal % 64)
	if ordinal < 64 {
		return &p.first, bit
	}
	i := ordinal/64 - 1
	if i >= uint64(len(p.rest)) {
		if !grow {
			return nil, 0
		}
		p.rest = append(p.rest, make([]uint64, i+1-uint64(len(p.rest)))...)
	}
	return &p.rest[i], bit
}

// sort makes the tail ready for the stream.
func (t *tail) sort() {
	t.order = t.order[:0]
	for key := range t.transactions {
		t.order = append(t.order, key)
	}
	slices.SortFunc(t.order, func(a, b transaction) int { return cmp.Compare(a.lsn, b.lsn) })
}

// empty says whether the stream has met everything.
func (t *tail) empty() bool { return len(t.transactions) == 0 }

// take says whether Kafka holds the event already; if so it leaves the set.
func (t *tail) take(p decoder.Position, id []byte) bool {
	tx := t.transactions[transaction{p.Timeline, p.LSN}]
	if tx == nil {
		return false
	}
	word, bit := tx.word(p.Ordinal, false)
	if word == nil || *word&bit == 0 {
		return false
	}
	*word &^= bit
	tx.left--
	tx.met++
	tx.metSum += maphash.Bytes(t.seed, id)
	return true
}

// pass tells that the stream has brought all of a transaction. Kafka must not hold more of it, nor anything of an
// earlier one, nor other events under its positions: else it holds what this database never committed.
func (t *tail) pass(p decoder.Position) error {
	key := transaction{p.Timeline, p.LSN}
	if tx := t.transactions[key]; tx != nil {
		if tx.left > 0 {
			return t.diverged(key, tx, "of which the transaction has no such events")
		}
		if tx.idSum != tx.metSum {
			return t.diverged(key, tx, "with other event ids than the transaction's")
		}
		delete(t.transactions, key)
	}
	for ; t.at < len(t.order) && t.order[t.at].lsn <= p.LSN; t.at++ {
		if tx := t.transactions[t.order[t.at]]; tx != nil {
			return t.diverged(t.order[t.at], tx, "which the database never committed")
		}
	}
	return nil
}

// Verdict is what a scan or the stream proves about Kafka and only a person can judge.
type Verdict struct {
	// Name is the case in a word or two; Reason says what was seen, Advice what to do before Option is decided.
	Name, Reason, Advice, Option string

	leftovers // that it is about
}

// Blocked gives what only a person can judge: the case in a word or two, what was seen, and what to do.
func (v *Verdict) Blocked() (verdict, reason, advice string, options []string) {
	return v.Name, v.Reason, v.Advice, []string{v.Option}
}

func (v *Verdict) Error() string { return v.Name + ": " + v.Reason + ". " + v.Advice }
