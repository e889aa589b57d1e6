package cdc

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/outrider-relay/outrider/checkpoint"
	"github.com/outrider-relay/outrider/decoder"
)

// session is one generation of the relay: from taking the slot to letting it go. All its values belong to it alone;
// any failure and any ambiguity ends it, and the next one starts from the checkpoint.
type session struct {
	relay *Relay
	cfg   *Config
	log   zerolog.Logger
	beats *beats

	control *pgx.Conn     // saves; used by the start-up steps, and from save's start on through ask alone
	storing chan struct{} // holds a token while ask uses control: a wait that ends with its ctx, unlike a mutex's
	ears    *pgx.Conn     // only listens, so that a shutdown of the server is seen at once
	repl    *replConn     // read half: read; write half: report

	facts   facts
	created bool // the slot is new
	stoodBy bool // another relay owned the slot at first
	// readBefore says that somebody has read from the slot, for a relay without a checkpoint.
	readBefore bool

	generation int64                 // of the checkpoint row as last seen; 0: there is none
	standing   checkpoint.Standing   // what the row says about a verdict, as far as the session knows; used within ask once save runs
	verdict    *checkpoint.Verdict   // that stood when the session began
	decision   *checkpoint.Decision  // about it, to be taken
	rivalry    bool                  // that verdict was about another relay of this name
	events     []checkpoint.Decision // about single events that have not been passed
	kept       bool                  // what they pass over is noted, as rows that no retention deletes
	recorded   bool                  // the verdict that ends the session stands in the row; written by announce or at the end
	timelines  timelines
	store      *checkpoint.Store
	sink       Sink
	tracker    checkpoint.Tracker

	// The saver's.
	looked  time.Time // when publication, tables and role were last looked at
	concern string    // what was found wrong with them

	// The reader's.
	decoder        decoder.Decoder
	notNull        map[column]bool // of the published tables, when the session began
	start          lsn             // the checkpoint: transactions that committed below it are skipped
	next           uint64          // number of the next event
	inTransaction  bool
	skipping       bool
	ignored        decoder.Ignored // as noted last
	receiveTimeout time.Duration
	receiveArmed   time.Time

	reportInterval time.Duration

	// Positions: confirmed <= stored <= acked <= received; the tracker knows the latter two.
	stored    atomic.Uint64 // written by save
	confirmed atomic.Uint64 // written by save, read by report
	wanted    atomic.Uint64 // an LSN that retain waits to see stored, though no event lies below it; read by save

	goodbye    chan struct{} // ends report, with a last one
	reportDone chan struct{} // closed by report
	readerDone chan struct{} // closed by read
	saverDone  chan struct{} // closed by save
	saverStop  chan struct{} // ends save, so that drain may store the last word

	savingSince atomic.Int64 // unix nanoseconds; 0 while no save is under way. written by save, read by read
	prepared    atomic.Bool  // written once, when all that comes before the first record is stored; read by settle
	streaming   atomic.Bool  // written once, when read begins; read by watch
	stopping    atomic.Bool  // intake is to end between two transactions
	announced   atomic.Bool  // written once, when the reader has come to a verdict; read by save
	askReply    atomic.Bool  // read wants a sign of life; report sends the request

	reportNow chan struct{} // wakes report
	saveNow   chan struct{} // wakes save
	saved     chan struct{} // wakes read
}

// errStandby is the end of an attempt that found the slot in another relay's hands.
var errStandby = errors.New("another relay owns the slot")

// runSession runs one session. It returns nil when the session ended because ctx did and everything in flight was delivered.
func (r *Relay) runSession(ctx context.Context) (err error) {
	s := &session{
		relay: r, cfg: &r.cfg, log: r.cfg.Log, beats: &r.beats,
		storing:   make(chan struct{}, 1),
		reportNow: make(chan struct{}, 1), saveNow: make(chan struct{}, 1), saved: make(chan struct{}, 1),
		goodbye: make(chan struct{}), reportDone: make(chan struct{}),
		readerDone: make(chan struct{}), saverDone: make(chan struct{}), saverStop: make(chan struct{}),
	}
	defer s.close()
	defer func() {
		r.leave(s)
		err = s.mendable(s.suspect(err))
		var blocked *Blocked
		judged := errors.As(err, &blocked)
		r.looked = r.looked || judged || s.stoodBy || s.streaming.Load()
		if judged && s.control != nil {
			err = s.record(blocked)
		}
	}()
	if err := s.connect(ctx); err != nil {
		return err
	}
	failpoint("connected")
	if err := s.takeSlot(ctx); err != nil {
		return err
	}
	failpoint("slot taken")
	r.beats.done("run") // from here on the session's loops turn
	return s.own(ctx)
}

// mendable marks what a person has to mend in Postgres, with what to do about it; the rest passes by itself.
func (s *session) mendable(err error) error {
	var found findings
	var blocked *Blocked
	var sink *sinkError
	var judged judgedBySink
	switch {
	case errors.As(err, &blocked):
		return blocked
	case errors.As(err, &judged):
		return s.blockedBy(judged, err)
	case err == nil || errors.As(err, &sink):
		return err
	case classifyPg(err) == pgPublicationMissing:
		return s.publicationGone(err)
	case errors.As(err, &found), classifyPg(err) == pgConfig:
		return &preflightError{advised(err, &s.cfg.Postgres)}
	}
	return advised(err, &s.cfg.Postgres)
}

// advised adds what an operator can do about an error of Postgres.
func advised(err error, pg *Postgres) error {
	if advice := advisePg(err, pg); advice != "" {
		return fmt.Errorf("%w. Repair: %s", err, advice)
	}
	return err
}

// close lets go of all connections.
func (s *session) close() {
	if s.repl != nil {
		_ = s.repl.close()
	}
	for _, conn := range []*pgx.Conn{s.control, s.ears} {
		if conn != nil {
			ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
			_ = conn.Close(ctx)
			cancel()
		}
	}
	failpoint("session closed")
}

// connectTimeout bounds the way to the slot: three connections, and a look at the server.
const connectTimeout = 30 * time.Second

// connect opens the session's three connections and makes sure that they reach one server.
func (s *session) connect(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if s.control, err = dialControl(ctx, &s.cfg.Postgres); err != nil {
		return err
	}
	if s.ears, err = dialControl(ctx, &s.cfg.Postgres); err != nil {
		return err
	}
	if s.facts, err = preflight(ctx, s.control, &s.cfg.Postgres); err != nil {
		return err
	}
	s.looked = time.Now()
	for _, warning := range s.facts.warnings {
		s.log.Warn().Msg(warning.String())
	}
	s.relay.setServer(s.facts, s.facts.walEnd)
	return s.dialSlot(ctx)
}

// dialSlot opens the replication connection.
func (s *session) dialSlot(ctx context.Context) (err error) {
	if s.repl, err = dialReplication(ctx, &s.cfg.Postgres); err != nil {
		return err
	}
	ours, _, err := s.repl.identify(ctx)
	if err != nil {
		return err
	}
	for _, conn := range []*pgx.Conn{s.control, s.ears} {
		theirs, err := identifyServer(ctx, conn)
		if err != nil {
			return err
		}
		if err := sameServer(ours, theirs); err != nil {
			return err
		}
	}
	if s.timelines, err = s.repl.history(ctx, ours.timeline); err != nil {
		return err
	}
	timeout, err := s.repl.walSenderTimeout(ctx)
	s.receiveTimeout, s.reportInterval = receiveTimeout(timeout), reportInterval(timeout)
	return err
}

// receiveTimeout is how long the server may be silent before it is asked for a sign of life: half of what it grants us,
// and no more than half a minute.
func receiveTimeout(walSenderTimeout time.Duration) time.Duration {
	if walSenderTimeout == 0 {
		return 30 * time.Second
	}
	return min(max(walSenderTimeout/2, 500*time.Millisecond), 30*time.Second)
}

// own goes through the steps that only the slot's owner may take, streams until ctx ends, and drains. The work context
// outlives ctx: intake ends first, what is in flight later.
func (s *session) own(ctx context.Context) error {
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	group, work := errgroup.WithContext(work)
	// Letting go of the replication connection is what unblocks the reader and lets a server shut down.
	defer context.AfterFunc(work, func() { _ = s.repl.close() })()

	group.Go(func() error { defer close(s.reportDone); return s.report(work) })
	group.Go(func() error { return listen(work, s.ears) })
	err := s.prepare(ctx, work, group)
	if err == nil {
		err = s.deliver(ctx, work, group)
	}
	cancel(err)
	if ended := group.Wait(); errors.Is(err, context.Canceled) && ended != nil {
		err = ended // the part that failed first, not one that it took along
	}
	if err != nil && s.sink != nil && !errors.Is(err, ErrInvariant) {
		failpoint("session failed")
		s.lastSave()
		failpoint("failed session saved")
	}
	return err
}

// lastSave stores what was acked since the last save, if the database still takes it: less is sent again then.
func (s *session) lastSave() {
	ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
	defer cancel()
	if err := s.saveDue(ctx); err != nil {
		s.log.Debug().Err(err).Msg("last save of the session")
	}
}

// prepare takes the checkpoint row, judges what it says, and opens the sink. It returns early when ctx ends: nothing is in flight yet.
func (s *session) prepare(ctx, work context.Context, group *errgroup.Group) error {
	starting, cancel := context.WithCancel(work)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()

	row, err := s.claim(starting)
	if err != nil {
		return err
	}
	partitions, err := s.store.Partitions(starting)
	if err != nil {
		return err
	}
	failpoint("partitions known")
	if err := s.checkDecoding(row); err != nil {
		return err
	}
	if s.notNull, err = readNotNull(starting, s.control, s.cfg.Postgres.Publication); err != nil {
		return err
	}
	s.begin(row)
	if s.sink, err = s.cfg.NewSink(&Ledger{s, row, partitions}); err != nil {
		return &preflightError{err}
	}
	s.relay.session.Store(s)
	group.Go(func() error { defer close(s.saverDone); return s.save(work) })
	if err := s.sink.Start(starting); err != nil {
		if blocked := (*Blocked)(nil); errors.As(err, &blocked) {
			return blocked // a verdict of ours, which the ledger has told the sink
		}
		return asSink(fmt.Errorf("start the producer: %w", err))
	}
	failpoint("sink started")
	if err := s.judgeCluster(row, s.sink.ClusterID()); err != nil {
		return err
	}
	err = s.ask(starting, func(ctx context.Context) error {
		return s.store.Identify(ctx, checkpoint.Identity{
			SystemID: row.SystemID, Slot: s.cfg.Postgres.Slot, KafkaClusterID: s.sink.ClusterID(), Delivery: s.cfg.Delivery,
			DecodeHash: s.cfg.Postgres.decodeHash(),
		})
	})
	if err != nil {
		return err
	}
	failpoint("identity stored")
	// From here on records may be sent: the checkpoint is no longer that of a clean stop.
	if err := s.keep(starting, row.LSN, false); err != nil {
		return err
	}
	s.prepared.Store(true)
	return s.settle(starting) // before anything is sent: a decision that is taken twice would forget what was
}

// begin sets the positions of the session: everything starts at the checkpoint.
func (s *session) begin(row checkpoint.Row) {
	s.start = row.LSN
	s.tracker.Mark(0, row.LSN)
	s.tracker.Stored(row.LSN)
	s.stored.Store(uint64(row.LSN))
	s.confirmed.Store(uint64(min(row.LSN, s.facts.slot.Confirmed))) // where a person moved the start, that is not stored yet
	s.decoder = decoder.Decoder{TimelineOf: s.timelines.owner, Prefixes: s.cfg.Postgres.Prefixes, Describe: s.describe}
	if planted("positions carry the session's timeline") {
		s.decoder.TimelineOf = func(lsn) uint32 { return s.timelines.current }
	}
}

// deliver streams until ctx ends or something fails, and drains.
func (s *session) deliver(ctx, work context.Context, group *errgroup.Group) error {
	group.Go(func() error { return asSink(s.sink.Run(work)) })
	group.Go(func() error { defer close(s.readerDone); return s.read(work) })
	if s.cfg.Retention > 0 {
		group.Go(func() error { return s.retain(work) })
	}
	s.streaming.Store(true)
	s.relay.ran()
	failpoint("streaming")
	s.tellSave() // who polls the state should not wait a tick longer
	s.log.Info().Stringer("checkpoint", s.start).Uint32("timeline", s.timelines.current).Str("slot", s.cfg.Postgres.Slot).Msg("streaming")
	select {
	case <-ctx.Done():
		return s.drain(work)
	case <-work.Done():
		return context.Cause(work)
	}
}
