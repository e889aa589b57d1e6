package simulation

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/sink"
	"github.com/outrider-relay/outrider/sink/broker"
)

// relay is a process of the real code: cdc, checkpoint and sink as they are, over connections in memory.
type relay struct {
	w    *world
	name string // of the process
	stop context.CancelFunc
	dead atomic.Bool
	done chan struct{} // closed when Run has returned
	err  error         // of Run
}

// logWriter gives each line the time of the simulation.
type logWriter struct {
	w    *world
	name string
}

func (l logWriter) Write(line []byte) (int, error) {
	l.w.note("%s: %s", l.name, strings.TrimSpace(string(line)))
	return len(line), nil
}

// startRelay starts a process.
func (w *world) startRelay(name string) *relay {
	r := &relay{w: w, name: name, done: make(chan struct{})}
	dial := w.net.dialler(name, r.dead.Load)
	log := zerolog.New(logWriter{w, name}).Level(zerolog.InfoLevel)
	stats := sink.NewStats()
	cfg := cdc.Config{
		Name: "model", Instance: name, Delivery: w.plan.delivery,
		Postgres: cdc.Postgres{
			URL:  "host=127.0.0.1 port=5432 user=relay password=x dbname=model sslmode=disable",
			Dial: dial, Publication: "outrider", Slot: "outrider_model", Create: true, Tables: []string{"public.outbox"},
		},
		CheckpointInterval: w.plan.checkpoint, Drain: 20 * time.Second, ExitOnBlocked: true, Log: log,
	}
	cfg.NewSink = func(ledger *cdc.Ledger) (cdc.Sink, error) {
		s := sink.Config{
			Name: "model", Brokers: []string{brokerAddr(1), brokerAddr(2), brokerAddr(3)},
			Conn:       broker.Config{Dial: dial, ClientID: name, Timeout: w.plan.brokerTimeout},
			BatchBytes: w.plan.batchBytes, RenewInterval: w.plan.renew, Stats: stats, Log: log,
		}
		if w.plan.poison > 0 {
			s.OnPoison = sink.DeadLetter
		}
		if w.plan.delivery == cdc.ExactlyOnce {
			s.Ledger = ledger
		}
		k, err := sink.New(s)
		if err != nil {
			return nil, err
		}
		return k, nil
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() {
		defer close(r.done)
		r.err = cdc.New(cfg).Run(ctx)
		if !r.dead.Load() {
			r.judge(ctx)
		}
	}()
	return r
}

// judge looks at why Run returned.
func (r *relay) judge(ctx context.Context) {
	var blocked *cdc.Blocked
	switch {
	case errors.As(r.err, &blocked):
		r.w.blocked(blocked)
	case r.err == nil && ctx.Err() != nil, errors.Is(r.err, cdc.ErrDrain):
	default:
		r.w.fail("process %s ended by itself: %v", r.name, r.err)
	}
}

// kill ends the process as kill -9 does: nothing of it leaves the host any more, but for what was under way. Where its host
// vanishes with it, the servers are not told. lost says that what was under way goes with it.
func (r *relay) kill(lost, vanishes bool) {
	r.dead.Store(true)
	r.w.net.freeze(r.name, false)
	r.w.net.each(r.name, func(l *link) { l.kill(lost, vanishes) })
	r.stop()
	<-r.done
	if errors.Is(r.err, cdc.ErrInvariant) {
		r.w.fail("process %s: %v", r.name, r.err)
	}
}
