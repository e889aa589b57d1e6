package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outrider-relay/outrider/cdc"
)

// Faults that only a person can judge. Each has the stage for itself, demands its verdict, decides by `outrider resolve` as
// docs/operating.md says, and pardons what that verdict, by its own words, lets happen; nothing else.

// verdictPatience is how long a verdict, and the way out of it, may take.
const verdictPatience = 90 * time.Second

// decide waits for a verdict and decides about it. It returns what the relay had said, when one relays again.
func (n *nemesis) decide(ctx context.Context, verdict string, decision func(reason string) []string) (reason string, err error) {
	err = await(ctx, verdictPatience, func() error {
		for _, s := range n.seats {
			if st, err := s.ask(); err == nil && st.State == cdc.Halted && st.Verdict != nil && st.Verdict.Case == verdict {
				reason = st.Reason
				return nil
			}
		}
		return fmt.Errorf("no relay is blocked (%s)", verdict)
	})
	if err != nil {
		return "", n.undecided(err)
	}
	if said, err := n.outrider(ctx, append([]string{"resolve"}, decision(reason)...)...); err != nil {
		return "", n.undecided(fmt.Errorf("outrider resolve: %w\n%s", err, said))
	}
	n.tally.count(func(r *Report) { r.Decisions++ })
	err = await(ctx, verdictPatience, func() error {
		leads := 0
		for _, s := range n.seats {
			st, err := s.ask()
			switch {
			case err != nil:
				return err
			case st.State == cdc.Halted:
				return fmt.Errorf("relay %s is still blocked: %s", s.name, st.Reason)
			case st.State == cdc.Relaying:
				leads++
			}
		}
		if leads == 0 {
			return errors.New("no relay relays")
		}
		return nil
	})
	return reason, n.undecided(err)
}

// undecided books that a verdict, or its end, did not come. The run cannot go on then.
func (n *nemesis) undecided(err error) error {
	if err != nil {
		n.blocked.Do(func() {
			n.tally.violate(stuckRelay, "%v\n%s\n%s", err, n.seats[0].describe(), n.seats[1].describe())
			close(n.hopeless)
		})
	}
	return nil
}

// always decides the same, whatever was said.
func always(decision string) func(string) []string {
	return func(string) []string { return []string{decision} }
}

// standsAt kills both relays and gives their checkpoint, once nobody reads the slot.
func (n *nemesis) standsAt(ctx context.Context) (lsn pglogrepl.LSN, err error) {
	for _, s := range n.seats {
		s.kill()
	}
	err = await(ctx, verdictPatience, func() error {
		var active bool
		err := n.database.query(ctx, `select active from pg_replication_slots where slot_name = $1`, []any{slotName}, &active)
		if err == nil && active {
			err = errors.New("the slot is in use")
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return n.lsn(ctx, `select lsn::text from outrider.checkpoint where name = $1`, relayName)
}

func (n *nemesis) lsn(ctx context.Context, sql string, args ...any) (pglogrepl.LSN, error) {
	var text string
	if err := n.database.query(ctx, sql, args, &text); err != nil {
		return 0, err
	}
	return pglogrepl.ParseLSN(text)
}

// advanceSlot has somebody move the slot behind the relays' back.
func advanceSlot(ctx context.Context, n *nemesis) error {
	checkpoint, err := n.standsAt(ctx)
	if err != nil {
		return err
	}
	n.hold(500*time.Millisecond, 2*time.Second)
	moved, err := n.lsn(ctx, `select end_lsn::text from pg_replication_slot_advance($1, pg_current_wal_lsn())`, slotName)
	if err != nil {
		return err
	}
	n.journal.pardon(pardon{after: checkpoint, until: moved, loss: true, place: nowhere})
	if err := n.startBoth(); err != nil {
		return err
	}
	_, err = n.decide(ctx, "gap", always("--accept-loss"))
	return err
}

// dropSlot has somebody drop the slot. The relay makes another one when it has been told to go on.
func dropSlot(ctx context.Context, n *nemesis) error {
	checkpoint, err := n.standsAt(ctx)
	if err != nil {
		return err
	}
	if err := n.database.exec(ctx, `select pg_drop_replication_slot('`+slotName+`')`); err != nil {
		return err
	}
	n.hold(0, time.Second)
	if err := n.startBoth(); err != nil {
		return err
	}
	// Where it begins is in a view only until it is confirmed for the first time.
	begins := make(chan pglogrepl.LSN, 1)
	go func() {
		var from pglogrepl.LSN
		_ = await(ctx, 2*verdictPatience, func() (err error) { // without one nothing is pardoned
			from, err = n.lsn(ctx, `select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1`, slotName)
			return err
		})
		begins <- from
	}()
	_, err = n.decide(ctx, "gap", always("--accept-loss"))
	n.journal.pardon(pardon{after: checkpoint, until: <-begins, loss: true, place: nowhere})
	return err
}

// dropPublication has somebody drop what the slot is read by, and make it again.
func dropPublication(ctx context.Context, n *nemesis) error {
	defer n.unfit()()
	checkpoint, err := n.lsn(ctx, `select lsn::text from outrider.checkpoint where name = $1`, relayName)
	if err != nil {
		return err
	}
	if err := n.database.exec(ctx, `drop publication outrider`); err != nil {
		return err
	}
	n.hold(time.Second, 3*time.Second)
	if err := n.database.exec(ctx, `create publication outrider for table public.outbox with (publish = 'insert')`); err != nil {
		return err
	}
	var until pglogrepl.LSN
	_, err = n.decide(ctx, "gap", func(reason string) []string {
		_, advice, _ := strings.Cut(reason, "--restart-at ")
		at, _, _ := strings.Cut(advice, " ")
		until, _ = pglogrepl.ParseLSN(strings.TrimRight(at, ".,`'")) // where it is none, resolve says so
		return []string{"--restart-at", until.String()}
	})
	n.journal.pardon(pardon{after: checkpoint, until: until, loss: true, place: nowhere})
	return err
}

// deleteRecords has somebody delete what a restart has to look at.
func deleteRecords(ctx context.Context, n *nemesis) error {
	checkpoint, err := n.standsAt(ctx)
	if err != nil {
		return err
	}
	shot, err := n.look(ctx)
	if err != nil {
		return err
	}
	if err := await(ctx, verdictPatience, func() error { return n.checker.behind(shot) }); err != nil {
		return err
	}
	end, err := n.lsn(ctx, `select pg_current_wal_lsn()::text`)
	if err != nil {
		return err
	}
	topic := n.topic()
	offsets := make(kadm.Offsets)
	for at, offset := range shot.ends {
		if at.topic == topic {
			offsets.Add(kadm.Offset{Topic: at.topic, Partition: at.partition, At: offset})
			number := n.checker.forget(at)
			n.journal.pardon(pardon{after: checkpoint, until: end, repeat: true, place: number})
		}
	}
	deleted, err := n.cluster.admin.DeleteRecords(ctx, offsets)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		return err
	}
	if err := n.startBoth(); err != nil {
		return err
	}
	if _, err := n.decide(ctx, "tail incomplete", always("--accept-repeats")); err != nil {
		return err
	}
	return n.awaitBeyond(ctx, topic, offsets)
}

// awaitBeyond waits until no restart looks at what was deleted any more. One that did would come to the same verdict, and somebody
// would have to decide again.
func (n *nemesis) awaitBeyond(ctx context.Context, topic string, deleted kadm.Offsets) error {
	return n.undecided(await(ctx, verdictPatience, func() (err error) {
		deleted.Each(func(o kadm.Offset) {
			var from int64
			asked := n.database.query(ctx, `select coalesce(max(scan_from), $4) from outrider.partition where name = $1 and topic = $2 and partition = $3`,
				[]any{relayName, topic, o.Partition, o.At}, &from)
			if asked == nil && from < o.At {
				asked = fmt.Errorf("a restart looks at %s/%d from %d on, and the log begins at %d", topic, o.Partition, from, o.At)
			}
			err = errors.Join(err, asked)
		})
		return err
	}))
}
