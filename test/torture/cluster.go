package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outrider-relay/outrider/test/harness"
)

// kafkaUser is whom both relays say they are.
const kafkaUser = "relay"

// cluster is Kafka, and a client of its own for what an operator does there.
type cluster struct {
	*harness.Kafka
	client *kgo.Client
	admin  *kadm.Client
	// between are the nodes' ways to each other, one to each node, where the plan asks for them; markers can be held there.
	between []*harness.Proxy
	markers *harness.Hold
}

// startCluster starts three nodes, which each seat reaches by listeners of its own.
func startCluster(ctx context.Context, seats []*seat, between bool) (c *cluster, err error) {
	settings := map[string]string{
		"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS",
		"allow.everyone.if.no.acl.found": "true", "min.insync.replicas": "2", "transaction.state.log.min.isr": "2",
	}
	var listeners []harness.KafkaListener
	for _, s := range seats {
		listeners = append(listeners, harness.KafkaListener{Name: s.listener(), Protocol: "SASL_PLAINTEXT", Proxies: s.kafka})
		way := "listener.name." + s.way() + "."
		settings[way+"sasl.enabled.mechanisms"] = "SCRAM-SHA-256"
		settings[way+"scram-sha-256.sasl.jaas.config"] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	}
	c = &cluster{markers: harness.NewHold(int16(kmsg.WriteTxnMarkers))}
	if between {
		for range nodes {
			way, err := harness.StartProxy("")
			if err != nil {
				return c, err
			}
			way.SetFilter(c.markers.Filter)
			c.between = append(c.between, way)
		}
		listeners = append(listeners, harness.KafkaListener{Name: "BETWEEN", Protocol: "PLAINTEXT", Proxies: c.between})
		settings["inter.broker.listener.name"] = "BETWEEN"
	}
	// A heap of its own choice: three of them share the machine with everything else.
	if c.Kafka, err = harness.StartKafka(ctx, harness.KafkaOptions{Nodes: nodes, Listeners: listeners, Settings: settings, Heap: "-Xmx256m"}); err != nil {
		return c, err
	}
	c.client, err = kgo.NewClient(kgo.SeedBrokers(c.Brokers()...), kgo.MetadataMinAge(100*time.Millisecond), kgo.RetryTimeout(10*time.Second))
	if err != nil {
		return c, err
	}
	c.admin = kadm.NewClient(c.client)
	return c, nil
}

const nodes = 3

func (c *cluster) close() error {
	if c.client != nil {
		c.client.Close()
	}
	c.markers.End()
	for _, way := range c.between {
		way.Close()
	}
	if c.Kafka != nil {
		return c.Close()
	}
	return nil
}

// createTopics makes all topics.
func (c *cluster) createTopics(ctx context.Context) error {
	for i, topic := range topics() {
		made, err := c.admin.CreateTopic(ctx, int32(2+2*i), nodes, map[string]*string{"min.insync.replicas": kadm.StringPtr("2")}, topic)
		if err == nil {
			err = made.Err
		}
		if err != nil {
			return fmt.Errorf("create topic %s: %w", topic, err)
		}
	}
	return c.awaitWhole(ctx, time.Minute)
}

// setPassword changes what the relays have to say.
func (c *cluster) setPassword(ctx context.Context, password string) error {
	res, err := c.admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: kafkaUser, Mechanism: kadm.ScramSha256, Iterations: 4096, Password: password}})
	if err == nil {
		err = res.Error()
	}
	return err
}

// awaitWhole waits until every partition has a leader and all its replicas: another node may be taken away then.
func (c *cluster) awaitWhole(ctx context.Context, patience time.Duration) error {
	return await(ctx, patience, func() error {
		found, err := c.admin.ListTopics(ctx, topics()...)
		if err == nil {
			err = found.Error()
		}
		if err != nil {
			return err
		}
		for _, t := range found {
			for _, p := range t.Partitions {
				if p.Leader < 0 || len(p.ISR) < nodes {
					err = errors.Join(err, fmt.Errorf("%s/%d has leader %d and in-sync replicas %v", t.Topic, p.Partition, p.Leader, p.ISR))
				}
			}
		}
		return err
	})
}

// leadsMost is the node that leads most partitions.
func (c *cluster) leadsMost(ctx context.Context) (*harness.KafkaNode, error) {
	found, err := c.admin.ListTopics(ctx, topics()...)
	if err != nil {
		return nil, err
	}
	led := make([]int, nodes+1)
	for _, t := range found {
		for _, p := range t.Partitions {
			led[max(0, p.Leader)]++
		}
	}
	led[0] = 0 // no node's
	return c.Nodes[slices.Index(led, slices.Max(led))-1], nil
}

// coordinator is the node that coordinates the relays' transactions.
func (c *cluster) coordinator(ctx context.Context) (*harness.KafkaNode, error) {
	id := "outrider." + relayName
	found := c.admin.FindTxnCoordinators(ctx, id)
	if err := found.Error(); err != nil {
		return nil, err
	}
	return c.Nodes[found[id].NodeID-1], nil
}
