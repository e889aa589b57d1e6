package main

import (
	"github.com/outrider-relay/outrider/test/harness"
)

// faults is all that can be broken. What each does is in faults_relays.go, faults_postgres.go, faults_kafka.go and verdicts.go.
var faults []fault

func init() { // or the table, whose faults choose among faults, would refer to itself
	faults = []fault{
		{name: "kill-leader", does: "kill -9 of the relay that leads", lane: relays, weight: 10, do: killLeader},
		{name: "kill-standby", does: "kill -9 of the relay that stands by", lane: relays, weight: 3, do: killStandby},
		{name: "kill-both", does: "kill -9 of both relays", lane: relays, weight: 5, away: true, do: killBoth},
		{name: "kill-starting", does: "kill -9 of both relays, and of their successors as they start", lane: relays, weight: 4, away: true, do: killStarting},
		{name: "stop-leader", does: "SIGTERM to the relay that leads", lane: relays, weight: 5, do: stopLeader},
		{name: "stop-both", does: "SIGTERM to both relays", lane: relays, weight: 2, away: true, do: stopBoth},
		{name: "freeze-leader", does: "SIGSTOP of the leader for a moment, and SIGCONT", lane: relays, weight: 5, do: freezeLeader},
		{name: "freeze-leader-long", does: "SIGSTOP of the leader until the other one has taken over, and SIGCONT", lane: relays, weight: 4, do: freezeLeaderLong},
		{name: "freeze-both", does: "SIGSTOP of both relays, and SIGCONT", lane: relays, weight: 2, away: true, do: freezeBoth},
		{name: "starve-leader", does: "the leader gets the processor for moments only", lane: relays, weight: 3, do: starveLeader},
		{name: "zombie", does: "the leader is frozen, loses its slot, and wakes with what it had in its hands", lane: relays, weight: 6, do: zombie},
		{name: "cut-postgres", does: "the leader's connections to Postgres are reset", lane: relays, weight: 4, do: cutPostgres},
		{name: "half-open-postgres", does: "the leader's connections to Postgres stay open, and nothing passes any more", lane: relays, weight: 3, do: halfOpenPostgres},
		{name: "vanish", does: "so they do for the leader, and to Postgres they are reset", lane: relays, weight: 4, do: vanish},
		{name: "black-hole-postgres", does: "nothing passes between the leader and Postgres for a while", lane: relays, weight: 3, away: true, do: blackHolePostgres},
		{name: "refuse-postgres", does: "both relays cannot connect to Postgres for a while", lane: relays, weight: 2, away: true, do: refusePostgres},
		{name: "slow-postgres", does: "latency to Postgres", lane: relays, weight: 2, do: slowPostgres},
		{name: "trickle-postgres", does: "a few kB/s from Postgres", lane: relays, weight: 2, away: true, do: tricklePostgres},
		{name: "terminate-walsender", does: "pg_terminate_backend of the walsender", lane: relays, weight: 4, do: terminateWalsender},
		{name: "terminate-one", does: "pg_terminate_backend of any of the relays' connections", lane: relays, weight: 4, do: terminateOne},
		{name: "terminate-all", does: "pg_terminate_backend of all of the relays' connections", lane: relays, weight: 2, do: terminateAll},
		{name: "cut-kafka", does: "the leader's connections to all brokers are reset", lane: relays, weight: 4, do: cutKafka},
		{name: "half-open-kafka", does: "the leader's connections to a broker stay open, and nothing passes any more", lane: relays, weight: 3, do: halfOpenKafka},
		{name: "black-hole-kafka", does: "nothing passes between the leader and any broker for a while", lane: relays, weight: 3, away: true, do: blackHoleKafka},
		{name: "refuse-kafka", does: "the leader cannot connect to Kafka for a while", lane: relays, weight: 2, away: true, do: refuseKafka},
		{name: "slow-kafka", does: "latency to the brokers", lane: relays, weight: 2, do: slowKafka},
		{name: "trickle-kafka", does: "a few kB/s to and from the brokers", lane: relays, weight: 2, away: true, do: trickleKafka},
		{name: "lossy-kafka", does: "brokers append, and every third of their answers is lost with its connection", lane: relays, weight: 4, do: lossyKafka},

		{name: "restart-postgres", does: "pg_ctl restart -m fast", lane: servers, weight: 3, away: true, do: restartPostgres(harness.Fast)},
		{name: "crash-postgres", does: "pg_ctl restart -m immediate", lane: servers, weight: 3, away: true, do: restartPostgres(harness.Immediate)},
		{name: "kill-postgres", does: "kill -9 of the postmaster", lane: servers, weight: 3, away: true, do: restartPostgres(harness.Killed)},
		{name: "kill-walsender", does: "kill -9 of the walsender, at which all of Postgres starts over", lane: servers, weight: 2, away: true, do: killWalsender},
		{name: "promote", does: "an orderly switch to the standby, and another standby", lane: servers, weight: 3, away: true, needs: failoverMajor, do: promoteStandby(harness.Fast)},
		{name: "promote-after-crash", does: "the primary dies, the standby takes its place, and commits are lost", lane: servers, weight: 3, away: true, needs: failoverMajor, do: promoteStandby(harness.Immediate)},
		{name: "restart-standby", does: "the standby is away, and with it whoever must confirm before the relays are told", lane: servers, weight: 1, away: true, do: restartStandby},
		{name: "cut-standby", does: "so it is by its network", lane: servers, weight: 1, away: true, do: cutStandby},
		{name: "lock-checkpoint", does: "somebody holds the relay's checkpoint row for update", lane: servers, weight: 2, do: lockCheckpoint},
		{name: "impatient-postgres", does: "wal_sender_timeout is a second", lane: servers, weight: 2, do: impatientPostgres},
		{name: "rotate-postgres-password", does: "another password, which the relays learn later", lane: servers, weight: 2, do: rotatePostgresPassword},
		{name: "alter-table", does: "the outbox gets a column, and loses it", lane: servers, weight: 2, do: alterTable},
		{name: "alter-publication", does: "the publication gets another table with rows, and loses it", lane: servers, weight: 2, do: alterPublication},
		{name: "rewrite-table", does: "vacuum full of the outbox", lane: servers, weight: 1, away: true, do: rewriteTable},
		{name: "switch-wal", does: "a checkpoint, and another WAL file", lane: servers, weight: 1, do: switchWAL},
		{name: "huge-transaction", does: "20,000 rows in one transaction", lane: servers, weight: 1, do: hugeTransaction},
		{name: "kill-broker", does: "kill -9 of a broker", lane: servers, weight: 4, do: killBroker},
		{name: "kill-busiest-broker", does: "kill -9 of the broker that leads most partitions", lane: servers, weight: 3, away: true, do: killBusiest},
		{name: "kill-coordinator", does: "kill -9 of the broker that coordinates the relays' transactions", lane: servers, weight: 3, away: true, do: killCoordinator},
		{name: "kill-controller", does: "kill -9 of the broker that is the controller", lane: servers, weight: 2, away: true, do: killController},
		{name: "kill-two-brokers", does: "kill -9 of two brokers of three: too few replicas", lane: servers, weight: 2, away: true, do: killTwoBrokers},
		{name: "kill-all-brokers", does: "kill -9 of all brokers", lane: servers, weight: 1, away: true, do: killAllBrokers},
		{name: "stop-broker", does: "SIGTERM to a broker", lane: servers, weight: 2, do: stopBroker},
		{name: "freeze-broker", does: "SIGSTOP of a broker, and SIGCONT", lane: servers, weight: 3, away: true, do: freezeBroker},
		{name: "move-leaders", does: "the partitions of a topic get other leaders", lane: servers, weight: 3, do: moveLeaders},
		{name: "grow-topic", does: "a topic gets one partition more", lane: servers, weight: 2, do: growTopic},
		{name: "narrow-topic", does: "a topic takes smaller records than come, for a while", lane: servers, weight: 2, do: narrowTopic},
		{name: "rotate-kafka-password", does: "another password, which the relays learn later", lane: servers, weight: 2, away: true, do: rotateKafkaPassword},
		{name: "forbid-topic", does: "the relays may not write to a topic for a while", lane: servers, weight: 2, do: forbidTopic},

		{name: "advance-slot", does: "somebody moves the slot on", lane: servers, weight: 1, away: true, verdict: "gap", do: advanceSlot},
		{name: "drop-slot", does: "somebody drops the slot", lane: servers, weight: 1, away: true, verdict: "gap", do: dropSlot},
		{name: "drop-publication", does: "somebody drops the publication, and makes it again", lane: servers, weight: 1, away: true, verdict: "gap", do: dropPublication},
		{name: "delete-records", does: "somebody deletes the records of a topic that a restart has to look at", lane: servers, weight: 1, away: true, verdict: "tail incomplete", do: deleteRecords},
	}
}
