package test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// A transactional id that the coordinator has forgotten gives its successor another producer id, whose markers stop nobody.
func TestPredecessorThatKafkaForgotRepeatsNothing(t *testing.T) {
	t.Parallel()
	long(t) // the coordinator has to forget
	kafka := harness.NewKafka(t, harness.KafkaOptions{Settings: map[string]string{
		"transactional.id.expiration.ms": "6000", "transaction.remove.expired.transaction.cleanup.interval.ms": "500",
	}})
	admin := harness.Admin(t, kafka.Brokers())
	state := func(id string) (string, error) {
		described, err := admin.DescribeTransactions(t.Context(), id)
		return described[id].State, errors.Join(err, described[id].Err)
	}
	var f *freezer
	var old *harness.Relay
	harness.Eventually(t, 2*patience, "a relay frozen between two transactions", func() error {
		f = newFreezer(t, kafka, unsaved+"timeouts: { broker: 3s }\n")
		old = f.victim(t, "request sealed:3") // with a batch in its hand
		old.AwaitState(t, cdc.Relaying, patience)
		f.writeUntilFrozen(t, old)
		now, err := state("outrider." + f.name)
		if err == nil && now != "CompleteAbort" { // one that is open is not forgotten
			err = fmt.Errorf("the transaction is %s", now)
		}
		return err
	})
	harness.Eventually(t, patience, "the coordinator forgets", func() error {
		if now, err := state("outrider." + f.name); !errors.Is(err, kerr.TransactionalIDNotFound) {
			return errors.Join(fmt.Errorf("the transaction is %s", now), err)
		}
		return nil
	})
	heir := f.launch(t)
	heir.AwaitState(t, cdc.Standby, patience)
	f.isolate(t)
	heir.AwaitLog(t, "another producer id", patience)
	before := harness.EndOffsets(t, f.brokers, f.destination)
	old.Signal(syscall.SIGCONT)
	harness.AwaitRecords(t, f.brokers, before+1, patience, f.destination)
	if st, err := heir.Status(); err != nil || st.State == cdc.Relaying {
		t.Fatalf("the successor did not wait for what the predecessor sent: it is %s, %v", st.State, err)
	}
	heir.AwaitState(t, cdc.Relaying, patience)
	f.awaitDelivered(t, harness.NoRepeats)
}
