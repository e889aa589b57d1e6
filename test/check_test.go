package test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// finding is a line of outrider check --json.
type finding struct{ Side, Level, What, Why, Repair string }

// checkRelay runs outrider check for a relay, with further settings in the environment.
func checkRelay(t *testing.T, name, postgres string, brokers []string, env ...string) (findings []finding, code int) {
	t.Helper()
	out, log, code := harness.Command(t, env, "check", "--name", name, "--postgres", postgres, "--kafka", strings.Join(brokers, ","), "--json")
	if err := json.Unmarshal([]byte(out), &findings); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, log)
	}
	return findings, code
}

// wantFinding wants one of a level, on a side, that says all of says.
func wantFinding(t *testing.T, findings []finding, side, level string, says ...string) {
	t.Helper()
	for _, f := range findings {
		text, all := f.What+": "+f.Why+". Repair: "+f.Repair, f.Side == side && f.Level == level
		for _, want := range says {
			all = all && strings.Contains(text, want)
		}
		if all {
			return
		}
	}
	t.Errorf("no finding about %s of level %s says %q in\n%s", side, level, says, show(findings))
}

func show(findings []finding) string {
	lines := make([]string, len(findings))
	for i, f := range findings {
		lines[i] = fmt.Sprintf("%s %s %s: %s. %s", f.Level, f.Side, f.What, f.Why, f.Repair)
	}
	return strings.Join(lines, "\n")
}

func TestCheckPassesBesideARunningRelayAndLeavesItAlone(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	if findings, code := checkRelay(t, s.name, s.url, s.brokers); code != 0 {
		t.Errorf("before the first start: exit code %d\n%s", code, show(findings))
	}
	relay := s.relaying(t)
	harness.WriteRows(t, s.conn, s.kind, 1, 100, 10)
	s.awaitDelivered(t, harness.NoRepeats)
	findings, code := checkRelay(t, s.name, s.url, s.brokers)
	if code != 0 {
		t.Errorf("exit code %d\n%s", code, show(findings))
	}
	wantFinding(t, findings, "postgres", "ok", "a checkpoint at", "the slot agrees with it")
	wantFinding(t, findings, "postgres", "ok", "read by pid")
	wantFinding(t, findings, "postgres", "ok", "table public.outbox has the columns")
	wantFinding(t, findings, "kafka", "ok", "transactional id outrider."+s.name)
	wantFinding(t, findings, "kafka", "warn", "topic "+s.destination+" has one replica")
	out, _, _ := harness.Command(t, nil, "check", "--name", s.name, "--postgres", s.url, "--kafka", strings.Join(s.brokers, ","))
	for line := range strings.Lines(out) {
		if level, _, _ := strings.Cut(line, " "); level != "ok" && level != "warn" {
			t.Errorf("a line without a level, or one that fails: %s", line)
		}
	}
	harness.WriteRows(t, s.conn, s.kind, 101, 200, 10)
	s.awaitDelivered(t, harness.NoRepeats)
	if st, err := relay.Status(); err != nil || st.State != cdc.Relaying || len(st.Sessions) > 0 {
		t.Errorf("the relay was disturbed: %+v, %v", st, err)
	}
}

// Each topic has one thing that makes it lose or refuse records.
func TestCheckNamesWhatIsWrongWithKafka(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	topic := func(kind string) string { return s.name + "." + kind }
	for kind, set := range map[string]map[string]string{
		"small": {"max.message.bytes": "1000"}, "short": {"retention.ms": "1000"}, "compact": {"cleanup.policy": "compact"},
		"unclean": {"unclean.leader.election.enable": "true"}, "strict": {"message.timestamp.before.max.ms": "1000"},
		"little": {"retention.bytes": "1000"}, "starved": {"min.insync.replicas": "2"},
	} {
		kafka.CreateTopic(t, topic(kind), 1, 1, set)
	}
	findings, code := checkRelay(t, s.name, s.url, kafka.Brokers(),
		"OUTRIDER_OUTBOX_ALLOWED_TOPICS="+strings.Join([]string{topic("small"), topic("short"), topic("compact"), topic("unclean"), topic("strict"), topic("little"), topic("starved"), topic("missing"), "any*"}, ","),
		"OUTRIDER_OUTBOX_ON_POISON=dead_letter", "OUTRIDER_OUTBOX_DEAD_LETTER_TOPIC="+topic("dead"))
	if code != 11 {
		t.Errorf("exit code %d\n%s", code, show(findings))
	}
	for kind, says := range map[string][]string{
		"small": {"max.message.bytes=1000", "kafka.batch_bytes", "--add-config max.message.bytes=1048576"}, "short": {"retention.ms=1000"},
		"compact": {"min.compaction.lag.ms=0", "--add-config min.compaction.lag.ms=3600000"}, "unclean": {"unclean.leader.election.enable=true", "is lost"},
		"strict": {"message.timestamp.before.max.ms=1000", "kafka.max_timestamp_age"}, "little": {"retention.bytes=1000", "kafka.max_in_flight_bytes"},
	} {
		wantFinding(t, findings, "kafka", "warn", append(says, "topic "+topic(kind))...)
	}
	wantFinding(t, findings, "kafka", "fail", "topic "+topic("starved")+" has min.insync.replicas=2, and fewer replicas: 1")
	for _, kind := range []string{"missing", "dead"} {
		wantFinding(t, findings, "kafka", "fail", "topic "+topic(kind)+" does not exist", "kafka-topics --bootstrap-server", "outrider init --topics "+topic(kind))
	}
}

// Topics follow from rows, and rows are there to be looked at; as is what the relay that runs says itself.
func TestCheckSeesWhatRowsLeadToAndWhatTheRelaySays(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	kafka.CreateTopic(t, s.topic("there"), 1, 1, map[string]string{"cleanup.policy": "compact"})
	relay := s.startRelaying(t, kafka.Brokers(), "outbox: { on_poison: skip }\n")
	harness.WriteRows(t, s.conn, s.aggregate("there"), 1, 10, 10)
	harness.WriteRows(t, s.conn, s.aggregate("missing"), 1, 10, 10)
	harness.Exec(t, s.conn, `insert into outbox (aggregate_type, aggregate_id, event_type, payload) values ('no topic', '1', 'Bad', '{}')`)
	st := awaitDegraded(t, relay, s.topic("missing"), patience)
	findings, code := checkRelay(t, s.name, s.url, kafka.Brokers(), "OUTRIDER_HTTP_LISTEN="+strings.TrimPrefix(relay.Base, "http://"), "OUTRIDER_OUTBOX_ON_POISON=skip")
	if code != 0 {
		t.Errorf("exit code %d\n%s", code, show(findings))
	}
	wantFinding(t, findings, "kafka", "warn", "topic "+s.topic("missing")+", to which rows of the outbox lead, does not exist", "outrider init --topics "+s.topic("missing"))
	wantFinding(t, findings, "kafka", "warn", "topic "+s.topic("there")+" has min.compaction.lag.ms=0")
	wantFinding(t, findings, "postgres", "warn", "of 21 rows of public.outbox that were looked at, 1 cannot become records", `"outbox.event.no topic"`, "they are left out")
	wantFinding(t, findings, "relay", "warn", "is degraded: ", st.Reason)
}

func TestCheckTellsTheSidesApart(t *testing.T) {
	t.Parallel()
	s := newStage(t, sharedPostgres(t))
	findings, code := checkRelay(t, s.name, s.url, []string{"127.0.0.1:1"})
	if code != 11 {
		t.Errorf("Kafka away: exit code %d\n%s", code, show(findings))
	}
	wantFinding(t, findings, "kafka", "fail", "broker 127.0.0.1:1: connect", "kafka.brokers")

	findings, _ = checkRelay(t, s.name, "postgres://relay@127.0.0.1:1/shop", []string{"127.0.0.1:1"})
	wantFinding(t, findings, "postgres", "fail", "Postgres cannot be asked", "correct postgres.url")

	harness.Exec(t, s.conn, `alter table outbox rename payload to body`)
	findings, code = checkRelay(t, s.name, s.url, []string{"127.0.0.1:1"})
	if code != 10 {
		t.Errorf("a table without payload: exit code %d\n%s", code, show(findings))
	}
	wantFinding(t, findings, "postgres", "fail", "table public.outbox has no payload column", "outbox.columns")
}

// What ACLs refuse is told with the line that grants it.
func TestCheckTellsWhichRightsAreMissing(t *testing.T) {
	t.Parallel()
	kafka, brokers, _ := authorizedKafka(t)
	s := newStage(t, sharedPostgres(t))
	topic := s.topic("a")
	kafka.CreateTopic(t, topic, 1, 1, nil)
	grant(t, kafka, kadm.NewACLs().Allow("User:relay").AllowHosts("*").ResourcePatternType(kadm.ACLPatternLiteral).Topics(topic).Operations(kadm.OpWrite))
	env := []string{
		"OUTRIDER_KAFKA_SASL_MECHANISM=plain", "OUTRIDER_KAFKA_SASL_USERNAME=relay", "OUTRIDER_KAFKA_SASL_PASSWORD=" + kafkaPassword,
		"OUTRIDER_OUTBOX_ALLOWED_TOPICS=" + topic,
	}
	findings, code := checkRelay(t, s.name, s.url, brokers, env...)
	if code != 11 {
		t.Errorf("exit code %d\n%s", code, show(findings))
	}
	add := "kafka-acls --bootstrap-server " + brokers[0] + " --add --allow-principal User:relay "
	wantFinding(t, findings, "kafka", "fail", "transactional id outrider."+s.name, add+"--operation Write --operation Describe --transactional-id outrider."+s.name)
	wantFinding(t, findings, "kafka", "fail", "no READ on topic "+topic, add+"--operation Read --operation Write")
	grant(t, kafka, rights(""))
	grant(t, kafka, rights(topic))
	findings, code = checkRelay(t, s.name, s.url, brokers, env...)
	if code != 0 {
		t.Errorf("with the rights: exit code %d\n%s", code, show(findings))
	}
	wantFinding(t, findings, "kafka", "warn", "the settings of broker", "--operation DescribeConfigs --cluster")
}
