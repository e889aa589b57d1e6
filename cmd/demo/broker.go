package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The events' aggregate type, and the topic that it leads to by default.
const (
	aggregateType = "demo_order"
	topic         = "outbox.event." + aggregateType
	partitions    = 3
)

// broker is a Kafka with the demo's topic: our own in this process, or another.
type broker struct {
	addrs []string
	fake  *kfake.Cluster // nil: it is somebody else's
	door  *door          // of an embedded one: where it is reached
}

// openBroker starts a broker unless addrs name one, and makes the topic.
func openBroker(ctx context.Context, addrs []string) (*broker, error) {
	b := &broker{addrs: addrs}
	if len(addrs) == 0 {
		if err := b.start(); err != nil {
			return nil, fmt.Errorf("start the broker: %w", err)
		}
	}
	err := b.administer(ctx, func(ctx context.Context, admin *kadm.Client) error {
		made, err := admin.CreateTopic(ctx, partitions, -1, nil, topic) // replicas: the cluster's default
		return errors.Join(err, made.Err)
	})
	if err != nil {
		err = fmt.Errorf("create topic %s: %w", topic, err)
		if errors.Is(err, kerr.TopicAlreadyExists) {
			err = fmt.Errorf("%w: another demo uses this cluster, or one was killed; then delete the topic", err)
		}
		b.stop()
		return nil, err
	}
	return b, nil
}

// start starts one broker in this process.
func (b *broker) start() (err error) {
	listen := func(network, address string) (net.Listener, error) {
		d, err := newDoor(network, address)
		if err != nil {
			return nil, err // and no nil *door in a Listener that is not nil
		}
		b.door = d
		return d, nil
	}
	if b.fake, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.ListenFn(listen)); err != nil {
		return err
	}
	b.addrs = b.fake.ListenAddrs()
	return nil
}

// close removes the topic: with its broker, or from it.
func (b *broker) close(ctx context.Context) error {
	if b.embedded() {
		b.stop()
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), teardown)
	defer cancel()
	err := b.administer(ctx, func(ctx context.Context, admin *kadm.Client) error {
		deleted, err := admin.DeleteTopic(ctx, topic)
		return errors.Join(err, deleted.Err)
	})
	if err != nil {
		return fmt.Errorf("delete topic %s, which stays behind: %w", topic, err)
	}
	return nil
}

func (b *broker) stop() {
	if b.fake != nil {
		b.fake.Close()
	}
}

func (b *broker) embedded() bool { return b.fake != nil }

func (b *broker) administer(ctx context.Context, do func(context.Context, *kadm.Client) error) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addrs...))
	if err != nil {
		return err
	}
	defer client.Close()
	return do(ctx, kadm.NewClient(client))
}
