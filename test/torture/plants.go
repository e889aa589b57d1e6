package main

import "time"

// plant is a bug that the relay can be made to have (failpoint.Plants), and what shows it.
type plant struct {
	bug    string
	faults []string // that provoke it
	rate   int      // of the rows, a second
	env    []string // of the relays
	lasts  time.Duration
	// shows are the kinds of violations that it is known by: another one would be another bug's.
	shows []string
}

const (
	// smallBatches has many batches of a partition under way at once.
	smallBatches = "OUTRIDER_KAFKA_BATCH_BYTES=4KiB"
	// noRenewals leaves the partitions without markers between two starts.
	noRenewals = "FAILPOINT_RENEWAL=1h"
	// noRetention leaves the checkpoint where the last event was: to delete rows takes a later one.
	noRetention = "OUTRIDER_OUTBOX_RETENTION=0s"
)

var plants = []plant{
	{bug: "what was received is confirmed", faults: []string{"black-hole-kafka"}, rate: 500, lasts: time.Minute, shows: []string{confirmedEarly}},
	// It repeats the last transaction of a relay that had time to store it, and to write how far it has come.
	{bug: "a transaction's commit LSN is taken for its end", faults: []string{"kill-idle"}, rate: 5, env: []string{noRetention}, lasts: time.Minute, shows: []string{repeatedEvent}},
	{bug: "a queue goes on after a failure", faults: []string{"move-leaders", "cut-kafka"}, rate: 3000, env: []string{smallBatches}, lasts: time.Minute, shows: []string{misordered, overtaken, lostEvent}},
	{bug: "no fence", faults: []string{"late-zombie"}, rate: 500, env: []string{noRenewals}, lasts: time.Minute, shows: []string{repeatedEvent}},
	{bug: "the answer to EndTxn is taken for the barrier", faults: []string{"late-markers"}, rate: 500, env: []string{noRenewals}, lasts: time.Minute, shows: []string{repeatedEvent}},
	{bug: "positions carry the session's timeline", faults: []string{"promote"}, rate: 500, lasts: time.Minute, shows: []string{misplaced, blockedRelay}},
	{bug: "a save without the generation", faults: []string{"late-save"}, rate: 500, lasts: time.Minute, shows: []string{blockedRelay, repeatedEvent}},
	{bug: "a dead letter leaves its queue before its ack", faults: []string{"late-letters"}, rate: 500, lasts: time.Minute, shows: []string{overtaken}},
}
