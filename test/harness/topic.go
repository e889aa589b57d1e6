package harness

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreateTopicOn makes a topic of one partition whose only replica is on a node.
func (k *Kafka) CreateTopicOn(t testing.TB, node *KafkaNode, name string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, -1, -1
	topic.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{{Replicas: []int32{int32(node.ID)}}}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics = []kmsg.CreateTopicsRequestTopic{topic}
	res, err := req.RequestWith(t.Context(), cl)
	if err == nil {
		err = kerr.ErrorForCode(res.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("create topic %s on node %d: %v", name, node.ID, err)
	}
	Eventually(t, 30*time.Second, "leader of "+name, func() error {
		_, err := kadm.NewClient(cl).ListEndOffsets(t.Context(), name)
		return err
	})
}

// MoveLeaders has the partitions of a topic that is on all of three nodes be led by others: partition p by the node first+p.
func (k *Kafka) MoveLeaders(t testing.TB, topic string, first int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := k.RotateLeaders(ctx, Admin(t, k.Brokers()), topic, first); err != nil {
		t.Fatal(err)
	}
}

// RotateLeaders is MoveLeaders for those who have a client. It returns when the leaders are others.
func (k *Kafka) RotateLeaders(ctx context.Context, adm *kadm.Client, topic string, first int) error {
	topics, err := adm.ListTopics(ctx, topic)
	if err != nil {
		return err
	}
	var assign kadm.AlterPartitionAssignmentsReq
	leaders := make(map[int32]int32)
	for p := range topics[topic].Partitions {
		replicas := make([]int32, len(k.Nodes))
		for i := range replicas {
			replicas[i] = int32(1 + (first+int(p)+i)%len(k.Nodes))
		}
		assign.Assign(topic, p, replicas)
		leaders[p] = replicas[0]
	}
	if _, err := adm.AlterPartitionAssignments(ctx, assign); err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := elect(ctx, adm, topic, leaders)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("other leaders of %s: %w", topic, err)
		case <-tick.C:
		}
	}
}

// elect asks for the leaders that are preferred, and returns nil once they lead.
func elect(ctx context.Context, adm *kadm.Client, topic string, leaders map[int32]int32) error {
	if _, err := adm.ElectLeaders(ctx, kadm.ElectPreferredReplica, assignedTo(topic, leaders)); err != nil {
		return err
	}
	topics, err := adm.ListTopics(ctx, topic)
	if err != nil {
		return err
	}
	for p, want := range leaders {
		if now := topics[topic].Partitions[p].Leader; now != want {
			return fmt.Errorf("node %d leads partition %d, not %d", now, p, want)
		}
	}
	return nil
}

func assignedTo(topic string, leaders map[int32]int32) kadm.TopicsSet {
	set := make(kadm.TopicsSet)
	for p := range leaders {
		set.Add(topic, p)
	}
	return set
}
