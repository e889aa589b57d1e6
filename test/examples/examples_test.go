// Package examples runs the programs of docs/examples, which people copy: writers and consumers with a real Postgres, the relay
// and a real broker between them.
package examples

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/migrations"
	"github.com/outrider-relay/outrider/sink/inbox"
	"github.com/outrider-relay/outrider/test/harness"
)

const (
	topic    = "outbox.event.order"
	patience = 2 * time.Minute // a JVM on a busy machine
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// Each language's writer adds to one shop, so that each consumer also gets what the writers before it have written.
func TestEveryLanguageWritesAndAppliesOnce(t *testing.T) {
	s := openShop(t)
	for _, l := range selected(t) {
		t.Run(l.name, func(t *testing.T) {
			if missing := l.missing(); missing != "" {
				if os.Getenv("EXAMPLES") == "" {
					t.Skipf("needs %s: make examples installs it", missing)
				}
				t.Fatalf("needs %s", missing)
			}
			p := l.prepare(t)
			b := openBilling(t, s, l)
			s.place(t, l, p, 20)
			b.consume(t, p, l.name+"-billing")
			// Without committed offsets everything is delivered again, and something new with it.
			s.place(t, l, p, 5)
			b.consume(t, p, l.name+"-billing-again")
		})
	}
}

// shop is the writers' database, and the relay that reads its outbox.
type shop struct {
	pg      *harness.Postgres
	url     string
	conn    *pgx.Conn
	brokers []string
}

func openShop(t *testing.T) *shop {
	t.Helper()
	kafka := harness.NewKafka(t, harness.KafkaOptions{})
	kafka.CreateTopic(t, topic, 3, 1, nil)
	s := &shop{pg: harness.NewPostgres(t, harness.PostgresOptions{}), brokers: kafka.Brokers()}
	s.url = s.pg.NewDatabase(t)
	s.conn = harness.Connect(t, s.url)
	if err := (migrations.Outbox{}).Create(t.Context(), s.conn); err != nil {
		t.Fatal(err)
	}
	harness.Exec(t, s.conn, source(t, "shop.sql"))
	relay := harness.StartRelay(t, harness.RelayOptions{Name: "shop", Postgres: s.url, Kafka: s.brokers, Config: "kafka: { delivery: exactly-once }\n"})
	relay.AwaitState(t, cdc.Relaying, patience)
	return s
}

// source reads a file of the examples.
func source(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(docs(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// place has a writer place orders, and waits until their events are in the topic.
func (s *shop) place(t *testing.T, l language, programs programs, orders int) {
	t.Helper()
	before := s.count(t, "orders")
	cmd := programs.writer(orders)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+l.url(s.url))
	run(t, cmd)
	all := s.count(t, "orders")
	if all != before+orders || s.count(t, "outbox") != all {
		t.Fatalf("%d orders after %d, and %d events; %d were to be placed", all, before, s.count(t, "outbox"), orders)
	}
	harness.Eventually(t, patience, "relay of the orders", func() error {
		ids := make(map[string]bool)
		for _, r := range harness.ReadAll(t, s.brokers, topic) {
			ids[harness.Header(r, "id")] = true
		}
		if len(ids) < all {
			return fmt.Errorf("%d events of %d are there", len(ids), all)
		}
		return nil
	})
}

func (s *shop) count(t *testing.T, table string) (n int) {
	t.Helper()
	if err := s.conn.QueryRow(t.Context(), `select count(*) from `+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// run runs a program to its end.
func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	p := harness.StartProgram(t, cmd)
	select {
	case <-p.Ended():
	case <-time.After(5 * patience): // it may have to download
		t.Fatalf("%s does not end:\n%s", cmd, p.Output())
	}
	if err := p.Err(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, p.Output())
	}
}

// billing is one consumer's database.
type billing struct {
	*shop
	language language
	url      string
	conn     *pgx.Conn
}

func openBilling(t *testing.T, s *shop, l language) *billing {
	t.Helper()
	b := &billing{shop: s, language: l, url: s.pg.NewDatabase(t)}
	b.conn = harness.Connect(t, b.url)
	harness.Exec(t, b.conn, inbox.Schema())
	harness.Exec(t, b.conn, source(t, "billing.sql"))
	return b
}

// consume runs a consumer until it has committed the end of the topic, and compares what it has applied with the orders.
func (b *billing) consume(t *testing.T, programs programs, group string) {
	t.Helper()
	cmd := programs.consumer()
	cmd.Env = append(os.Environ(), "DATABASE_URL="+b.language.url(b.url), "KAFKA_BROKERS="+strings.Join(b.brokers, ","), "KAFKA_GROUP="+group)
	if b.language.ends {
		run(t, cmd)
	} else {
		p := harness.StartProgram(t, cmd)
		awaitCommit(t, b.brokers, group, p)
		p.Kill()
	}
	b.check(t, group)
}

// awaitCommit waits until a group has committed the end of the topic.
func awaitCommit(t *testing.T, brokers []string, group string, p *harness.Program) {
	t.Helper()
	next := make(map[int32]int64)
	for _, r := range harness.ReadAll(t, brokers, topic) {
		next[r.Partition] = max(next[r.Partition], r.Offset+1)
	}
	adm := harness.Admin(t, brokers)
	harness.Eventually(t, patience, "commit of "+group, func() error {
		select {
		case <-p.Ended():
			t.Fatalf("the consumer has ended: %v\n%s", p.Err(), p.Output())
		default:
		}
		committed, err := adm.FetchOffsets(t.Context(), group)
		if err != nil {
			return err
		}
		for partition, want := range next {
			if at, _ := committed.Lookup(topic, partition); at.At < want {
				return fmt.Errorf("partition %d is at %d of %d", partition, at.At, want)
			}
		}
		return nil
	})
}

// check compares what billing has made of the events with the orders.
func (b *billing) check(t *testing.T, group string) {
	t.Helper()
	want := sums(t, b.shop.conn, `select customer, sum(total_cents)::bigint from orders group by customer`)
	if got := sums(t, b.conn, `select customer, owed_cents from balance`); !maps.Equal(got, want) {
		t.Errorf("after %s: the balances are %v, the orders sum up to %v", group, got, want)
	}
	entered := sums(t, b.conn, `select consumer, count(*) from event_inbox group by consumer`)
	if orders := int64(b.count(t, "orders")); !maps.Equal(entered, map[string]int64{"billing": orders}) {
		t.Errorf("after %s: %v have been entered, want %d by billing", group, entered, orders)
	}
}

// sums reads a number for each name.
func sums(t *testing.T, conn *pgx.Conn, sql string) map[string]int64 {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]int64)
	var name string
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&name, &n}, func() error {
		found[name] = n
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return found
}
