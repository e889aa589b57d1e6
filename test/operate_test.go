package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

func TestKafkaUnreachableAtStartIsWaitedFor(t *testing.T) {
	t.Parallel()
	kafka, s := harness.NewKafka(t, harness.KafkaOptions{}), newStage(t, sharedPostgres(t))
	kafka.CreateTopic(t, s.topic("a"), 3, 1, nil)
	node := kafka.Nodes[0]
	node.Kill()
	start := restart(t, node)
	relay := s.start(t, kafka.Brokers(), impatient)
	harness.Eventually(t, 20*time.Second, "the reason for waiting", func() error {
		body, code, err := relay.Get("/readyz")
		if err == nil && (code != 503 || !strings.Contains(body, node.Addr)) {
			err = fmt.Errorf("/readyz: %d %s", code, body)
		}
		return err
	})
	if body, code, err := relay.Get("/healthz"); err != nil || code != 200 {
		t.Errorf("/healthz: %d %s %v", code, body, err)
	}
	harness.WriteRows(t, s.conn, s.aggregate("a"), 1, 100, 100) // its slot is there
	start()
	relay.AwaitState(t, cdc.Relaying, 30*time.Second)
	harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, 20*time.Second, s.topic("a"))
}

// metricNames are promised to whoever builds dashboards and alerts.
var metricNames = []string{
	"events_total", "bytes_total", "skipped_duplicates_total", "commit_to_ack_seconds_bucket", "lag_bytes", "lag_seconds",
	`lsn{kind="received"}`, `lsn{kind="acked"}`, `lsn{kind="stored"}`, `lsn{kind="confirmed"}`, `lsn{kind="server"}`,
	"slot_retained_bytes", "slot_active", "in_flight_records", "in_flight_bytes", "oldest_unacked_seconds",
	"produce_requests_total", "batch_records_bucket", "batch_bytes_bucket", `state{state="relaying"} 1`, `state{state="blocked"} 0`, "build_info",
}

func TestEndpointsSayHowTheRelayIsDoing(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	kafka.CreateTopic(t, s.topic("a"), 3, 1, nil)
	leader := s.startRelaying(t, kafka.Brokers(), "")
	standby := s.start(t, kafka.Brokers(), "")
	standby.AwaitState(t, cdc.Standby, 20*time.Second)
	for relay, state := range map[*harness.Relay]string{leader: "relaying", standby: "standby"} {
		for path, want := range map[string]string{"/readyz": state, "/healthz": "ok", "/": `data-state="` + state + `"`} {
			if body, code, err := relay.Get(path); err != nil || code != 200 || !strings.Contains(body, want) {
				t.Errorf("%s of the one that is %s: %d %s %v", path, state, code, body, err)
			}
		}
	}
	before := s.commit(t, func() { harness.WriteRows(t, s.conn, s.aggregate("a"), 1, 1000, 100) })
	harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, 20*time.Second, s.topic("a"))
	var st cdc.Status
	harness.Eventually(t, 20*time.Second, "rest", func() (err error) {
		if st, err = leader.Status(); err == nil && (!s.confirmedBeyond(t, before) || st.InFlight.Records > 0 || st.LagSeconds > 0) {
			err = fmt.Errorf("%+v, %+v, %f seconds behind", st.LSN, st.InFlight, st.LagSeconds)
		}
		return err
	})
	last := pglogrepl.LSN(1)
	for _, text := range []string{st.LSN.Confirmed, st.LSN.Stored, st.LSN.Acked, st.LSN.Received, st.LSN.Server} {
		lsn, err := pglogrepl.ParseLSN(text)
		if err != nil || lsn < last {
			t.Errorf("not confirmed <= stored <= acked <= received <= server: %+v %v", st.LSN, err)
		}
		last = lsn
	}
	if st.Name != s.name || st.Version == "" || st.Instance == "" || st.Delivery == "" || st.Postgres.Slot != s.slot() || !st.Postgres.SlotActive ||
		st.Postgres.SystemID == "" || st.Postgres.Timeline == 0 || st.Topics[s.topic("a")].Records != 1000 || st.Records.Relayed != 1000 || st.LastError != nil {
		t.Errorf("/status: %+v", st)
	}
	body, code, err := leader.Get("/metrics")
	if err != nil || code != 200 {
		t.Fatalf("/metrics: %d %v", code, err)
	}
	for _, name := range append(metricNames, fmt.Sprintf(`events_total{topic="%s"} 1000`, s.topic("a"))) {
		if !strings.Contains(body, "\noutrider_"+name) {
			t.Errorf("/metrics has no outrider_%s", name)
		}
	}
	for name, relay := range map[string]*harness.Relay{"the standby": standby, "the leader": leader} {
		if code := relay.Stop(t); code != 0 {
			t.Errorf("%s ends with exit code %d", name, code)
		}
	}
}

func TestConfigurationErrorsAreToldAllAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "outrider.yaml")
	const settings = `name: Orders!
postgres:
  ulr: postgres://relay@localhost/shop
kafka:
  brokers: [localhost]
  compresion: lz4
  linger: soon
outbox:
  on_poison: ignore
timeouts:
  drain: -1s
`
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	out, log, code := harness.Command(t, []string{"OUTRIDER_KAFKA_BATCH_BYTES=many"}, "run", "--config", file)
	if code != 2 || out != "" {
		t.Errorf("exit code %d, stdout %q", code, out)
	}
	lines := strings.Split(strings.TrimSpace(log), "\n")
	for _, want := range []struct{ where, what string }{
		{file + ":1", "name"},
		{file + ":3", "postgres.url"}, // the nearest key
		{file + ":5", "kafka.brokers"},
		{file + ":6", "kafka.compression"}, // the nearest key
		{file + ":7", "kafka.linger"},
		{file + ":9", "outbox.on_poison"},
		{file + ":11", "timeouts.drain"},
		{"OUTRIDER_KAFKA_BATCH_BYTES", "kafka.batch_bytes"},
	} {
		told := false
		for _, line := range lines {
			told = told || strings.Contains(line, want.where) && strings.Contains(line, want.what)
		}
		if !told {
			t.Errorf("no line about %s at %s in\n%s", want.what, want.where, log)
		}
	}
	if last := lines[len(lines)-1]; !strings.Contains(last, "nothing was started") {
		t.Errorf("the last line: %s", last)
	}
}
