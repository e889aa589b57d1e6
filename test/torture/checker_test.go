package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/twmb/franz-go/pkg/kgo"
)

// script is a run without servers: what writers, witness and Kafka say is made up.
type script struct {
	t       *testing.T
	stage   *stage
	offsets map[place]int64
}

func newScript(t *testing.T) *script {
	t.Helper()
	s := &stage{plan: Plan{Seed: 7}, tally: newTally(Plan{}), availability: &availability{}, witness: &witness{}}
	s.journal = newJournal(s.tally)
	s.checker = newChecker(s)
	return &script{t: t, stage: s, offsets: make(map[place]int64)}
}

// begin makes a transaction with a row for each of the versions of aggregate 0, an order.
func (s *script) begin(f fate, versions ...uint32) *transaction {
	tx := s.stage.journal.begin("made up", 0)
	for _, v := range versions {
		s.stage.journal.plan(tx, row{version: v, fate: f})
	}
	return tx
}

// commit does so at an LSN, and has the witness tell it.
func (s *script) commit(lsn pglogrepl.LSN, versions ...uint32) *transaction {
	return s.end(s.begin(live, versions...), lsn)
}

func (s *script) end(tx *transaction, lsn pglogrepl.LSN) *transaction {
	s.t.Helper()
	s.stage.journal.close(tx, committed, "")
	var ids []string
	for i := range tx.rows {
		ids = append(ids, eventID{tx.number, uint32(i)}.String())
	}
	if err := s.stage.journal.witness(lsn, lsn+10, ids); err != nil {
		s.t.Fatal(err)
	}
	s.stage.witness.read.Store(uint64(lsn + 10))
	return tx
}

// arrive puts a row into partition 0 of its topic, as change leaves it.
func (s *script) arrive(tx *transaction, index int, change ...func(*kgo.Record)) {
	r := &tx.rows[index]
	e := newEvent(eventID{tx.number, uint32(index)}, int(r.aggregate), r.version, "pad")
	at := tx.at
	if !tx.witnessed {
		at = position{1, 500}
	}
	header := func(k, v string) kgo.RecordHeader { return kgo.RecordHeader{Key: k, Value: []byte(v)} }
	record := &kgo.Record{Topic: topicPrefix + e.kind, Key: []byte(e.key), Value: []byte(e.payload), Headers: []kgo.RecordHeader{
		header("id", e.id.String()), header("event_type", eventType), header("version", "0"), header("sum", ""), header("outrider-position", relayName+":"+at.String()+":"),
	}}
	setHeader(record, "version", strings.TrimSpace(string(rune('0'+r.version))))
	setHeader(record, "sum", checksum(s.stage.plan.Seed, e.id.String(), e.key, string(record.Headers[2].Value), e.payload))
	setHeader(record, "outrider-position", string(record.Headers[4].Value)+string(rune('0'+index)))
	for _, c := range change {
		c(record)
	}
	where := place{record.Topic, record.Partition}
	record.Offset = s.offsets[where]
	s.offsets[where]++
	s.stage.checker.take(record)
}

func setHeader(r *kgo.Record, name, value string) {
	for i := range r.Headers {
		if r.Headers[i].Key == name {
			r.Headers[i].Value = []byte(value)
		}
	}
}

// with sets a header of a record.
func with(name, value string) func(*kgo.Record) {
	return func(r *kgo.Record) { setHeader(r, name, value) }
}

func inPartition(p int32) func(*kgo.Record)  { return func(r *kgo.Record) { r.Partition = p } }
func inTopic(topic string) func(*kgo.Record) { return func(r *kgo.Record) { r.Topic = topic } }

// found are the kinds of violations that the run ends with.
func (s *script) found() (kinds []string) {
	s.t.Helper()
	if err := s.stage.checker.finish(0); err != nil {
		s.t.Fatal(err)
	}
	for _, v := range s.stage.tally.report.Violations {
		kinds = append(kinds, v.Kind)
	}
	return kinds
}

func TestCheckerSeesWhatIsWrongAndNothingElse(t *testing.T) {
	everything := func(p pardon) pardon { p.until, p.place = 10_000, nowhere; return p }
	for name, c := range map[string]struct {
		play func(s *script)
		want []string
	}{
		"all is well": {func(s *script) {
			s.arrive(s.commit(100, 1, 2), 0)
			s.arrive(s.stage.journal.transactions[1], 1)
		}, nil},
		"the record comes before the witness tells": {func(s *script) {
			tx := s.begin(live, 1)
			s.arrive(tx, 0, with("outrider-position", relayName+":1:0/64:0"))
			s.end(tx, 100)
		}, nil},
		"an event is missing":      {func(s *script) { s.commit(100, 1) }, []string{lostEvent}},
		"an event is there twice":  {func(s *script) { tx := s.commit(100, 1); s.arrive(tx, 0); s.arrive(tx, 0) }, []string{repeatedEvent}},
		"the order is wrong":       {func(s *script) { tx := s.commit(100, 1, 2); s.arrive(tx, 1); s.arrive(tx, 0) }, []string{misordered}},
		"nobody wrote it":          {func(s *script) { s.arrive(s.commit(100, 1), 0, with("id", eventID{9, 0}.String())) }, []string{invented, lostEvent}},
		"an id of somebody else":   {func(s *script) { s.arrive(s.commit(100, 1), 0, with("id", "6ba7b810-9dad-41d1-80b4-00c04fd430c8")) }, []string{invented, lostEvent}},
		"it was rolled back":       {func(s *script) { tx := s.begin(live, 1); s.stage.journal.close(tx, aborted, ""); s.arrive(tx, 0) }, []string{invented}},
		"it is rolled back later":  {func(s *script) { tx := s.begin(live, 1); s.arrive(tx, 0); s.stage.journal.close(tx, aborted, "") }, []string{invented}},
		"its savepoint was undone": {func(s *script) { tx := s.begin(undone, 1); s.stage.journal.close(tx, committed, ""); s.arrive(tx, 0) }, []string{invented}},
		"a failover has lost it":   {func(s *script) { tx := s.commit(100, 1); s.stage.journal.forget([]int64{1}); s.arrive(tx, 0) }, []string{invented}},
		"its value is cut":         {func(s *script) { s.arrive(s.commit(100, 1), 0, func(r *kgo.Record) { r.Value = r.Value[:5] }) }, []string{altered}},
		"its value is another's":   {func(s *script) { s.arrive(s.commit(100, 1), 0, with("sum", "0123456789abcdef")) }, []string{altered}},
		"its key is another's":     {func(s *script) { s.arrive(s.commit(100, 1), 0, func(r *kgo.Record) { r.Key = []byte("order-3") }) }, []string{altered}},
		"its topic is another's":   {func(s *script) { s.arrive(s.commit(100, 1), 0, inTopic(topicPrefix+"parcel")) }, []string{altered}},
		"it is a dead letter":      {func(s *script) { s.arrive(s.commit(100, 1), 0, inTopic(deadLetters)) }, []string{altered}},
		"a dead letter is":         {func(s *script) { s.arrive(s.end(s.begin(letter, 1), 100), 0, inTopic(deadLetters)) }, nil},
		"a dead letter is none":    {func(s *script) { s.arrive(s.end(s.begin(letter, 1), 100), 0) }, []string{altered}},
		"either is right":          {func(s *script) { s.arrive(s.end(s.begin(either, 1), 100), 0, inTopic(deadLetters)) }, nil},
		"the commit is another":    {func(s *script) { s.arrive(s.commit(100, 1), 0, with("outrider-position", relayName+":1:0/65:0")) }, []string{misplaced}},
		"the timeline is another":  {func(s *script) { s.arrive(s.commit(100, 1), 0, with("outrider-position", relayName+":2:0/64:0")) }, []string{misplaced}},
		"the ordinal is another":   {func(s *script) { s.arrive(s.commit(100, 1), 0, with("outrider-position", relayName+":1:0/64:1")) }, []string{misplaced}},
		"the position is no such":  {func(s *script) { s.arrive(s.commit(100, 1), 0, with("outrider-position", "other:1:0/64:0")) }, []string{misplaced}},
		"the witness knows better": {func(s *script) { tx := s.begin(live, 1); s.arrive(tx, 0); s.end(tx, 100) }, []string{misplaced}},
		"its commits differ": {func(s *script) {
			tx := s.begin(live, 1, 2)
			s.arrive(tx, 0)
			s.arrive(tx, 1, with("outrider-position", relayName+":1:0/65:1"))
			s.end(tx, 500)
		}, []string{misplaced}},
		"a topic has grown": {func(s *script) {
			s.stage.checker.grown[topicPrefix+"order"] = 2
			tx := s.commit(100, 1, 2, 3)
			s.arrive(tx, 0)
			s.arrive(tx, 1, inPartition(1))
			s.arrive(tx, 2)
		}, nil},
		"a key is here and there": {func(s *script) {
			s.stage.checker.grown[topicPrefix+"order"] = 1
			tx := s.commit(100, 1, 2, 3)
			s.arrive(tx, 0)
			s.arrive(tx, 1, inPartition(1))
			s.arrive(tx, 2)
		}, []string{misordered}},
		"a loss that was accepted": {func(s *script) { s.commit(100, 1); s.stage.journal.pardon(everything(pardon{loss: true})) }, nil},
		"a loss that was not": {func(s *script) {
			s.commit(100, 1)
			s.stage.journal.pardon(pardon{after: 101, until: 200, loss: true, place: nowhere})
		}, []string{lostEvent}},
		"repeats that are accepted": {func(s *script) {
			tx := s.commit(100, 1)
			s.stage.journal.pardon(everything(pardon{repeat: true}))
			s.arrive(tx, 0)
			s.arrive(tx, 0)
		}, nil},
		"repeats from elsewhere": {func(s *script) {
			tx := s.commit(100, 1)
			s.stage.journal.pardon(pardon{until: 200, repeat: true, place: 5})
			s.arrive(tx, 0)
			s.arrive(tx, 0)
		}, []string{repeatedEvent}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t)
			c.play(s)
			if got := s.found(); !slices.Equal(got, c.want) {
				t.Errorf("violations %q, want %q", got, c.want)
			}
		})
	}
}

func TestOneRecordReadTwiceIsNoRepeat(t *testing.T) {
	s := newScript(t)
	tx := s.commit(100, 1)
	s.arrive(tx, 0)
	s.offsets[place{topicPrefix + "order", 0}] = 0
	s.arrive(tx, 0)
	if got := s.found(); len(got) > 0 {
		t.Errorf("violations %q", got)
	}
}

func TestSlotThatLetsGoTooEarlyIsSeen(t *testing.T) {
	ends := func(n int64) map[place]int64 { return map[place]int64{{topicPrefix + "order", 0}: n} }
	for name, c := range map[string]struct {
		confirmed pglogrepl.LSN
		ends      int64 // records that were in Kafka when the slot had been read, of the two that are there now
		want      int   // transactions that were not, and should have been
	}{
		"nothing is confirmed":          {109, 0, 0},
		"one, and it is there":          {110, 1, 0},
		"both, and both are there":      {210, 2, 0},
		"both, and one came later":      {210, 1, 1},
		"both came later":               {210, 0, 2},
		"between the two, and one came": {209, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t)
			s.arrive(s.commit(100, 1), 0)
			s.arrive(s.commit(200, 2), 0)
			s.stage.compare(t.Context(), snapshot{confirmed: c.confirmed, ends: ends(c.ends)})
			if got := s.found(); len(got) != c.want || c.want > 0 && got[0] != confirmedEarly {
				t.Errorf("violations %q, want %d", got, c.want)
			}
		})
	}
	t.Run("and not without having read so far", func(t *testing.T) {
		s := newScript(t)
		s.commit(100, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		s.stage.compare(ctx, snapshot{confirmed: 110, ends: ends(1)})
		if n := s.stage.tally.report.LiveChecks; n > 0 {
			t.Errorf("%d comparisons with what has not been read", n)
		}
	})
}

func TestWitnessAndJournalMustAgree(t *testing.T) {
	s := newScript(t)
	tx := s.begin(live, 1)
	s.stage.journal.close(tx, aborted, "")
	if err := s.stage.journal.agree(); err != nil {
		t.Errorf("nobody has seen what was rolled back: %v", err)
	}
	if err := s.stage.journal.witness(100, 110, []string{eventID{1, 0}.String()}); err == nil {
		t.Error("the witness may see what was rolled back")
	}
	s.stage.journal.close(s.begin(live, 2), committed, "")
	if err := s.stage.journal.agree(); err == nil {
		t.Error("a commit that nobody has seen is not missed")
	}
}

func TestTimelineIsTheOneThatOwnsThePosition(t *testing.T) {
	j := newJournal(newTally(Plan{}))
	j.promoted([]branch{{1, 100}, {2, 200}})
	for lsn, want := range map[pglogrepl.LSN]uint32{99: 1, 100: 2, 199: 2, 200: 3, 1000: 3} {
		if got := j.timelineOf(lsn); got != want {
			t.Errorf("%s is on timeline %d, not %d", lsn, got, want)
		}
	}
}
