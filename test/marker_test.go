package test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/failpoint"
	"github.com/outrider-relay/outrider/test/harness"
)

// coordinator gives the node that coordinates a relay's transactions.
func coordinator(t *testing.T, kafka *harness.Kafka, name string) (node *harness.KafkaNode) {
	t.Helper()
	id, admin := "outrider."+name, harness.Admin(t, kafka.Brokers())
	harness.Eventually(t, patience, "coordinator of "+id, func() error { // the first one to ask makes the topic that it needs
		found := admin.FindTxnCoordinators(t.Context(), id)
		if err := found.Error(); err != nil {
			return err
		}
		node = kafka.Nodes[found[id].NodeID-1]
		return nil
	})
	return node
}

// bystander gives a node that neither coordinates a relay's transactions nor controls the cluster.
func bystander(t *testing.T, kafka *harness.Kafka, name string) *harness.KafkaNode {
	t.Helper()
	busy := coordinator(t, kafka, name)
	for _, n := range kafka.Nodes[1:] {
		if n != busy {
			return n
		}
	}
	t.Fatal("there is none")
	return nil
}

func TestStartWaitsForAMarkerThatComesLate(t *testing.T) {
	long(t)
	t.Run("the partition has no leader when the transaction ends", func(t *testing.T) {
		l := newLate(t)
		heir := l.heir(t, failpoint.Freeze+"=scan finished:1")
		heir.AwaitState(t, cdc.Standby, patience)
		l.node.Kill()
		start := restart(t, l.node)
		l.isolate(t)
		l.settle(t, heir, start)
	})
	t.Run("the leader dies when the transaction is to end", func(t *testing.T) {
		l := newLate(t)
		heir := l.heir(t, failpoint.Freeze+"=partitions in transaction:1,scan finished:1")
		heir.AwaitState(t, cdc.Standby, patience)
		l.isolate(t)
		heir.AwaitFrozen(t, patience)
		l.node.Kill()
		start := restart(t, l.node)
		heir.Signal(syscall.SIGCONT)
		l.settle(t, heir, start)
	})
}

// noRenewal keeps a relay from renewing its hold on Kafka, where it would be told that it is fenced.
const noRenewal = failpoint.Renewal + "=1h"

// late is a topic on one node, and a relay frozen with a batch for it in its hand that only Kafka can keep it from sending.
type late struct {
	*freezer
	node *harness.KafkaNode
	old  *harness.Relay
}

func newLate(t *testing.T) *late {
	t.Helper()
	kafka := threeBrokers(t)
	l := &late{freezer: newFreezer(t, kafka, unsaved)}
	l.old = l.victim(t, "request sealed:3", noRenewal)
	l.old.AwaitState(t, cdc.Relaying, patience)
	l.node = bystander(t, kafka, l.name)
	l.kind, l.destination = l.aggregate("late"), l.topic("late")
	kafka.CreateTopicOn(t, l.node, l.destination)
	l.writeUntilFrozen(t, l.old)
	return l
}

// settle sees the heir wait for its marker, and the predecessor be refused behind it. The heir is frozen by then: what it
// sends fences as well.
func (l *late) settle(t *testing.T, heir *harness.Relay, start func()) {
	t.Helper()
	partition := l.destination + "/0"
	harness.Eventually(t, patience, "the start says what it waits for", func() error {
		st, err := heir.Status()
		if err == nil && (st.State == cdc.Relaying || !strings.Contains(st.Reason, partition)) {
			err = fmt.Errorf("it is %s (%s)", st.State, st.Reason)
		}
		return err
	})
	harness.Throughout(t, time.Second, "the start waits", func() error {
		st, err := heir.Status()
		if err == nil && st.State == cdc.Relaying {
			err = errors.New("it is relaying")
		}
		return err
	})
	start()
	heir.AwaitFrozen(t, patience)
	l.old.Signal(syscall.SIGCONT)
	l.old.AwaitLog(t, "INVALID_PRODUCER_EPOCH", patience)
	heir.Signal(syscall.SIGCONT)
	heir.AwaitState(t, cdc.Relaying, patience)
	l.old.AwaitState(t, cdc.Standby, patience)
	l.awaitDelivered(t, harness.NoRepeats)
}
