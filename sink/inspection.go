package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/describeconfigs"
	"github.com/segmentio/kafka-go/protocol/findcoordinator"
	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/outrider-relay/outrider/sink/broker"
)

// The levels of a Finding.
const (
	OK   = "ok"
	Warn = "warn" // the relay works, and an operator should know
	Fail = "fail" // the relay does not start, or cannot deliver
)

// Finding is something that an operator should know: what it is, why it matters, and the command that repairs it.
type Finding struct{ Level, What, Why, Repair string }

// Inquiry is what Inspect is to look at beside the settings.
type Inquiry struct {
	ExactlyOnce bool
	// Principal is who the relay is to Kafka, for commands that can be pasted. Empty: it is left open.
	Principal string
	// ClusterID is the Kafka cluster of the checkpoint; empty: none yet.
	ClusterID string
	// Topics are those that the relay may have written; Likely those that rows of the outbox lead to.
	Topics, Likely []string
}

// inspection is a look in progress.
type inspection struct {
	Inquiry
	cfg      *Config
	k        *Kafka
	findings []Finding
}

// inspectTimeout bounds each step of a look: whoever waits for the answer sits before a terminal.
const inspectTimeout = 10 * time.Second

// Inspect looks at everything in Kafka that could keep a session from starting, or from delivering well. It changes nothing and
// fences nobody: a relay that runs under the same name does not notice.
func Inspect(ctx context.Context, cfg Config, q Inquiry) []Finding {
	cfg.Ledger, cfg.Conn.Timeout = nil, min(cfg.Conn.Timeout, inspectTimeout)
	k, err := New(cfg)
	if err != nil {
		return []Finding{{Fail, err.Error(), "no topic could be chosen by them", "correct the settings"}}
	}
	in := &inspection{Inquiry: q, cfg: &k.cfg, k: k}
	conn := in.dialAny(ctx)
	if conn == nil {
		return in.findings
	}
	defer func() { _ = conn.Close() }()
	if err := in.look(ctx, conn); err != nil {
		in.add(Fail, "the look at Kafka broke off", oneLine(err), "")
	}
	return in.findings
}

func (in *inspection) add(level, what, why, repair string) {
	in.findings = append(in.findings, Finding{level, what, why, repair})
}

func (in *inspection) ok(format string, args ...any) {
	in.add(OK, fmt.Sprintf(format, args...), "", "")
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// dialAny gives a connection to the first broker of the settings that takes one; nil when none does.
func (in *inspection) dialAny(ctx context.Context) *broker.Conn {
	var conn *broker.Conn
	for _, addr := range in.cfg.Brokers {
		c, err := broker.Dial(ctx, addr, &in.cfg.Conn)
		switch {
		case err != nil:
			in.add(Warn, oneLine(err), "it is named in kafka.brokers", dialRepair(err))
		case conn == nil:
			conn = c
		default:
			_ = c.Close()
		}
	}
	if conn == nil {
		for i := range in.findings {
			in.findings[i].Level = Fail // none of them is left
		}
	}
	return conn
}

// dialRepair is what to do about an error of dialling.
func dialRepair(err error) string {
	switch broker.KindOf(err) {
	case broker.KindUnreachable:
		return "start that broker, or correct kafka.brokers or the network in between"
	case broker.KindSettings:
		return "correct the file or the setting that it names"
	case broker.KindTLS:
		return "set kafka.tls as that listener wants it: enabled, ca_file, and cert_file with key_file where it asks for a certificate"
	case broker.KindMechanism:
		return "set kafka.sasl.mechanism to one that this listener offers"
	case broker.KindCredentials:
		return "correct kafka.sasl.username and its password"
	case broker.KindToken:
		return "see why that broker does not take it (expired, or for another audience): kafka.sasl.token_file is read at every dial; with kafka.sasl.mechanism aws-msk-iam, let the identity that AWS gives the relay connect (kafka-cluster:Connect)"
	case broker.KindVersion:
		return "the relay speaks to Kafka 2.4 and later: upgrade that broker"
	}
	return "see whether this is a Kafka listener for clients, with TLS or without (kafka.tls.enabled)"
}

// look asks over conn.
func (in *inspection) look(ctx context.Context, conn *broker.Conn) error {
	in.checkVersions(conn)
	cluster, err := describe(ctx, conn, nil)
	if err != nil {
		return err
	}
	switch {
	case in.ClusterID != "" && in.ClusterID != cluster.ClusterID:
		in.add(Fail, fmt.Sprintf("the checkpoint is of the Kafka cluster %s, this one is %s", in.ClusterID, cluster.ClusterID), "what was delivered there is not here",
			"correct kafka.brokers; or start the relay, and when it is blocked: outrider resolve --name "+in.cfg.Name+" --accept-new-cluster")
	default:
		in.ok("Kafka cluster %s; brokers: %d", cluster.ClusterID, len(cluster.Brokers))
	}
	if n := in.cfg.Topics.ReplicationFactor; in.cfg.Topics.Create && int(n) > len(cluster.Brokers) {
		in.add(Fail, fmt.Sprintf("kafka.topics.replication_factor is %d, and the brokers are %d", n, len(cluster.Brokers)), "no topic can be made with its first row (kafka.topics.create)", fmt.Sprintf("set kafka.topics.replication_factor to %d at most", len(cluster.Brokers)))
	}
	in.dialEach(ctx, cluster)
	if in.ExactlyOnce {
		if err := in.lookAtTransactionalID(ctx, conn); err != nil {
			return err
		}
	}
	if err := in.lookAtBroker(ctx, cluster); err != nil {
		return err
	}
	return in.lookAtTopics(ctx, conn)
}

// needed are the APIs that a session speaks, and those that exactly-once adds.
var needed = []struct {
	key         protocol.ApiKey
	exactlyOnce bool
}{
	{protocol.Metadata, false},
	{protocol.Produce, false},
	{protocol.InitProducerId, false},
	{protocol.FindCoordinator, true},
	{protocol.AddPartitionsToTxn, true},
	{protocol.EndTxn, true},
	{protocol.Fetch, true},
	{protocol.ListOffsets, true},
}

func (in *inspection) checkVersions(conn *broker.Conn) {
	var missing []string
	for _, api := range needed {
		if _, offered := conn.Version(api.key); !offered && (in.ExactlyOnce || !api.exactlyOnce) {
			missing = append(missing, api.key.String())
		}
	}
	if len(missing) > 0 {
		in.add(Fail, "broker "+conn.Addr()+" does not offer "+strings.Join(missing, ", "), "delivery needs them", "use Apache Kafka 2.4 or later, or what speaks its protocol in full")
	}
}

// dialEach dials the brokers under the addresses that the cluster gives its clients.
func (in *inspection) dialEach(ctx context.Context, cluster *metadata.Response) {
	for _, b := range cluster.Brokers {
		addr := net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
		conn, err := broker.Dial(ctx, addr, &in.cfg.Conn)
		if err == nil {
			_ = conn.Close()
			continue
		}
		level := Warn
		if broker.IsPermanent(err) || len(cluster.Brokers) == 1 {
			level = Fail
		}
		in.add(level, oneLine(err), fmt.Sprintf("clients are sent there for the partitions that broker %d leads", b.NodeID),
			dialRepair(err)+"; an address that is wrong from here is set by the broker's advertised.listeners")
	}
}

// lookAtTransactionalID asks who coordinates the relay's transactional id. Nothing that would bump its epoch is asked: that
// would fence the relay that runs.
func (in *inspection) lookAtTransactionalID(ctx context.Context, conn *broker.Conn) error {
	id := transactionalID(in.cfg.Name)
	answer, err := conn.Do(ctx, &findcoordinator.Request{Key: id, KeyType: transactionKey})
	if err != nil {
		return err
	}
	switch code := answer.(*findcoordinator.Response).ErrorCode; {
	case code == codeTransactionalIDForbidden:
		in.add(Fail, "the transactional id "+id+" may not be used", "exactly-once takes a producer under it",
			in.acl(conn, "--operation Write --operation Describe --transactional-id "+id)+"; or set kafka.delivery: at-least-once")
	case classify(code) == classRetry:
		in.add(Warn, "the transactional id "+id+" has no coordinator just now: "+errorName(code), "a start waits for it", "see that __transaction_state has leaders: kafka-topics --bootstrap-server "+conn.Addr()+" --describe --topic __transaction_state (a new cluster makes it at the first use)")
	case code != 0:
		in.add(Fail, "find the coordinator of "+id+": "+errorName(code), "exactly-once needs one", "")
	default:
		in.ok("the transactional id %s has a coordinator; that the relay may write under it (WRITE) shows only when it starts", id)
	}
	return nil
}

// acl is the command that grants.
func (in *inspection) acl(conn *broker.Conn, grant string) string {
	principal := "User:" + in.Principal
	if in.Principal == "" {
		principal = "'User:<the relay's principal>'"
	}
	return "kafka-acls --bootstrap-server " + conn.Addr() + " --add --allow-principal " + principal + " " + grant
}

// Types of resources to DescribeConfigs (Kafka: ConfigResource.Type).
const (
	topicResource  = 2
	brokerResource = 4
)

// Broker settings that a session lives with.
const (
	maxTxnTimeout  = "transaction.max.timeout.ms"
	txnReplication = "transaction.state.log.replication.factor"
)

// lookAtBroker reads the settings of a broker. All are taken to be configured alike.
func (in *inspection) lookAtBroker(ctx context.Context, cluster *metadata.Response) error {
	if !in.ExactlyOnce || len(cluster.Brokers) == 0 {
		return nil
	}
	b := cluster.Brokers[0]
	conn, err := broker.Dial(ctx, net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))), &in.cfg.Conn)
	if err != nil {
		return nil // told by dialEach
	}
	defer func() { _ = conn.Close() }()
	set, why, err := readConfigs(ctx, conn, brokerResource, strconv.Itoa(int(b.NodeID)))
	if err != nil {
		return err
	}
	if why != "" {
		in.add(Warn, "the settings of broker "+conn.Addr()+" cannot be read: "+why, "how long it remembers a producer is then taken to be Kafka's default (DESCRIBE_CONFIGS on the cluster is wished, not required)",
			in.acl(conn, "--operation DescribeConfigs --cluster"))
		return nil
	}
	if ms, ok := integer(set[maxTxnTimeout]); ok && ms < txnTimeout.Milliseconds() {
		in.add(Fail, fmt.Sprintf("%s is %d", maxTxnTimeout, ms), fmt.Sprintf("the relay's empty transactions ask for %d", txnTimeout.Milliseconds()), "raise it on the brokers to at least that")
	}
	if ms, ok := integer(set[producerExpiry]); ok && time.Duration(ms)*time.Millisecond < time.Hour {
		in.add(Warn, fmt.Sprintf("%s is %d: brokers soon forget who wrote", producerExpiry, ms), "the relay reminds them in a quarter of that time, and stamps its records with the present as soon", "leave it at 86400000 (a day), Kafka's default")
	}
	if ms, ok := integer(set[transactionalExpiry]); ok && time.Duration(ms)*time.Millisecond < time.Hour {
		in.add(Warn, fmt.Sprintf("%s is %d: a relay that is away for longer comes back under another producer id", transactionalExpiry, ms), "what its predecessor has under way is then waited for, for a request's time-out", "leave it at 604800000 (a week), Kafka's default")
	}
	if n, ok := integer(set[txnReplication]); ok && n < 2 && len(cluster.Brokers) > 1 {
		in.add(Warn, txnReplication+" is 1", "while the one broker that holds it is away, no session can start", "raise the replication of __transaction_state to 3: kafka-reassign-partitions")
	}
	return nil
}

// readConfigs gives the settings of one resource, or why they may not be seen.
func readConfigs(ctx context.Context, conn *broker.Conn, resource int8, name string) (set map[string]string, why string, err error) {
	answer, err := conn.Do(ctx, &describeconfigs.Request{Resources: []describeconfigs.RequestResource{{ResourceType: resource, ResourceName: name}}})
	var e *broker.Error
	if errors.As(err, &e) && e.Kind == broker.KindVersion {
		return nil, e.Error(), nil
	}
	if err != nil {
		return nil, "", err
	}
	set = make(map[string]string)
	for _, r := range answer.(*describeconfigs.Response).Resources {
		if r.ErrorCode != 0 {
			return nil, (&answerError{r.ErrorCode, r.ErrorMessage}).Error(), nil
		}
		for _, entry := range r.ConfigEntries {
			set[entry.ConfigName] = entry.ConfigValue
		}
	}
	return set, "", nil
}

func integer(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}
