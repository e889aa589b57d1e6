package test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outrider-relay/outrider/sink/inbox"
	"github.com/outrider-relay/outrider/test/harness"
)

const (
	inboxKills      = 100
	inboxEvents     = 2000 // about what is done by consumers that live as short as these
	inboxPartitions = 3
)

// Two consumers at a time read the same partitions, as in a rebalance whose loser does not know it yet, and each is killed
// and started again. What they apply is no upsert: it shows whatever is done twice.
func TestKilledConsumersApplyEachEventOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t, sharedPostgres(t))
	c := inboxConsumer{url: s.url, brokers: sharedKafka(t).Brokers(), topic: s.topic("order")}
	sharedKafka(t).CreateTopic(t, c.topic, inboxPartitions, 1, nil)
	harness.Exec(t, s.conn, inbox.Schema())
	harness.Exec(t, s.conn, `create table account (balance bigint not null)`)
	harness.Exec(t, s.conn, `insert into account values (0)`)
	harness.Exec(t, s.conn, `create table applied (id text not null)`)
	harness.Exec(t, s.conn, `create table delivered (id text not null)`)
	records := c.produceWithRepeats(t)
	c.commitBeginning(t)

	var killed atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for killed.Add(1) <= inboxKills && !t.Failed() {
				c.killOne(t)
			}
		})
	}
	wg.Wait()
	if out, err := c.command("end").CombinedOutput(); err != nil {
		t.Fatalf("the consumer that is not killed: %v\n%s", err, out)
	}

	var applied, different, delivered int
	var balance int64
	queryRow(t, s.conn, `select count(*), count(distinct id) from applied`, nil, &applied, &different)
	queryRow(t, s.conn, `select count(*) from delivered`, nil, &delivered)
	queryRow(t, s.conn, `select balance from account`, nil, &balance)
	if applied != inboxEvents || different != inboxEvents {
		t.Errorf("%d events, %d of them different, have been applied, want %d", applied, different, inboxEvents)
	}
	if want := int64(inboxEvents * (inboxEvents + 1) / 2); balance != want {
		t.Errorf("the balance is %d, want %d", balance, want)
	}
	if delivered <= records {
		t.Errorf("%d deliveries of %d records: no kill has made any come again", delivered, records)
	}
	t.Logf("%d events in %d records, delivered %d times", inboxEvents, records, delivered)
}

// inboxConsumer is a consumer of one topic, each run of it a process: this test's binary, as TestMain reads inboxEnv.
type inboxConsumer struct {
	url     string
	brokers []string
	topic   string
	endless bool // waits at the end of the topic to be killed, and begins again where all has been read
}

// inboxEnv holds what makes this binary a consumer: URL, brokers, topic, and "killed" or "end".
const inboxEnv = "INBOXTEST_CONSUMER"

func (c inboxConsumer) command(until string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), inboxEnv+"="+strings.Join([]string{c.url, strings.Join(c.brokers, ","), c.topic, until}, " "))
	return cmd
}

// runInboxConsumer is the process of one, and gives its exit code.
func runInboxConsumer(args string) int {
	// Should the test be killed rather than its consumers, none stays.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	f := strings.Fields(args)
	c := inboxConsumer{url: f[0], brokers: strings.Split(f[1], ","), topic: f[2], endless: f[3] == "killed"}
	if err := c.consume(ctx); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// produceWithRepeats writes the events 1 to inboxEvents, some of them again, at once or much later, and gives the number of records.
func (c inboxConsumer) produceWithRepeats(t *testing.T) int {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.brokers...), kgo.DefaultProduceTopic(c.topic))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var records []*kgo.Record
	for n := 1; n <= inboxEvents; n++ {
		for m := n; m > 0; m = again(n) {
			id := strconv.Itoa(m)
			records = append(records, &kgo.Record{Key: []byte(id), Value: []byte(id), Headers: []kgo.RecordHeader{{Key: "id", Value: []byte("event-" + id)}}})
		}
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return len(records)
}

// commitBeginning commits the offsets that the first consumer begins with, which takes a new broker a moment.
func (c inboxConsumer) commitBeginning(t *testing.T) {
	t.Helper()
	adm := harness.Admin(t, c.brokers)
	harness.Eventually(t, patience, "first commit of offsets", func() error {
		return adm.CommitAllOffsets(t.Context(), c.topic, c.beginning())
	})
}

func (c inboxConsumer) beginning() kadm.Offsets {
	offsets := make(kadm.Offsets)
	for partition := range int32(inboxPartitions) {
		offsets.AddOffset(c.topic, partition, 0, -1)
	}
	return offsets
}

// again gives an event that is repeated after the n-th, 0 for none.
func again(n int) int {
	switch rand.IntN(6) {
	case 0:
		return n
	case 1:
		return rand.IntN(n) + 1
	}
	return 0
}

// killOne runs one consumer, and kills it: some in their start, most while they work.
func (c inboxConsumer) killOne(t *testing.T) {
	cmd := c.command("killed")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Error(err)
		return
	}
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return
	}
	if rand.IntN(10) > 0 {
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != working {
			t.Errorf("a consumer says %q, %v", line, err)
		}
	}
	<-time.After(rand.N(40 * time.Millisecond)) // the moment is what is tested
	if err := cmd.Process.Kill(); err != nil {
		t.Errorf("a consumer ended before it was killed: %v", err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
		t.Errorf("a killed consumer ends with %v", err)
	}
}

// working is the line that a consumer prints when it has applied its first event.
const working = "working\n"

// consume reads on from the committed offsets to the end of the topic. It belongs to no group, for a group takes its time
// to let go of a member that was killed; it only keeps its offsets as one does.
func (c inboxConsumer) consume(ctx context.Context) error {
	db, err := pgx.Connect(ctx, c.url)
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.brokers...))
	if err != nil {
		return err
	}
	defer client.Close()
	adm := kadm.NewClient(client)
	ends, err := adm.ListEndOffsets(ctx, c.topic)
	if err != nil {
		return err
	}
	committed, err := adm.FetchOffsets(ctx, c.topic)
	if err != nil {
		return err
	}
	next := committed.Offsets()
	var left int64
	next.Each(func(o kadm.Offset) {
		end, _ := ends.Lookup(o.Topic, o.Partition)
		left += end.Offset - o.At
	})
	if left == 0 && c.endless {
		next = c.beginning()
	}
	client.AddConsumePartitions(next.KOffsets())
	for worked := int64(0); worked < left || c.endless; {
		fetches := client.PollRecords(ctx, 1+rand.IntN(20))
		if err := fetches.Err(); err != nil {
			return err
		}
		for _, r := range fetches.Records() {
			if err := applyOnce(ctx, db, r); err != nil {
				return err
			}
			next.AddOffset(r.Topic, r.Partition, r.Offset+1, r.LeaderEpoch)
			if worked++; worked == 1 {
				fmt.Print(working)
			}
		}
		if err := adm.CommitAllOffsets(ctx, c.topic, next); err != nil {
			return err
		}
	}
	return nil
}

// applyOnce does the work of one record unless its event was there before, and counts the delivery.
func applyOnce(ctx context.Context, db *pgx.Conn, r *kgo.Record) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		id := harness.Header(r, "id")
		first, err := inbox.Enter(ctx, tx, "test", id)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `insert into delivered values ($1)`, id); err != nil || !first {
			return err
		}
		if _, err := tx.Exec(ctx, `insert into applied values ($1)`, id); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `update account set balance = balance + $1::text::bigint`, string(r.Value))
		return err
	})
}
