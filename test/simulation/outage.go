package simulation

import "time"

// What goes wrong with the servers.

func (n *nemesis) stopBroker() (string, func(string)) {
	id, election, lasts := int32(1+n.rng.IntN(3)), n.between(0, 4*time.Second), n.between(0, 10*time.Second)
	return brokerAddr(id), func(string) {
		n.w.kafka.stop(id)
		time.Sleep(election)
		n.w.kafka.elect()
		time.Sleep(lasts)
		n.w.kafka.start(id)
		n.w.kafka.elect()
	}
}

// stopBrokers takes all of them away for a while.
func (n *nemesis) stopBrokers() (string, func(string)) {
	lasts := n.between(0, 10*time.Second)
	return "weather", func(string) { n.w.kafka.away(lasts) }
}

// loseKafka takes all brokers away, longer than they remember a producer. When they come back answers get lost, so that
// batches are sent again whose rows were committed long before.
func (n *nemesis) loseKafka() (string, func(string)) {
	lasts := n.between(0, 3*time.Minute)
	return "weather", func(string) {
		n.w.kafka.locked(func() { n.w.kafka.weather = weather{lostAnswer: 400, timedOut: 200} })
		n.w.kafka.away(lasts)
		time.Sleep(10 * time.Second)
		n.w.kafka.locked(func() { n.w.kafka.weather = weather{} })
	}
}

// away is an outage of all brokers.
func (k *cluster) away(lasts time.Duration) {
	for id := int32(1); int(id) < len(k.up); id++ {
		k.stop(id)
	}
	time.Sleep(lasts)
	for id := int32(1); int(id) < len(k.up); id++ {
		k.start(id)
	}
	k.elect()
}

func (n *nemesis) moveLeader() (string, func(string)) {
	return "a leader", func(string) { n.w.kafka.move(func(*partition) int32 { return n.w.kafka.pick() }) }
}

func (n *nemesis) loseLeader() (string, func(string)) {
	lasts := n.between(0, 8*time.Second)
	return "a leader", func(string) {
		n.w.kafka.move(func(*partition) int32 { return -1 })
		time.Sleep(lasts)
		n.w.kafka.elect()
	}
}

func (n *nemesis) moveCoordinator() (string, func(string)) {
	return "coordinator", func(string) { n.w.kafka.locked(func() { n.w.kafka.seat = n.w.kafka.pick() }) }
}

func (n *nemesis) badWeather() (string, func(string)) {
	odds := func() int {
		if n.rng.IntN(2) == 0 {
			return 0
		}
		return int(n.between(0, 300))
	}
	w := weather{odds(), odds(), odds(), odds(), odds(), odds(), odds() / 4, odds() / 4}
	lasts := n.between(time.Second, 10*time.Second)
	return "weather", func(string) {
		n.w.kafka.locked(func() { n.w.kafka.weather = w })
		time.Sleep(lasts)
		n.w.kafka.locked(func() { n.w.kafka.weather = weather{} })
	}
}

// takeRights lets the relay do nothing with a topic for a while.
func (n *nemesis) takeRights() (string, func(string)) {
	kind, lasts := n.rng.IntN(1+len(kinds)), n.between(0, 8*time.Second)
	topic := "outbox.event.order"
	if kind < len(kinds) {
		topic = "outbox.event." + kinds[kind]
	}
	return "rights", func(string) {
		n.w.kafka.locked(func() { n.w.kafka.forbidden = topic })
		time.Sleep(lasts)
		n.w.kafka.locked(func() { n.w.kafka.forbidden = "" })
	}
}

func (n *nemesis) addPartitions() (string, func(string)) {
	const most = 6
	topic := "outbox.event.order"
	if kind := n.rng.IntN(1 + len(kinds)); kind < len(kinds) {
		topic = "outbox.event." + kinds[kind]
	}
	more := int32(1 + n.rng.IntN(2))
	return topic, func(string) {
		n.w.kafka.locked(func() {
			if now := n.w.kafka.topics[topic]; now > 0 {
				n.w.kafka.grow(topic, min(now+more, most))
			}
		})
	}
}

// letOthersWrite has somebody else write into the relay's topics, and copy records of the relay's, headers and all.
func (n *nemesis) letOthersWrite() (string, func(string)) {
	batches, copies := 1+n.rng.IntN(5), n.rng.IntN(3)
	return "neighbour", func(string) {
		for range batches {
			n.w.kafka.locked(func() { n.w.kafka.intrude(copies > 0) })
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// removeRecords is the retention of topics: it takes what no restart of the relay looks for.
func (n *nemesis) removeRecords() (string, func(string)) {
	return "retention", func(string) {
		wanted := n.w.pg.wanted()
		n.w.kafka.locked(func() {
			for at, from := range wanted {
				n.w.kafka.partitions[at].remove(from)
			}
		})
	}
}

func (n *nemesis) crashPostgres() (string, func(string)) {
	lasts := n.between(0, 5*time.Second)
	return "postgres", func(string) {
		n.w.pg.crash()
		time.Sleep(lasts)
		n.w.pg.start()
	}
}

func (n *nemesis) failOver() (string, func(string)) {
	lasts := n.between(0, 5*time.Second)
	return "postgres", func(string) {
		n.w.pg.crash()
		time.Sleep(lasts)
		n.w.pg.promote()
	}
}

// stopPostgres is a planned restart. It must not have to wait for a relay that can be reached.
func (n *nemesis) stopPostgres() (string, func(string)) {
	lasts := n.between(0, 5*time.Second)
	return "postgres", func(string) {
		n.w.pg.stop()
		began := time.Now()
		for !n.w.pg.is(down) {
			time.Sleep(10 * time.Millisecond)
			if time.Since(began) > time.Minute+3*n.w.pg.senderTimeout { // longer than connections are held up
				n.w.fail("a shutdown of Postgres waits for the relay")
				return
			}
		}
		time.Sleep(lasts)
		n.w.pg.start()
	}
}

func (n *nemesis) terminateWalsender() (string, func(string)) {
	return "walsender", func(string) { n.w.pg.terminate() }
}

// fillPostgres leaves no connection for who comes now.
func (n *nemesis) fillPostgres() (string, func(string)) {
	lasts := n.between(0, 8*time.Second)
	return "connections", func(string) {
		n.w.pg.full.Store(true)
		time.Sleep(lasts)
		n.w.pg.full.Store(false)
	}
}

// leadElsewhere makes the address of Postgres lead to two servers for a while, with the same data and the same name.
func (n *nemesis) leadElsewhere() (string, func(string)) {
	lasts := n.between(0, 8*time.Second)
	return "address", func(string) {
		n.w.lead(n.w.pg.clone())
		time.Sleep(lasts)
		n.w.lead(nil)
	}
}

// lead lets the address of Postgres lead to another server too, or not any more.
func (w *world) lead(to *server) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.twin = to
	clear(w.turns)
}
