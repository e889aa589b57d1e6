package test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// recordText is a record but for its place in the log, and for its last header, which has to be the position.
func recordText(t *testing.T, r *kgo.Record) string {
	t.Helper()
	text := fmt.Sprintf("%s key=%s value=%s", r.Topic, orNull(r.Key), orNull(r.Value))
	for i, h := range r.Headers {
		if i < len(r.Headers)-1 {
			text += fmt.Sprintf(" %s=%s", h.Key, orNull(h.Value))
		} else if h.Key != "outrider-position" {
			t.Errorf("the last header of %s is %s", text, h.Key)
		}
	}
	return text
}

func orNull(b []byte) string {
	if b == nil {
		return "<null>"
	}
	return string(b)
}

// awaitExactly waits until topics hold as many records as are wanted, and compares.
func awaitExactly(t *testing.T, brokers []string, want []string, topics ...string) []*kgo.Record {
	t.Helper()
	harness.AwaitRecords(t, brokers, int64(len(want)), patience, topics...)
	records := harness.ReadAll(t, brokers, topics...)
	got := make([]string, len(records))
	for i, r := range records {
		got[i] = recordText(t, r)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
	return records
}

const id = "4d47e190-0402-4048-bc2c-89dd54343cdc" // of every row below

// Nothing is set but which tables there are: several in one publication, each with columns of its own.
func TestTablesOfOthersWorkAsTheyAre(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	harness.Exec(t, s.conn, `create schema inventory`)
	for _, sql := range []string{
		// of Debezium's documents, and as its example names it
		`create table inventory.outboxevent (id uuid not null primary key, aggregatetype varchar(255) not null, aggregateid varchar(255) not null, type varchar(255) not null, payload jsonb)`,
		// of Quarkus' extension, with tracing
		`create table outboxevent (id uuid not null primary key, aggregatetype varchar(255) not null, aggregateid varchar(255) not null, type varchar(255) not null,
			timestamp timestamp not null, payload varchar(8000), tracingspancontext varchar(256))`,
		// the bytea twin of ours
		`create table outbox_bytes (id uuid not null, aggregate_type text not null, aggregate_id text not null, event_type text not null, payload bytea, headers jsonb not null default '{}', created_at timestamptz not null default now())`,
		// ours, in monthly partitions
		`create table outbox_parts (id uuid not null, aggregate_type text not null, aggregate_id text not null, event_type text not null, payload jsonb, headers jsonb, created_at timestamptz not null) partition by range (created_at)`,
		`create table outbox_parts_1 partition of outbox_parts for values from ('2026-01-01') to ('2026-02-01')`,
		`create table outbox_parts_2 partition of outbox_parts for values from ('2026-02-01') to ('2026-03-01')`,
	} {
		harness.Exec(t, s.conn, sql)
	}
	topic := s.topic("a")
	kafka.CreateTopic(t, topic, 3, 1, nil)
	s.startRelaying(t, kafka.Brokers(), "outbox: { tables: [public.outbox, inventory.outboxevent, public.outboxevent, public.outbox_bytes, public.outbox_parts] }")

	aggregate := s.aggregate("a")
	harness.Exec(t, s.conn, `insert into outbox values ($1, $2, 'ours', 'Placed', '{"a": 1.10}', '{"traceparent": "00-1-2-01", "tenant": "acme"}')`, id, aggregate)
	harness.Exec(t, s.conn, `insert into inventory.outboxevent values ($1, $2, 'debezium', 'OrderCreated', '{"id": 1}')`, id, aggregate)
	harness.Exec(t, s.conn, `insert into inventory.outboxevent values ($1::uuid, $2, 'debezium', 'OrderChanged', null) on conflict (id) do update set type = 'OrderChanged'`, id, aggregate) // an update is no event
	for _, sql := range []string{`begin`, `insert into outboxevent values ($1, $2, 'quarkus', 'OrderCreated', '2026-01-01 12:00:00', '{"b" : 2}', E'#Fri Jan 02 03:04:05 UTC 2026\ntraceparent=00-1-2-01\ntracestate=v\\=1\n')`, `delete from outboxevent`, `commit`} {
		if strings.HasPrefix(sql, "insert") {
			harness.Exec(t, s.conn, sql, id, aggregate)
		} else {
			harness.Exec(t, s.conn, sql)
		}
	}
	harness.Exec(t, s.conn, `insert into outbox_bytes values ($1, $2, 'bytes', 'Sealed', '\x0001fffe')`, id, aggregate)
	harness.Exec(t, s.conn, `insert into outbox_parts values ($1, $2, 'january', 'Placed', '[1]', null, '2026-01-05'), ($1, $2, 'february', 'Placed', null, null, '2026-02-05')`, id, aggregate)

	record := func(key, value, eventType string, headers ...string) string {
		return strings.Join(append([]string{topic, "key=" + key, "value=" + value, "id=" + id, "event_type=" + eventType}, headers...), " ")
	}
	awaitExactly(t, kafka.Brokers(), []string{
		record("ours", `{"a": 1.10}`, "Placed", "tenant=acme", "traceparent=00-1-2-01"),
		record("debezium", `{"id": 1}`, "OrderCreated"),
		record("quarkus", `{"b" : 2}`, "OrderCreated", "traceparent=00-1-2-01", "tracestate=v=1"),
		record("bytes", "\x00\x01\xff\xfe", "Sealed"),
		record("january", "[1]", "Placed"),
		record("february", "<null>", "Placed"),
	}, topic)
}

// Every choice that a relay has for all of its tables, and a mapping that is one table's alone.
func TestChoicesReachTheRecord(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	topics := []string{s.name + ".orders", s.name + ".bills", s.name + ".unlisteds"}
	for _, topic := range topics {
		kafka.CreateTopic(t, topic, 5, 1, nil)
	}
	harness.Exec(t, s.conn, `drop table outbox`)
	harness.Exec(t, s.conn, `create table orders (id uuid, kind text, aggregate_id bigint, event_type text, payload jsonb, happened timestamptz, shard int, tenant text, urgent bool, score float8, total numeric)`)
	harness.Exec(t, s.conn, `create table bills (id uuid, kind text, aggregate_id bigint, event_type text, body text, happened timestamptz, shard int, tenant text, urgent bool, score float8, total numeric)`)
	harness.Exec(t, s.conn, `create table audit (id int)`)
	harness.Exec(t, s.conn, `create publication outrider for table orders, bills, audit with (publish = 'insert')`)
	s.startRelaying(t, kafka.Brokers(), `
outbox:
  tables: [public.orders, public.bills]
  columns: { aggregate_type: kind, timestamp: happened, partition: shard, public.bills.payload: body }
  topic_regex: { match: '(.+)-event', replace: '`+s.name+`.$1s' }
  allowed_topics: ['`+s.name+`.orders', '`+s.name+`.b*']
  on_poison: skip
  key_format: json
  headers: [tenant, "urgent:hurry"]
  header_format: json
  envelope: [kind, aggregate_id, urgent, score, "total:sum", tenant]
`)
	happened := time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond)
	harness.Exec(t, s.conn, `insert into audit values (1)`) // published, and not among the tables
	harness.Exec(t, s.conn, `insert into orders values ($1, 'unlisted-event', 42, 'Placed', '{}', $2, 3, null, true, 1, 1)`, id, happened)
	harness.Exec(t, s.conn, `insert into orders values ($1, 'order-event', 42, 'Placed', '{"a": 1.10}', $2, 3, null, true, 1.5, 123456789012345678901234567890.10)`, id, happened)
	harness.Exec(t, s.conn, `insert into bills values ($1, 'bill-event', 43, 'Sent', E'say "hi"\n', $2, 4, 'acme', false, 'NaN', null)`, id, happened)

	quotedID := `id="` + id + `"`
	records := awaitExactly(t, kafka.Brokers(), []string{
		topics[0] + ` key=42 value={"payload":{"a": 1.10},"kind":"order-event","aggregate_id":42,"urgent":true,"score":1.5,"sum":"123456789012345678901234567890.10","tenant":null} ` + quotedID + ` event_type="Placed" hurry=true`,
		topics[1] + ` key=43 value={"payload":"say \"hi\"\n","kind":"bill-event","aggregate_id":43,"urgent":false,"score":"NaN","sum":null,"tenant":"acme"} ` + quotedID + ` event_type="Sent" tenant="acme" hurry=false`,
	}, topics...)
	for _, r := range records {
		if want := map[string]int32{topics[0]: 3, topics[1]: 4}[r.Topic]; r.Partition != want || !r.Timestamp.Equal(happened) {
			t.Errorf("%s is in partition %d, of %s; want %d, of %s", r.Topic, r.Partition, r.Timestamp, want, happened)
		}
	}
}

// Kafka Protocol Binding for CloudEvents 1.0.2, binary content mode.
func TestRowsAreCloudEvents(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	kafka.CreateTopic(t, s.topic("a"), 1, 1, nil)
	relay := s.startRelaying(t, kafka.Brokers(), "outbox: { value: cloudevents-binary, cloudevents: { source: '/shop/${aggregate_type}' }, on_poison: skip }")
	for _, payload := range []any{`{"a": 1}`, nil} {
		harness.Exec(t, s.conn, `insert into outbox values (gen_random_uuid(), $1, 'k', 'order.placed', $2, '{"ce_partitionkey": "k"}')`, s.aggregate("a"), payload)
	}
	harness.Exec(t, s.conn, `insert into outbox values (gen_random_uuid(), $1, 'k', '', '{}')`, s.aggregate("a"))
	harness.AwaitRecords(t, kafka.Brokers(), 2, patience, s.topic("a"))
	relay.AwaitLog(t, "a CloudEvent must have one", patience)
	for i, r := range harness.ReadAll(t, kafka.Brokers(), s.topic("a")) {
		headers := make(map[string]string)
		for _, h := range r.Headers {
			headers[h.Key] = string(h.Value)
		}
		if at, err := time.Parse(time.RFC3339Nano, headers["ce_time"]); err != nil || at.Truncate(time.Millisecond).UnixMilli() != r.Timestamp.UnixMilli() {
			t.Errorf("ce_time is %s (%v), of a record of %s", headers["ce_time"], err, r.Timestamp)
		}
		want := map[string]string{
			"id": headers["ce_id"], "event_type": "order.placed", "ce_specversion": "1.0", "ce_id": headers["id"], "ce_type": "order.placed", "ce_subject": "k",
			"ce_source": "/shop/" + s.aggregate("a"), "ce_time": headers["ce_time"], "ce_partitionkey": "k", "outrider-position": headers["outrider-position"],
		}
		value := "<null>"
		if i == 0 {
			value, want["content-type"] = `{"a": 1}`, "application/json"
		}
		if !maps.Equal(headers, want) || len(headers) != len(r.Headers) || orNull(r.Value) != value {
			t.Errorf("value %s, headers %v, want %v", orNull(r.Value), r.Headers, want)
		}
	}
}

// A table that cannot work with the settings is named before anything of it is sent.
func TestTableThatDoesNotFitIsNamed(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	relay := s.startRelaying(t, kafka.Brokers(), "outbox: { compat: debezium, on_poison: skip, columns: { aggregate_id: nope } }")
	harness.WriteRows(t, s.conn, s.aggregate("a"), 1, 1, 10)
	harness.Eventually(t, patience, "the table is named", func() error {
		st, err := relay.Status()
		if err == nil && (st.State == cdc.Relaying || !strings.Contains(st.Reason, `table public.outbox has no column "nope"`)) {
			err = fmt.Errorf("it is %s (%s)", st.State, st.Reason)
		}
		return err
	})
}

func TestRoutingThatCannotBeReadEndsTheStartWith2(t *testing.T) {
	env := []string{
		"OUTRIDER_NAME=a", "OUTRIDER_POSTGRES_URL=postgres://localhost/a", "OUTRIDER_KAFKA_BROKERS=localhost:1",
		"OUTRIDER_OUTBOX_TOPIC=a.${b", "OUTRIDER_OUTBOX_TOPIC_REGEX_MATCH=(?!x)y", "OUTRIDER_OUTBOX_TOPIC_REGEX_REPLACE=z",
	}
	_, stderr, code := harness.Command(t, env, "run")
	if code != 2 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"${b is not a column reference", `"(?!"`} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is not named in\n%s", want, stderr)
		}
	}
}
