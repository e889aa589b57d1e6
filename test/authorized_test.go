package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// authorizedKafka is a broker that lets the user relay do only what it has been granted. Tests are nobody in particular, and
// may do everything.
func authorizedKafka(t *testing.T) (kafka *harness.Kafka, brokers []string, config string) {
	t.Helper()
	kafka = harness.NewKafka(t, harness.KafkaOptions{
		Listeners: []harness.KafkaListener{{Name: "USERS", Protocol: "SASL_PLAINTEXT"}},
		Settings: map[string]string{
			"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS",
			"listener.name.users.sasl.enabled.mechanisms": "PLAIN",
			"listener.name.users.plain.sasl.jaas.config":  fmt.Sprintf(`org.apache.kafka.common.security.plain.PlainLoginModule required user_relay="%s";`, kafkaPassword),
			"allow.everyone.if.no.acl.found":              "false",
		},
	})
	return kafka, []string{kafka.Nodes[0].Listeners["USERS"]}, fmt.Sprintf("kafka: { delivery: exactly-once, sasl: { mechanism: plain, username: relay, password: %s } }\n", kafkaPassword)
}

// rights are those on a topic, or on the transactional ids of all relays.
func rights(topic string) *kadm.ACLBuilder {
	b := kadm.NewACLs().Allow("User:relay").AllowHosts("*").ResourcePatternType(kadm.ACLPatternLiteral)
	if topic == "" {
		return b.TransactionalIDs("*").Operations(kadm.OpWrite, kadm.OpDescribe)
	}
	return b.Topics(topic).Operations(kadm.OpRead, kadm.OpWrite, kadm.OpDescribe)
}

func grant(t *testing.T, kafka *harness.Kafka, b *kadm.ACLBuilder) {
	t.Helper()
	res, err := harness.Admin(t, kafka.Brokers()).CreateACLs(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range res {
		if r.Err != nil {
			t.Fatalf("grant: %v", r.Err)
		}
	}
}

func revoke(t *testing.T, kafka *harness.Kafka, topic string, operations ...kadm.ACLOperation) {
	t.Helper()
	b := kadm.NewACLs().Allow("User:relay").AllowHosts("*").ResourcePatternType(kadm.ACLPatternLiteral).Topics(topic).Operations(operations...)
	res, err := harness.Admin(t, kafka.Brokers()).DeleteACLs(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range res {
		if r.Err != nil || len(r.Deleted) == 0 {
			t.Fatalf("revoke: %v, %d revoked", r.Err, len(r.Deleted))
		}
	}
}

// Nor is anything given up there: what the session before has published cannot be read back, nor can it be fenced. To read and to
// write are two rights, and with one of them the topic is described as if nothing were wrong.
func TestTopicForbiddenAtTheStartHoldsOnlyItself(t *testing.T) {
	t.Parallel()
	kafka, brokers, config := authorizedKafka(t)
	s := newStage(t, sharedPostgres(t))
	barred, free := s.topic("a"), s.topic("b")
	grant(t, kafka, rights(""))
	for _, topic := range []string{barred, free} {
		kafka.CreateTopic(t, topic, 2, 1, nil)
		grant(t, kafka, rights(topic))
	}
	config = strings.Replace(config, "kafka: { ", "kafka: { topics: { wait: 100ms }, ", 1) + "checkpoint: { interval: 1h }\noutbox: { on_poison: skip }\n"
	relay := s.startRelaying(t, brokers, config)
	s.insertN(t, "a", 100)
	s.insertN(t, "b", 100)
	awaitIDs(t, kafka.Brokers(), 200, false, barred, free)
	for i, operations := range [][]kadm.ACLOperation{{kadm.OpRead}, {kadm.OpWrite, kadm.OpDescribe}} {
		relay.Kill()
		revoke(t, kafka, barred, operations...)
		relay = s.start(t, brokers, config)
		s.insertN(t, "a", 10)
		st := awaitDegraded(t, relay, barred, patience)
		if !strings.Contains(st.Reason, "TOPIC_AUTHORIZATION_FAILED") {
			t.Errorf("the reason is %q", st.Reason)
		}
		s.insertN(t, "b", 10)
		awaitIDs(t, kafka.Brokers(), 110+10*i, false, free)
		if n := len(ids(t, kafka.Brokers(), barred)); n != 100 {
			t.Errorf("%d events in the topic that is forbidden, not 100", n)
		}
		if st, err := relay.Status(); err != nil || len(st.Sessions) > 0 || st.Records.Poison > 0 {
			t.Errorf("%d events given up, sessions ended: %v (%v)", st.Records.Poison, st.Sessions, err)
		}
	}
	grant(t, kafka, rights(barred))
	awaitIDs(t, kafka.Brokers(), 240, false, barred, free)
	relay.AwaitState(t, cdc.Relaying, patience)
}
