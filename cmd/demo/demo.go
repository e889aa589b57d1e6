package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/outrider-relay/outrider/cmd/outrider/admin"
)

// Times of the demo.
const (
	outage = 5 * time.Second
	// patience is how long the last records are waited for: an outage, and the back-off of a relay that met it.
	patience = 30 * time.Second
	// teardown bounds the removal of what was made on other people's servers.
	teardown = 15 * time.Second
)

// demo is the running parts.
type demo struct {
	screen *screen
	db     *database
	broker *broker
	relay  *supervisor
	tally  *tally
}

// run shows the relay until ctx ends or the time is up, and removes what it made. It is an error when a record is missing.
func run(ctx context.Context, o options, s *screen, keys <-chan string) (err error) {
	s.headline("Outrider carries events from Postgres to Kafka. An application writes a change and its event in one transaction;")
	s.headline("the relay reads from Postgres's log the events that were committed, and makes Kafka records of them.")
	d := &demo{screen: s, tally: newTally()}
	if d.db, err = openDatabase(ctx, o, s); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.db.close(ctx)) }()
	if d.broker, err = openBroker(ctx, o.kafka); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.broker.close(ctx)) }()
	page, err := listen(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = page.Close() }()
	d.relay = &supervisor{page: page, screen: s, settings: relaySettings{Postgres: d.db.url, Brokers: d.broker.addrs, Delivery: o.delivery}}
	return d.run(ctx, o, keys)
}

// listen opens the status page's socket at the relay's usual address, or at a free one where something else is there.
func listen(ctx context.Context) (*net.TCPListener, error) {
	l, err := admin.Listen(ctx, "127.0.0.1:9187")
	if err != nil {
		l, err = admin.Listen(ctx, "127.0.0.1:0")
	}
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// run lets the parts work until the show is over.
func (d *demo) run(ctx context.Context, o options, keys <-chan string) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, work := errgroup.WithContext(work)
	relaying := make(chan struct{})
	g.Go(func() error { return d.relay.run(work) })
	g.Go(func() error { return watch(work, d.relay.url(), d.screen, relaying) })
	g.Go(func() error { return consume(work, d.broker.addrs, d.tally, d.screen) })
	g.Go(func() error { return d.obey(work, keys) })
	g.Go(func() error {
		defer stop()
		intake, end := context.WithCancel(work)
		defer end()
		defer context.AfterFunc(ctx, end)()
		return d.show(intake, work, o, relaying)
	})
	return g.Wait()
}

// show lets the application write until intake ends or its time is up. The other parts go on until every event that was
// committed has arrived.
func (d *demo) show(intake, work context.Context, o options, relaying <-chan struct{}) error {
	select {
	case <-relaying: // rows from before the slot are not in its stream
	case <-intake.Done():
		return nil
	}
	d.hints()
	if o.duration > 0 {
		timed, cancel := context.WithTimeout(intake, o.duration)
		defer cancel()
		intake = timed
	}
	began := time.Now()
	if err := write(intake, d.db.url, o.rate, d.tally, d.screen); err != nil {
		return err
	}
	return d.settle(work, time.Since(began))
}

// settle waits for the records that are still on their way, and sums up.
func (d *demo) settle(ctx context.Context, ran time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d.tally.wait(ctx)
	sum := d.tally.sum()
	d.screen.line("")
	for _, line := range sum.lines(ran) {
		d.screen.note("summary", "%s", line)
	}
	if sum.lost > 0 || sum.ghosts > 0 {
		return fmt.Errorf("%d events that were committed have not arrived, %d that were rolled back have", sum.lost, sum.ghosts)
	}
	return nil
}

// obey does what a person types, until ctx ends.
func (d *demo) obey(ctx context.Context, keys <-chan string) error {
	var back <-chan time.Time // the end of the broker's outage
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-back:
			if err := d.broker.door.start(); err != nil {
				return fmt.Errorf("start the broker again: %w", err)
			}
			d.screen.warn("broker", "back")
			back = nil
		case key := <-keys:
			switch {
			case key == "k":
				d.relay.kill()
			case key == "b" && d.broker.embedded():
				d.screen.warn("broker", "stopped for %s; the application goes on committing", outage)
				d.broker.door.stop()
				back = time.After(outage)
			default:
				d.hints()
			}
		}
	}
}

// hints says where everything is, and what to try.
func (d *demo) hints() {
	s := d.screen
	s.line("")
	s.note("postgres", "%s", d.db.shown)
	if d.db.server != nil {
		s.note("", "its data and log are in %s", d.db.server.Dir)
	}
	s.note("kafka", "%s, topic %s", strings.Join(d.broker.addrs, ","), topic)
	s.note("status", "%s (for people), %sstatus, %smetrics", d.relay.url(), d.relay.url(), d.relay.url())
	s.line("")
	s.note("try", "k and Enter, or kill -9 %d: the relay dies; the next one goes on from the stored position", d.relay.pid())
	if d.broker.embedded() {
		s.note("try", "b and Enter: the broker is stopped for %s; see the lag grow, and shrink", outage)
	}
	s.note("try", "publish an event of your own, or roll one back:")
	s.line(`          psql '%s' -c "select outrider.publish('%s', '42', 'Hello', '{\"from\": \"me\"}')"`, d.db.shown, aggregateType)
	if d.relay.settings.Delivery == atLeastOnce {
		s.note("try", "next time, --delivery %s: then a relay that is killed repeats nothing either", exactlyOnce)
	}
	s.note("try", "h and Enter: show this again; Ctrl-C: stop, and leave nothing behind")
	s.line("")
}
