package sink

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/outrider-relay/outrider/sink/broker"
)

// Operations of Kafka's ACLs (AclOperation), as bits of what Metadata tells.
const (
	mayRead  = 1 << 3
	mayWrite = 1 << 4
)

// NamedTopics are those that the settings name, rather than make from a row.
func NamedTopics(cfg *Config) []string {
	named := make(map[string]bool)
	for _, topic := range cfg.Routing.AllowedTopics {
		if !strings.HasSuffix(topic, "*") {
			named[topic] = true
		}
	}
	if topic := cfg.Routing.Topic; topic != "" && !strings.Contains(topic, "${") && cfg.Routing.TopicRegex.Match == "" {
		named[topic] = true
	}
	if cfg.OnPoison == DeadLetter {
		named[cfg.DeadLetter] = true
	}
	return slices.Sorted(maps.Keys(named))
}

// likelyTopics bounds how many topics are looked at that rows lead to.
const likelyTopics = 100

// lookAtTopics asks for each topic that is known beforehand.
func (in *inspection) lookAtTopics(ctx context.Context, conn *broker.Conn) error {
	named := NamedTopics(in.cfg)
	all := slices.Compact(slices.Sorted(slices.Values(slices.Concat(named, in.Topics, in.Likely[:min(len(in.Likely), likelyTopics)]))))
	if len(all) == 0 {
		in.ok("topics follow from the rows, of which none could be looked at: none is known beforehand (outbox.allowed_topics can name them)")
		return nil
	}
	answer, err := conn.Do(ctx, &metadata.Request{TopicNames: all, IncludeTopicAuthorizedOperations: true})
	if err != nil {
		return err
	}
	for i := range answer.(*metadata.Response).Topics {
		t := &answer.(*metadata.Response).Topics[i]
		if t.ErrorCode != 0 {
			in.withoutTopic(conn, t, in.levelOf(t.Name, named))
			continue
		}
		in.checkTopicRights(conn, t, in.levelOf(t.Name, named))
		if err := in.checkTopicConfigs(ctx, conn, t); err != nil {
			return err
		}
	}
	return nil
}

// levelOf is how much it matters that a topic cannot be written: rows that lead to it may be of a time before the relay's.
func (in *inspection) levelOf(topic string, named []string) string {
	if slices.Contains(named, topic) || slices.Contains(in.Topics, topic) {
		return Fail
	}
	return Warn
}

// withoutTopic is about one that is missing or forbidden.
func (in *inspection) withoutTopic(conn *broker.Conn, t *metadata.ResponseTopic, level string) {
	what := "topic " + t.Name
	if level == Warn {
		what += ", to which rows of the outbox lead,"
	}
	switch {
	case t.ErrorCode == codeUnknownTopic && in.cfg.Topics.Create:
		in.ok("topic %s does not exist, and is made with its first row (kafka.topics.create)", t.Name)
	case t.ErrorCode == codeUnknownTopic && !slices.Contains(in.Topics, t.Name):
		in.add(level, what+" does not exist", "its rows would wait for it; other topics would go on",
			fmt.Sprintf("outrider init --topics %s; or kafka-topics --bootstrap-server %s --create --topic %s --partitions %d --replication-factor %d; or set kafka.topics.create: true",
				t.Name, conn.Addr(), t.Name, in.cfg.Topics.Partitions, in.cfg.Topics.ReplicationFactor))
	case t.ErrorCode == codeUnknownTopic:
		in.add(Warn, "topic "+t.Name+" does not exist any more, and this relay has written to it", "if it was not deleted on purpose, Kafka has lost events; its rows would wait", "make it again, or leave it if no more rows name it")
	case classify(t.ErrorCode) == classTopic:
		in.add(level, what+" cannot be used: "+errorName(t.ErrorCode), "its rows would wait", in.acl(conn, in.topicGrant(t.Name)))
	default:
		in.add(Warn, what+" cannot be used just now: "+errorName(t.ErrorCode), "its rows wait for a leader", "see its brokers")
	}
}

// topicGrant is what the relay needs on a topic.
func (in *inspection) topicGrant(topic string) string {
	grant := "--operation Write --operation Describe --operation DescribeConfigs --topic " + topic
	if in.ExactlyOnce {
		grant = "--operation Read " + grant
	}
	return grant
}

// checkTopicRights goes by the operations that the broker says are allowed to us.
func (in *inspection) checkTopicRights(conn *broker.Conn, t *metadata.ResponseTopic, level string) {
	may := t.TopicAuthorizedOperations
	if may < 0 {
		return // not told, by brokers before 2.3
	}
	var missing []string
	if may&mayWrite == 0 {
		missing = append(missing, "WRITE")
	}
	if in.ExactlyOnce && may&mayRead == 0 {
		missing = append(missing, "READ")
	}
	if len(missing) > 0 {
		in.add(level, "the relay has no "+strings.Join(missing, " and no ")+" on topic "+t.Name, "it writes there, and with exactly-once reads what a session before it has left", in.acl(conn, in.topicGrant(t.Name)))
	}
}

// checkReplicas finds what makes a partition refuse records, or lose acked ones, with a broker. It gives the number of replicas.
func (in *inspection) checkReplicas(t *metadata.ResponseTopic, set map[string]string, warn func(setting, why, value string)) (replicas int) {
	least, told := integer(set["min.insync.replicas"])
	var short []string
	for _, p := range t.Partitions {
		replicas = max(replicas, len(p.ReplicaNodes))
		if told && int64(len(p.IsrNodes)) < least {
			short = append(short, fmt.Sprint(p.PartitionIndex))
		}
	}
	switch {
	case told && least > int64(replicas):
		in.add(Fail, fmt.Sprintf("topic %s has min.insync.replicas=%d, and fewer replicas: %d", t.Name, least, replicas), "Kafka takes no record for it, whatever brokers are there", "kafka-reassign-partitions to more replicas, or lower min.insync.replicas")
		return replicas
	case len(short) > 0:
		in.add(Warn, fmt.Sprintf("topic %s has fewer in-sync replicas than min.insync.replicas=%d, in partition %s", t.Name, least, strings.Join(short, ", ")), "its rows wait until there are enough", "see which of its brokers is away, or behind")
	}
	if told && least < 2 && replicas > 1 {
		warn("min.insync.replicas", "one broker's ack is enough: what it alone has is lost with it", "2")
	}
	if replicas == 1 {
		in.add(Warn, "topic "+t.Name+" has one replica", "its records are lost with that broker's disk", "kafka-reassign-partitions, or make it with --replication-factor 3")
	}
	return replicas
}

// compactionLag is the least age of a record that compaction may remove: long enough for the relay to have stored it, or to be started again.
const compactionLag = time.Hour

// checkTopicConfigs finds what makes a topic lose or refuse records.
func (in *inspection) checkTopicConfigs(ctx context.Context, conn *broker.Conn, t *metadata.ResponseTopic) error {
	set, why, err := readConfigs(ctx, conn, topicResource, t.Name)
	if err != nil {
		return err
	}
	if why != "" {
		in.add(Warn, "the settings of topic "+t.Name+" cannot be read: "+why, "whether it can lose records is not known (DESCRIBE_CONFIGS is wished, not required)", in.acl(conn, "--operation DescribeConfigs --topic "+t.Name))
		return nil
	}
	before := len(in.findings)
	warn := func(setting, why, value string) {
		in.add(Warn, fmt.Sprintf("topic %s has %s=%s", t.Name, setting, set[setting]), why,
			fmt.Sprintf("kafka-configs --bootstrap-server %s --alter --entity-type topics --entity-name %s --add-config %s=%s", conn.Addr(), t.Name, setting, value))
	}
	replicas := in.checkReplicas(t, set, warn)
	if set["unclean.leader.election.enable"] == "true" {
		warn("unclean.leader.election.enable", "a broker that has not got everything may become leader, and what it lacks is lost", "false")
	}
	if lag, ok := integer(set["min.compaction.lag.ms"]); ok && strings.Contains(set["cleanup.policy"], "compact") && lag < compactionLag.Milliseconds() && in.ExactlyOnce {
		warn("min.compaction.lag.ms", "a restart looks for what the last session sent, and asks a person where compaction has removed it", fmt.Sprint(compactionLag.Milliseconds()))
	}
	if ms, ok := integer(set["retention.ms"]); ok && ms >= 0 && ms < compactionLag.Milliseconds() && strings.Contains(set["cleanup.policy"], "delete") {
		warn("retention.ms", "records go before consumers, or a restart of the relay, have seen them", fmt.Sprint((7 * 24 * time.Hour).Milliseconds()))
	}
	if most, ok := integer(set["retention.bytes"]); ok && most >= 0 && most < in.cfg.MaxInFlightBytes && strings.Contains(set["cleanup.policy"], "delete") {
		warn("retention.bytes", fmt.Sprintf("kafka.max_in_flight_bytes is %d: what a restart looks for may be gone", in.cfg.MaxInFlightBytes), "-1")
	}
	if most, ok := integer(set["max.message.bytes"]); ok && most < int64(in.cfg.BatchBytes) {
		warn("max.message.bytes", fmt.Sprintf("kafka.batch_bytes is %d: batches of that size are refused and taken apart", in.cfg.BatchBytes), fmt.Sprintf("%d (or lower kafka.batch_bytes)", in.cfg.BatchBytes))
	}
	for _, setting := range []string{"message.timestamp.before.max.ms", "message.timestamp.difference.max.ms"} {
		if ms, ok := integer(set[setting]); ok && ms < in.cfg.MaxTimestampAge.Milliseconds() && set["message.timestamp.type"] != "LogAppendTime" {
			warn(setting, "records with an older commit time are refused (kafka.max_timestamp_age is "+in.cfg.MaxTimestampAge.String()+")", fmt.Sprintf("%d (or lower kafka.max_timestamp_age)", in.cfg.MaxTimestampAge.Milliseconds()))
		}
	}
	if len(in.findings) == before {
		in.ok("topic %s: partitions %d, replicas %d, min.insync.replicas %s, max.message.bytes %s", t.Name, len(t.Partitions), replicas, set["min.insync.replicas"], set["max.message.bytes"])
	}
	return nil
}
