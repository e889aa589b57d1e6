package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/test/harness"
)

// migrated runs migrate-config on the configuration of a connector.
func migrated(t *testing.T, connector map[string]string) (yaml, log string, code int) {
	t.Helper()
	bin, err := harness.Build()
	if err != nil {
		t.Fatal(err)
	}
	in, err := json.Marshal(map[string]any{"name": "outbox-connector", "config": connector})
	if err != nil {
		t.Fatal(err)
	}
	var out, told bytes.Buffer
	cmd := exec.Command(bin, "migrate-config", "-")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &told
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return out.String(), told.String(), code
}

// The relay takes over the slot of a connector, with what is still in it, and goes on with the same records.
func TestMigratedConnectorGoesOnWithItsSlotAndItsRecords(t *testing.T) {
	t.Parallel()
	s, kafka := newStage(t, sharedPostgres(t)), sharedKafka(t)
	topic := s.name + ".order.events"
	kafka.CreateTopic(t, topic, 1, 1, nil)
	harness.Exec(t, s.conn, `create table outboxevent (id uuid primary key, aggregatetype varchar(255) not null, aggregateid varchar(255) not null,
		type varchar(255) not null, payload varchar(8000))`)
	harness.Exec(t, s.conn, `create publication dbz_publication for table outboxevent`)
	harness.Exec(t, s.conn, `select pg_create_logical_replication_slot($1, 'pgoutput')`, s.slot())

	cfg, err := pgx.ParseConfig(s.url)
	if err != nil {
		t.Fatal(err)
	}
	yaml, log, code := migrated(t, map[string]string{
		"connector.class": "io.debezium.connector.postgresql.PostgresConnector", "plugin.name": "pgoutput", "slot.name": s.slot(),
		"database.hostname": "localhost", "database.dbname": cfg.Database, "database.user": cfg.User, "database.password": "a-secret",
		"topic.prefix": "shop", "table.include.list": "public.outboxevent",
		"key.converter": "org.apache.kafka.connect.storage.StringConverter", "value.converter": "org.apache.kafka.connect.json.JsonConverter",
		"value.converter.schemas.enable": "false",
		"transforms":                     "outbox", "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
		"transforms.outbox.route.topic.replacement":           s.name + ".${routedByValue}.events",
		"transforms.outbox.table.fields.additional.placement": "type:header:eventType",
	})
	if code != 0 || strings.Contains(yaml+log, "a-secret") || !strings.Contains(log, s.slot()) {
		t.Fatalf("exit code %d, and\n%s\n%s", code, yaml, log)
	}

	insert := func(id, payload string) {
		harness.Exec(t, s.conn, `insert into outboxevent values ($1, 'order', '42', 'OrderPlaced', $2)`, id, payload)
		harness.Exec(t, s.conn, `delete from outboxevent`)
	}
	insert("4d47e190-0402-4048-bc2c-89dd54343cd1", `{"id":  1}`)
	s.startRelaying(t, kafka.Brokers(), yaml)
	insert("4d47e190-0402-4048-bc2c-89dd54343cd2", `{"id":  2}`)

	harness.AwaitRecords(t, kafka.Brokers(), 2, patience, topic)
	var got []string
	for _, rec := range harness.ReadAll(t, kafka.Brokers(), topic) {
		line := string(rec.Key) + " " + string(rec.Value)
		for _, h := range rec.Headers[:len(rec.Headers)-1] {
			line += " " + h.Key + "=" + string(h.Value)
		}
		got = append(got, line)
	}
	const context = "__debezium.context.connectorLogicalName=shop __debezium.context.taskId=0 __debezium.context.connectorName=postgresql"
	want := []string{
		`42 "{\"id\":  1}" ` + context + ` id=4d47e190-0402-4048-bc2c-89dd54343cd1 eventType=OrderPlaced`,
		`42 "{\"id\":  2}" ` + context + ` id=4d47e190-0402-4048-bc2c-89dd54343cd2 eventType=OrderPlaced`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("records\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
