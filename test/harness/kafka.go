package harness

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Versions of Apache Kafka that tests run against.
const (
	Kafka4 = "4.3.1"
	Kafka3 = "3.9.1"
)

// KafkaOptions says which brokers to start. The zero value is one node of KAFKATEST_VERSION, else of the newest version.
type KafkaOptions struct {
	Version string
	// Nodes is 1 or 3; all are brokers, the first is the controller too, and stays when the others go.
	Nodes int
	// Settings are added to, and win over, the harness's own (server.properties).
	Settings map[string]string
	// Listeners are further ways into each node.
	Listeners []KafkaListener
	// Heap is each node's, as java takes it. Zero: smallHeap.
	Heap string
}

// KafkaListener is a way into a node beside the plain one.
type KafkaListener struct {
	Name     string // upper case; what server.properties know it by
	Protocol string // PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
	// Proxies, where there are any, are what the nodes tell clients to connect to, one for each node. They get the listeners as
	// their targets.
	Proxies []*Proxy
}

// Kafka is a running cluster.
type Kafka struct {
	Version string
	Nodes   []*KafkaNode

	dir string
}

// KafkaNode is one of its brokers.
type KafkaNode struct {
	ID        int
	Addr      string
	Listeners map[string]string // addresses of the further listeners, by name

	dir   string
	heap  string
	kafka *kafkaInstallation
	proc  *process
}

// StartKafka makes a fresh cluster. The caller closes it.
func StartKafka(ctx context.Context, o KafkaOptions) (*Kafka, error) {
	if o.Version == "" {
		o.Version = os.Getenv("KAFKATEST_VERSION")
	}
	if o.Version == "" {
		o.Version = Kafka4
	}
	o.Nodes = max(o.Nodes, 1)
	installation, err := installKafka(ctx, o.Version)
	if err != nil {
		return nil, err
	}
	k := &Kafka{Version: o.Version}
	if k.dir, err = folder(os.TempDir(), "kafka"); err != nil {
		return nil, err
	}
	controller, err := freePort()
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	for id := 1; id <= o.Nodes; id++ {
		port, err := freePort()
		if err != nil {
			return nil, errors.Join(err, k.Close())
		}
		n := &KafkaNode{ID: id, Addr: loopback(port), dir: filepath.Join(k.dir, fmt.Sprintf("node%d", id)), heap: cmp.Or(o.Heap, smallHeap), kafka: installation}
		if err := n.listen(o.Listeners); err != nil {
			return nil, errors.Join(err, k.Close())
		}
		if err := n.configure(loopback(controller), o); err != nil {
			return nil, errors.Join(err, k.Close())
		}
		if err := n.format(); err != nil {
			return nil, errors.Join(err, k.Close())
		}
		k.Nodes = append(k.Nodes, n)
	}
	for _, n := range k.Nodes {
		if err := n.launch(); err != nil {
			return nil, errors.Join(err, k.Close())
		}
	}
	if err := k.awaitBrokers(ctx, len(k.Nodes)); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// NewKafka starts a cluster for one test.
func NewKafka(t testing.TB, o KafkaOptions) *Kafka {
	t.Helper()
	k, err := StartKafka(t.Context(), o)
	if err != nil {
		t.Fatalf("start Kafka: %v", err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Errorf("stop Kafka: %v", err)
		}
	})
	return k
}

// listen chooses ports for the further listeners.
func (n *KafkaNode) listen(listeners []KafkaListener) error {
	n.Listeners = make(map[string]string, len(listeners))
	for _, l := range listeners {
		port, err := freePort()
		if err != nil {
			return err
		}
		n.Listeners[l.Name] = loopback(port)
		if len(l.Proxies) > 0 {
			l.Proxies[n.ID-1].SetTarget(loopback(port))
		}
	}
	return nil
}

// configure writes a node's settings.
func (n *KafkaNode) configure(controller string, o KafkaOptions) error {
	replicas := fmt.Sprint(min(o.Nodes, 3))
	settings := map[string]string{
		"node.id": fmt.Sprint(n.ID), "process.roles": "broker", "controller.quorum.voters": "1@" + controller,
		"controller.listener.names": "CONTROLLER", "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"listeners": "PLAINTEXT://" + n.Addr, "advertised.listeners": "PLAINTEXT://" + n.Addr,
		"log.dirs": n.data(), "auto.create.topics.enable": "false",
		"offsets.topic.replication.factor": replicas, "offsets.topic.num.partitions": "1", "group.initial.rebalance.delay.ms": "0",
		"transaction.state.log.replication.factor": replicas, "transaction.state.log.min.isr": "1", "transaction.state.log.num.partitions": "3",
		"default.replication.factor": replicas, "min.insync.replicas": "1", "num.network.threads": "2", "num.io.threads": "4",
		"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500", "replica.lag.time.max.ms": "3000",
		"controlled.shutdown.enable": "false", "log.cleaner.dedupe.buffer.size": "4194304", "log.cleaner.backoff.ms": "500",
	}
	if n.ID == 1 {
		settings["process.roles"] = "broker,controller"
		settings["listeners"] += ",CONTROLLER://" + controller
	}
	for _, l := range o.Listeners {
		advertised := n.Listeners[l.Name]
		if len(l.Proxies) > 0 {
			advertised = l.Proxies[n.ID-1].Addr()
		}
		settings["listeners"] += "," + l.Name + "://" + n.Listeners[l.Name]
		settings["advertised.listeners"] += "," + l.Name + "://" + advertised
		settings["listener.security.protocol.map"] += "," + l.Name + ":" + l.Protocol
	}
	for k, v := range o.Settings {
		settings[k] = v
	}
	lines := make([]string, 0, len(settings))
	for k, v := range settings {
		lines = append(lines, k+"="+v)
	}
	slices.Sort(lines)
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(n.properties(), []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

func (n *KafkaNode) properties() string { return filepath.Join(n.dir, "server.properties") }

// data is where a node's logs are.
func (n *KafkaNode) data() string { return filepath.Join(n.dir, "data") }

// kafkaCluster is the id of every cluster: any UUID in base64.
const kafkaCluster = "MkU3OEVBNTcwNTJENDM2Qk"

// format makes a node's storage as Kafka's tool does, without a JVM for it.
func (n *KafkaNode) format() error {
	if err := os.MkdirAll(n.data(), 0o755); err != nil {
		return err
	}
	directory := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "outrider-node-%02d", n.ID)) // any UUID that no other node has
	meta := fmt.Sprintf("version=1\ncluster.id=%s\nnode.id=%d\ndirectory.id=%s\n", kafkaCluster, n.ID, directory)
	bootstrap, err := os.ReadFile(n.kafka.bootstrap())
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(n.data(), "meta.properties"), []byte(meta), 0o644),
		os.WriteFile(filepath.Join(n.data(), bootstrapFile), bootstrap, 0o644),
	)
}

// launch runs the node, with further options of the JVM.
func (n *KafkaNode) launch(options ...string) error {
	log, err := os.OpenFile(filepath.Join(n.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(n.kafka.java, slices.Concat([]string{n.heap}, options, n.kafka.javaArgs(), []string{"kafka.Kafka", n.properties()})...)
	cmd.Stdout, cmd.Stderr = log, log
	n.proc, err = start(cmd)
	return err
}

// Start runs a stopped node again on its data and port, and returns when it answers.
func (n *KafkaNode) Start(ctx context.Context) error {
	if err := n.launch(); err != nil {
		return err
	}
	return n.await(ctx)
}

// await waits until the node answers as a broker.
func (n *KafkaNode) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		cl, err := kgo.NewClient(kgo.SeedBrokers(n.Addr))
		if err != nil {
			return err
		}
		ask, done := context.WithTimeout(ctx, 2*time.Second)
		meta, err := kadm.NewClient(cl).BrokerMetadata(ask)
		done()
		cl.Close()
		if err == nil && slices.Contains(meta.Brokers.NodeIDs(), int32(n.ID)) {
			return nil
		}
		if ctx.Err() != nil || !n.proc.running() {
			log, _ := os.ReadFile(filepath.Join(n.dir, "log"))
			return fmt.Errorf("Kafka node %d does not answer: %w\n%s", n.ID, err, log)
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// awaitBrokers waits until every node answers.
func (k *Kafka) awaitBrokers(ctx context.Context, _ int) error {
	for _, n := range k.Nodes {
		if err := n.await(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Kill ends the node as kill -9 does.
func (n *KafkaNode) Kill() { n.proc.signal(syscall.SIGKILL); <-n.proc.done }

// Stop ends it in order.
func (n *KafkaNode) Stop() error { return n.proc.stop(syscall.SIGTERM, 30*time.Second) }

// Pause freezes it, and Resume lets it go on.
func (n *KafkaNode) Pause()  { n.proc.signal(syscall.SIGSTOP) }
func (n *KafkaNode) Resume() { n.proc.signal(syscall.SIGCONT) }

// PID is the node's process.
func (n *KafkaNode) PID() int { return n.proc.cmd.Process.Pid }

// Brokers are the addresses of all nodes.
func (k *Kafka) Brokers() []string {
	addrs := make([]string, len(k.Nodes))
	for i, n := range k.Nodes {
		addrs[i] = n.Addr
	}
	return addrs
}

// Close kills the cluster and removes its data.
func (k *Kafka) Close() error {
	for _, n := range k.Nodes {
		if n.proc != nil && n.proc.running() {
			n.proc.signal(syscall.SIGKILL)
			<-n.proc.done
		}
	}
	return os.RemoveAll(k.dir)
}

// CreateTopic makes a topic; config may be nil.
func (k *Kafka) CreateTopic(t testing.TB, name string, partitions int32, replicas int16, config map[string]string) {
	t.Helper()
	CreateTopic(t, k.Brokers(), name, partitions, replicas, config)
}
