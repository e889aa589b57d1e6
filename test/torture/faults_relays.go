package main

import (
	"context"
	"fmt"
	"time"

	"github.com/outrider-relay/outrider/test/harness"
)

// Faults of the relays' processes, and of their ways to the servers. Whatever Postgres and Kafka do at the same time is the
// other side's: here it only means that something could not be done.

func killLeader(_ context.Context, n *nemesis) error {
	leader, _ := n.leader()
	return n.killAndStart(leader, 2*time.Second)
}

func killStandby(_ context.Context, n *nemesis) error {
	_, other := n.leader()
	return n.killAndStart(other, 2*time.Second)
}

func killBoth(_ context.Context, n *nemesis) error { return n.killAndStartBoth(time.Second) }

func killStarting(_ context.Context, n *nemesis) error {
	for range 2 + n.rng.IntN(4) {
		if err := n.killAndStartBoth(0); err != nil {
			return err
		}
		n.hold(0, 900*time.Millisecond)
	}
	return n.killAndStartBoth(0)
}

// killAndStart leaves a seat empty for a while.
func (n *nemesis) killAndStart(s *seat, most time.Duration) error {
	s.kill()
	n.hold(0, most)
	return s.start()
}

func (n *nemesis) killAndStartBoth(most time.Duration) error {
	for _, s := range n.seats {
		s.kill()
	}
	n.hold(0, most)
	return n.startBoth()
}

func (n *nemesis) startBoth() error {
	for _, s := range n.seats {
		if err := s.start(); err != nil {
			return err
		}
	}
	return nil
}

func stopLeader(ctx context.Context, n *nemesis) error {
	leader, _ := n.leader()
	leader.stop(ctx)
	n.hold(0, time.Second)
	return leader.start()
}

func stopBoth(ctx context.Context, n *nemesis) error {
	for _, s := range n.seats {
		s.stop(ctx)
	}
	n.hold(0, time.Second)
	return n.startBoth()
}

func freezeLeader(_ context.Context, n *nemesis) error {
	leader, _ := n.leader()
	leader.freeze()
	n.hold(50*time.Millisecond, 2*time.Second)
	leader.thaw()
	return nil
}

func freezeLeaderLong(ctx context.Context, n *nemesis) error {
	leader, _ := n.leader()
	leader.freeze()
	n.awaitTakeover(ctx, leader)
	n.hold(0, 2*time.Second)
	leader.thaw()
	return nil
}

func freezeBoth(_ context.Context, n *nemesis) error {
	for _, s := range n.seats {
		s.freeze()
	}
	n.hold(100*time.Millisecond, 4*time.Second)
	for _, s := range n.seats {
		s.thaw()
	}
	return nil
}

func starveLeader(_ context.Context, n *nemesis) error {
	leader, _ := n.leader()
	for range 10 + n.rng.IntN(20) {
		leader.freeze()
		n.hold(20*time.Millisecond, 200*time.Millisecond)
		leader.thaw()
		n.hold(5*time.Millisecond, 40*time.Millisecond)
	}
	return nil
}

// zombie has the leader wake when another one has long gone on: Kafka alone can stop what it sends then.
func zombie(ctx context.Context, n *nemesis) error {
	leader, _ := n.leader()
	leader.freeze()
	leader.postgres.Vanish(everybody)
	n.awaitTakeover(ctx, leader)
	n.hold(0, time.Second)
	leader.thaw()
	return nil
}

func everybody([]byte) bool { return true }

// takeoverPatience is how long a fault waits for another relay to lead. What keeps it may be the other side's.
const takeoverPatience = 12 * time.Second

func (n *nemesis) awaitTakeover(ctx context.Context, from *seat) {
	_ = await(ctx, takeoverPatience, func() error { // the fault is one in any case
		if leader, _ := n.leader(); leader == from && n.life.Err() == nil {
			return fmt.Errorf("relay %s leads", from.name)
		}
		return nil
	})
}

func cutPostgres(_ context.Context, n *nemesis) error {
	leader, _ := n.leader()
	leader.postgres.Cut()
	return nil
}

func halfOpenPostgres(_ context.Context, n *nemesis) error {
	leader, _ := n.leader()
	leader.postgres.Freeze()
	return nil
}

func vanish(_ context.Context, n *nemesis) error {
	leader, _ := n.leader()
	leader.postgres.Vanish(everybody)
	return nil
}

func blackHolePostgres(_ context.Context, n *nemesis) error {
	leader, _ := n.leader()
	leader.postgres.Stall()
	n.hold(500*time.Millisecond, 9*time.Second)
	leader.postgres.Resume()
	return nil
}

func refusePostgres(_ context.Context, n *nemesis) error {
	for _, s := range n.seats {
		s.postgres.Refuse()
		s.postgres.Cut()
	}
	n.hold(100*time.Millisecond, 3*time.Second)
	for _, s := range n.seats {
		s.postgres.Accept()
	}
	return nil
}

func slowPostgres(_ context.Context, n *nemesis) error {
	for _, s := range n.seats {
		s.postgres.Latency(10*time.Millisecond + time.Duration(n.rng.IntN(60))*time.Millisecond)
	}
	n.hold(2*time.Second, 5*time.Second)
	for _, s := range n.seats {
		s.postgres.Latency(0)
	}
	return nil
}

// trickle is so many bytes a second.
const trickle = 8 << 10

func tricklePostgres(_ context.Context, n *nemesis) error {
	for _, s := range n.seats {
		s.postgres.Trickle(trickle)
	}
	n.hold(2*time.Second, 5*time.Second)
	for _, s := range n.seats {
		s.postgres.Trickle(0)
	}
	return nil
}

func terminateWalsender(ctx context.Context, n *nemesis) error {
	return skip(n.database.exec(ctx, `select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '`+slotName+`' and active`))
}

func terminateOne(ctx context.Context, n *nemesis) error {
	return skip(n.database.exec(ctx, `select pg_terminate_backend(pid) from (select pid from pg_stat_activity where usename = 'relay' order by random() limit 1) one`))
}

func terminateAll(ctx context.Context, n *nemesis) error {
	return skip(n.database.exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity where usename = 'relay'`))
}

func cutKafka(_ context.Context, n *nemesis) error {
	leader, _ := n.leader()
	leader.toKafka((*harness.Proxy).Cut)
	return nil
}

func halfOpenKafka(_ context.Context, n *nemesis) error {
	leader, _ := n.leader()
	leader.kafka[n.rng.IntN(nodes)].Freeze()
	return nil
}

func blackHoleKafka(_ context.Context, n *nemesis) error {
	leader, _ := n.leader()
	leader.toKafka((*harness.Proxy).Stall)
	n.hold(500*time.Millisecond, 10*time.Second)
	leader.toKafka((*harness.Proxy).Resume)
	return nil
}

func refuseKafka(_ context.Context, n *nemesis) error {
	leader, _ := n.leader()
	leader.toKafka((*harness.Proxy).Refuse)
	leader.toKafka((*harness.Proxy).Cut)
	n.hold(100*time.Millisecond, 5*time.Second)
	leader.toKafka((*harness.Proxy).Accept)
	return nil
}

func slowKafka(_ context.Context, n *nemesis) error {
	delay := 10*time.Millisecond + time.Duration(n.rng.IntN(100))*time.Millisecond
	for _, s := range n.seats {
		s.toKafka(func(p *harness.Proxy) { p.Latency(delay) })
	}
	n.hold(2*time.Second, 5*time.Second)
	for _, s := range n.seats {
		s.toKafka(func(p *harness.Proxy) { p.Latency(0) })
	}
	return nil
}

func trickleKafka(_ context.Context, n *nemesis) error {
	leader, _ := n.leader()
	leader.toKafka(func(p *harness.Proxy) { p.Trickle(trickle) })
	n.hold(2*time.Second, 5*time.Second)
	leader.toKafka(func(p *harness.Proxy) { p.Trickle(0) })
	return nil
}

func lossyKafka(_ context.Context, n *nemesis) error {
	loss := &harness.Lossy{Every: 3}
	for _, s := range n.seats {
		s.toKafka(func(p *harness.Proxy) { p.SetFilter(loss.Filter); p.Cut() })
	}
	n.hold(2*time.Second, 6*time.Second)
	for _, s := range n.seats {
		s.toKafka(func(p *harness.Proxy) { p.SetFilter(nil); p.Cut() })
	}
	return nil
}
