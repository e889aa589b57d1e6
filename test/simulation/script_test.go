package simulation

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/migrations"
	"github.com/outrider-relay/outrider/test/harness"
)

// playKafka runs the script, and gives a line a step.
func playKafka(c *kafkaClient) (lines []string) {
	for _, step := range kafkaScript {
		lines = append(lines, step.claim+": "+step.do(c))
	}
	return lines
}

func playPostgres(c *pgClient) (lines []string) {
	for _, step := range postgresScript {
		lines = append(lines, step.claim+": "+step.do(c))
	}
	return lines
}

// kafkaModelSays runs the script on the model.
func kafkaModelSays(t *testing.T) (lines []string) {
	synctest.Test(t, func(t *testing.T) {
		n, k := newNetwork(1), newCluster(1, 1)
		k.locked(func() { k.create("script", 3) })
		n.accept = func(c net.Conn, _ string) (func(), error) {
			serve, _ := k.accept(c.(conn), 1)
			return serve, nil
		}
		c, err := n.dialler("script", func() bool { return false })(context.Background(), "tcp", brokerAddr(1))
		if err != nil {
			t.Fatal(err)
		}
		defer n.end()
		lines = playKafka(&kafkaClient{t: t, conn: c, topic: "script", producer: -1})
	})
	return lines
}

func postgresModelSays(t *testing.T, older bool) (lines []string) {
	synctest.Test(t, func(t *testing.T) {
		n, s := newNetwork(1), newServer(1)
		s.slots[scriptSlot] = &slot{name: scriptSlot, confirmed: s.end, saved: s.end, restart: s.end}
		s.obeysLower = older
		s.unknown = func(sql string) { t.Errorf("the model knows no such statement: %s", sql) }
		n.accept = func(c net.Conn, _ string) (func(), error) {
			serve, _ := s.accept(c.(conn))
			return serve, nil
		}
		defer n.end()
		lines = playPostgres(&pgClient{t: t, db: &modelDatabase{t, s, n, make(map[string]*[]change)}, lsns: make(map[string]commit)})
	})
	return lines
}

func TestKafkaModelAnswersAsKafkaDoes(t *testing.T) {
	kafka := harness.NewKafka(t, harness.KafkaOptions{Settings: map[string]string{"producer.id.expiration.check.interval.ms": "100"}})
	addr := kafka.Nodes[0].Addr
	harness.CreateTopic(t, []string{addr}, "script", 3, 1, nil)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	compare(t, kafkaModelSays(t), playKafka(&kafkaClient{t: t, conn: conn, topic: "script", producer: -1}))
}

func TestPostgresModelAnswersAsPostgresDoes(t *testing.T) {
	pg := harness.NewPostgres(t, harness.PostgresOptions{})
	conn := harness.Connect(t, pg.URL())
	harness.CreateOutbox(t, conn)
	if err := migrations.EnsureCheckpoint(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	harness.Exec(t, conn, "create publication script for table public.outbox with (publish = 'insert')")
	harness.Exec(t, conn, "select pg_create_logical_replication_slot($1, 'pgoutput')", scriptSlot)
	server := playPostgres(&pgClient{t: t, db: &realDatabase{t, pg, make(map[string]*pgx.Conn)}, lsns: make(map[string]commit)})
	if pg.Major < 18 && slices.Equal(postgresModelSays(t, true), server) {
		return
	}
	compare(t, postgresModelSays(t, false), server)
}

// compare shows where a model differs from the server.
func compare(t *testing.T, model, server []string) {
	t.Helper()
	for i := range server {
		if model[i] != server[i] {
			t.Errorf("the model says\n\t%s\nand the server\n\t%s", model[i], server[i])
		}
	}
	t.Logf("the server says\n%s", strings.Join(server, "\n"))
}

// TestScriptsFindFlawsOfTheModels proves that the comparison can fail: a model with a flaw gives other answers than the one
// that answers as the server does.
func TestScriptsFindFlawsOfTheModels(t *testing.T) {
	defer planted.Store(int32(noFlaw))
	sound := append(kafkaModelSays(t), postgresModelSays(t, false)...)
	for _, f := range flaws {
		planted.Store(int32(f.flaw))
		if flawed := append(kafkaModelSays(t), postgresModelSays(t, false)...); slices.Equal(sound, flawed) {
			t.Errorf("nothing shows that %s", f.what)
		}
	}
}

// flaws are those that the scripts have to find.
var flaws = []struct {
	flaw flaw
	what string
}{
	{epochsIgnored, "a partition takes batches of an older epoch"},
	{sequencesIgnored, "a partition takes any sequence number"},
	{repeatsAppended, "a partition appends repeats"},
	{memoryWithoutEnd, "a partition remembers more than five batches"},
	{memoryWithoutAge, "a partition never forgets a producer"},
	{markersPowerless, "a marker does not raise the epoch"},
	{markersAsData, "sequence numbers go on over a marker of another epoch"},
	{initFences, "InitProducerID alone stops the older epoch"},
	{openTransactionsOK, "InitProducerID takes no notice of an open transaction"},
	{startsBelowSent, "START_REPLICATION below the confirmed position is obeyed"},
	{startsAboveRefused, "START_REPLICATION above the end of WAL begins at the end"},
	{commitLSNSkips, "START_REPLICATION at a commit LSN skips that transaction"},
	{futureIgnored, "a flush position above the end of WAL does nothing"},
	{flushGoesBack, "a lower flush position is obeyed"},
	{crashesForgetNone, "a crash takes nothing back"},
	{slotsShared, "a slot can be read twice"},
	{claimsUnchecked, "the checkpoint row can be taken without owning the slot"},
}
