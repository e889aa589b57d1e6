package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outrider-relay/outrider/test/harness"
)

// Faults of Kafka, and of what is in it.

// wholePatience is how long the replicas may take to be in sync again.
const wholePatience = 90 * time.Second

// without takes nodes away by stop, and has the cluster whole again when it returns.
func (n *nemesis) without(ctx context.Context, stop func(*harness.KafkaNode) error, gone ...*harness.KafkaNode) error {
	for _, node := range gone {
		if err := stop(node); err != nil {
			return err
		}
	}
	n.hold(0, 6*time.Second)
	for _, node := range gone {
		if err := node.Start(ctx); err != nil {
			return err
		}
	}
	return n.cluster.awaitWhole(ctx, wholePatience)
}

func (n *nemesis) killNode(node *harness.KafkaNode) error {
	node.Kill()
	n.tally.count(func(r *Report) { r.Kills++ })
	return nil
}

// plain is a node that is not the controller.
func (n *nemesis) plain() *harness.KafkaNode { return n.cluster.Nodes[1+n.rng.IntN(nodes-1)] }

func killBroker(ctx context.Context, n *nemesis) error {
	return n.without(ctx, n.killNode, n.plain())
}

func killBusiest(ctx context.Context, n *nemesis) error {
	node, err := n.cluster.leadsMost(ctx)
	if err != nil {
		return skip(err)
	}
	return n.without(ctx, n.killNode, node)
}

func killCoordinator(ctx context.Context, n *nemesis) error {
	node, err := n.cluster.coordinator(ctx)
	if err != nil {
		return skip(err)
	}
	return n.without(ctx, n.killNode, node)
}

func killController(ctx context.Context, n *nemesis) error {
	return n.without(ctx, n.killNode, n.cluster.Nodes[0])
}

func killTwoBrokers(ctx context.Context, n *nemesis) error {
	return n.without(ctx, n.killNode, n.cluster.Nodes[1:]...)
}

func killAllBrokers(ctx context.Context, n *nemesis) error {
	return n.without(ctx, n.killNode, n.cluster.Nodes...)
}

func stopBroker(ctx context.Context, n *nemesis) error {
	return n.without(ctx, (*harness.KafkaNode).Stop, n.plain())
}

func freezeBroker(ctx context.Context, n *nemesis) error {
	node := n.plain()
	node.Pause()
	n.hold(500*time.Millisecond, 8*time.Second)
	node.Resume()
	return n.cluster.awaitWhole(ctx, wholePatience)
}

// topic is that of some kind of aggregates.
func (n *nemesis) topic() string { return topicPrefix + kinds[n.rng.IntN(len(kinds))] }

func moveLeaders(ctx context.Context, n *nemesis) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return n.cluster.RotateLeaders(ctx, n.cluster.admin, n.topic(), n.rng.IntN(nodes))
}

// mostPartitions bounds the growth of each topic.
const mostPartitions = 12

func growTopic(ctx context.Context, n *nemesis) error {
	topic := n.topic()
	found, err := n.cluster.admin.ListTopics(ctx, topic)
	if err != nil {
		return skip(err)
	}
	if len(found[topic].Partitions) >= mostPartitions {
		return skip(fmt.Errorf("%s has %d partitions", topic, len(found[topic].Partitions)))
	}
	n.journal.note(func() { n.checker.grown[topic]++ })
	if _, err := n.cluster.admin.CreatePartitions(ctx, 1, topic); err != nil {
		return skip(err)
	}
	return n.cluster.awaitWhole(ctx, wholePatience)
}

func narrowTopic(ctx context.Context, n *nemesis) error {
	return n.narrowed(ctx, n.topic(), func() error { return n.writeLarge(ctx) })
}

// narrowed has a topic take small records only, as long as meanwhile lasts.
func (n *nemesis) narrowed(ctx context.Context, topic string, meanwhile func() error) error {
	const setting = "max.message.bytes"
	if err := n.configure(ctx, topic, kadm.AlterConfig{Op: kadm.SetConfig, Name: setting, Value: kadm.StringPtr(fmt.Sprint(narrowBy))}); err != nil {
		return err
	}
	if err := meanwhile(); err != nil {
		return err
	}
	return n.configure(ctx, topic, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: setting})
}

// writeLarge writes rows that are larger than a narrow topic takes.
func (n *nemesis) writeLarge(ctx context.Context) error {
	w := &writer{stage: n.stage, rng: n.rng}
	defer w.disconnect()
	for range 3 {
		if _, err := w.transact(ctx, "large rows", 10); err != nil {
			return err
		}
		n.hold(200*time.Millisecond, 1500*time.Millisecond)
	}
	return nil
}

func (n *nemesis) configure(ctx context.Context, topic string, c kadm.AlterConfig) error {
	return await(ctx, 30*time.Second, func() error {
		res, err := n.cluster.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{c}, topic)
		if err == nil {
			err = res[0].Err
		}
		return err
	})
}

func rotateKafkaPassword(ctx context.Context, n *nemesis) error {
	defer n.unfit()()
	next := n.nextSecret()
	if err := await(ctx, 30*time.Second, func() error { return n.cluster.setPassword(ctx, next) }); err != nil {
		return err
	}
	if n.chance(2) {
		for _, s := range n.seats {
			s.toKafka((*harness.Proxy).Cut)
		}
	}
	n.hold(0, 2*time.Second)
	return n.tell("kafka", next)
}

func forbidTopic(ctx context.Context, n *nemesis) error {
	return n.forbidden(ctx, n.topic(), func() error {
		n.hold(500*time.Millisecond, 5*time.Second)
		return nil
	})
}

// forbidden takes the right to write to a topic from the relays, as long as meanwhile lasts.
func (n *nemesis) forbidden(ctx context.Context, topic string, meanwhile func() error) error {
	deny := kadm.NewACLs().Deny("User:" + kafkaUser).DenyHosts("*").ResourcePatternType(kadm.ACLPatternLiteral).Topics(topic).Operations(kadm.OpWrite)
	err := await(ctx, 30*time.Second, func() error {
		res, err := n.cluster.admin.CreateACLs(ctx, deny)
		if err == nil {
			err = res[0].Err
		}
		return err
	})
	if err != nil {
		return err
	}
	broken := meanwhile()
	return errors.Join(broken, await(ctx, 30*time.Second, func() error {
		res, err := n.cluster.admin.DeleteACLs(ctx, deny)
		if err == nil {
			err = res[0].Err
		}
		return err
	}))
}
