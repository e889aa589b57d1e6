package test

import (
	"fmt"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// The Java broker checks what it is sent, and the client that reads it back is not the relay's.
func TestEveryCompressionIsReadBack(t *testing.T) {
	t.Parallel()
	kafka := sharedKafka(t)
	// Compression type in a record batch's attributes (KIP-98, "Message Format").
	for codec, compression := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		t.Run(compression, func(t *testing.T) {
			s := newStage(t, sharedPostgres(t))
			kafka.CreateTopic(t, s.topic("a"), 3, 1, nil)
			s.startRelaying(t, kafka.Brokers(), "kafka: { compression: "+compression+" }")
			harness.WriteRows(t, s.conn, s.aggregate("a"), 1, 2000, 500)
			harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, 20*time.Second, s.topic("a"))
			for _, r := range harness.ReadAll(t, kafka.Brokers(), s.topic("a")) {
				if got := r.Attrs.CompressionType(); int(got) != codec {
					t.Fatalf("%s/%d@%d has compression type %d, not %d", r.Topic, r.Partition, r.Offset, got, codec)
				}
			}
		})
	}
}

// The table that tutorials of the outbox pattern make, with a flag for a poller that the relay does not need.
func TestTutorialTableWorksAsItIs(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	topic := s.name + ".OrderPlaced"
	harness.Exec(t, s.conn, `drop table public.outbox`)
	harness.Exec(t, s.conn, `create table public.outbox (id serial, event_type varchar(255), payload jsonb, created_at timestamp default now(), processed boolean default false)`)
	kafka.CreateTopic(t, topic, 3, 1, nil)
	s.startRelaying(t, kafka.Brokers(), "")
	harness.Exec(t, s.conn, `insert into public.outbox (event_type, payload) select $1, jsonb_build_object('n', n, 'amount', 12.50) from generate_series(1, 300) n`, topic)
	harness.Exec(t, s.conn, `update public.outbox set payload = '{}' where id <= 100`)
	harness.Exec(t, s.conn, `delete from public.outbox where id <= 50`)
	harness.AwaitRecords(t, kafka.Brokers(), 300, 20*time.Second, topic)
	records := harness.ReadAll(t, kafka.Brokers(), topic)
	seen := make(map[string]bool)
	for _, r := range records {
		id := harness.Header(r, "id")
		seen[id] = true
		if want := fmt.Sprintf(`{"n": %s, "amount": 12.50}`, id); string(r.Value) != want || r.Key != nil {
			t.Errorf("id %s: key %q, value %s, want none and %s", id, r.Key, r.Value, want)
		}
		if got := harness.Header(r, "event_type"); got != topic {
			t.Errorf("id %s: event_type %q", id, got)
		}
	}
	if len(records) != 300 || len(seen) != 300 {
		t.Errorf("%d records of %d rows, not 300 of 300", len(records), len(seen))
	}
	var flagged int
	if err := s.conn.QueryRow(t.Context(), `select count(*) from public.outbox where processed is distinct from false`).Scan(&flagged); err != nil || flagged > 0 {
		t.Errorf("the flag was touched in %d rows: %v", flagged, err)
	}
}

// Nothing of a payload may be read, written anew or rounded on its way.
func TestEveryTransportCarriesPayloadsExactly(t *testing.T) {
	t.Parallel()
	kafka, plain := sharedKafka(t), sharedPostgres(t)
	secured := securedPostgres(t)
	for _, transport := range []struct {
		name string
		pg   *harness.Postgres
		url  func(database string) string
		tls  bool
	}{
		{"TCP", plain, plain.DatabaseURL, false},
		{"unix socket", plain, func(database string) string {
			return fmt.Sprintf("postgres://postgres@/%s?host=%s&port=%d", database, plain.Dir, plain.Port)
		}, false},
		{"TLS", secured.Postgres, secured.url, true},
	} {
		t.Run(transport.name, func(t *testing.T) {
			s := newStage(t, transport.pg)
			kafka.CreateTopic(t, s.topic("a"), 3, 1, nil)
			relay := harness.StartRelay(t, harness.RelayOptions{Name: s.name, Postgres: transport.url(s.conn.Config().Database), Kafka: kafka.Brokers()})
			relay.AwaitState(t, cdc.Relaying, 30*time.Second)
			for tx := range 10 {
				harness.Exec(t, s.conn, `insert into public.outbox (aggregate_type, aggregate_id, event_type, payload)
					select $1, 'k' || n % 10, 'Written', jsonb_build_object('n', n, 'number', 123456789012345678901234567890.50,
						'text', E'quote " backslash \\ tab \t ü 漢 ' || chr(x'1F680'::int), 'pad', repeat(md5(n::text), n % 100), 'nested', '[1e3, null, {"b": 1, "a": 2}]'::jsonb)
					from generate_series($2::int, $2::int + 1999) n`, s.aggregate("a"), tx*2000+1)
			}
			harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, 30*time.Second, s.topic("a"))
			var encrypted int
			err := s.conn.QueryRow(t.Context(), `select count(*) from pg_stat_replication r join pg_stat_ssl using (pid)
				where ssl and r.pid = (select active_pid from pg_replication_slots where slot_name = $1)`, s.slot()).Scan(&encrypted)
			if err != nil || (encrypted == 1) != transport.tls {
				t.Errorf("%d walsenders with TLS: %v", encrypted, err)
			}
		})
	}
}
