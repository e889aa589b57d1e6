package harness

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed kafka/pom.xml
var kafkaPOM []byte

// kafkaInstallation is a version of Apache Kafka on this machine, and the Java that runs it.
type kafkaInstallation struct {
	java, dir string
	jars      []string
}

// FetchKafka downloads a version by Maven, unless it is there already.
func FetchKafka(ctx context.Context, version string) error {
	_, err := installKafka(ctx, version)
	return err
}

// installKafka fetches a version once by Maven, and makes what lets its nodes start fast.
func installKafka(ctx context.Context, version string) (*kafkaInstallation, error) {
	java, err := exec.LookPath("java")
	if err != nil {
		return nil, errors.New("a real Kafka needs Java 17 and Maven: make deps, or apt-get install openjdk-17-jre-headless maven")
	}
	base, err := CacheDir()
	if err != nil {
		return nil, err
	}
	k := &kafkaInstallation{java: java, dir: filepath.Join(base, "kafka-"+version)}
	unlock, err := lockFile(k.dir + ".lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := k.fetch(ctx, version); err != nil {
		return nil, err
	}
	if k.jars, err = filepath.Glob(filepath.Join(k.dir, "*.jar")); err != nil {
		return nil, err
	}
	if err := k.prepare(ctx); err != nil {
		return nil, fmt.Errorf("prepare Apache Kafka %s: %w", version, err)
	}
	return k, nil
}

// fetch downloads the jars.
func (k *kafkaInstallation) fetch(ctx context.Context, version string) error {
	complete := filepath.Join(k.dir, ".complete")
	if _, err := os.Stat(complete); err == nil {
		return nil
	}
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return fmt.Errorf("the jars of Apache Kafka %s are fetched by Maven, which is missing: make deps, or apt-get install maven", version)
	}
	if err := os.MkdirAll(k.dir, 0o755); err != nil {
		return err
	}
	pom := filepath.Join(k.dir, "pom.xml")
	if err := os.WriteFile(pom, kafkaPOM, 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, mvn, "-q", "-B", "-f", pom, "dependency:copy-dependencies", "-Dkafka.version="+version, "-DoutputDirectory="+k.dir)
	if out, err := output(cmd); err != nil {
		return fmt.Errorf("fetch Apache Kafka %s by Maven: %w\n%s", version, err, out)
	}
	return os.WriteFile(complete, nil, 0o644)
}

// bootstrapFile holds the features that a new cluster begins with; the same for each.
const bootstrapFile = "bootstrap.checkpoint"

func (k *kafkaInstallation) bootstrap() string { return filepath.Join(k.dir, bootstrapFile) }

// classes is an archive of the classes that a node loads when it starts (JEP 350). A Java that did not make it does without.
func (k *kafkaInstallation) classes() string { return filepath.Join(k.dir, "classes.jsa") }

// prepare runs a node once, and keeps the classes that it has loaded and what its storage began with.
func (k *kafkaInstallation) prepare(ctx context.Context) error {
	if _, err := os.Stat(k.bootstrap()); err == nil {
		return nil
	}
	dir, err := folder(os.TempDir(), "kafka")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	broker, err1 := freePort()
	controller, err2 := freePort()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	n := &KafkaNode{ID: 1, Addr: loopback(broker), dir: dir, heap: smallHeap, kafka: k}
	if err := n.configure(loopback(controller), KafkaOptions{Nodes: 1}); err != nil {
		return err
	}
	tool := exec.CommandContext(ctx, k.java, append(k.javaArgs(), "kafka.tools.StorageTool", "format", "-t", kafkaCluster, "-c", n.properties())...)
	if out, err := output(tool); err != nil {
		return fmt.Errorf("format the storage of a node: %w\n%s", err, out)
	}
	bootstrap, err := os.ReadFile(filepath.Join(n.data(), bootstrapFile))
	if err != nil {
		return err
	}
	made := k.classes() + ".new"
	if err := n.launch("-XX:ArchiveClassesAtExit=" + made); err != nil {
		return err
	}
	if err := errors.Join(n.await(ctx), n.Stop()); err != nil {
		return err
	}
	if err := os.Rename(made, k.classes()); err != nil && !errors.Is(err, os.ErrNotExist) { // another Java makes none
		return err
	}
	return os.WriteFile(k.bootstrap(), bootstrap, 0o644)
}

// smallHeap is enough for a broker of a test.
const smallHeap = "-Xmx384m"

// javaArgs make a JVM that starts fast and stays small.
func (k *kafkaInstallation) javaArgs() []string {
	args := []string{"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"}
	if _, err := os.Stat(k.classes()); err == nil {
		args = append(args, "-XX:SharedArchiveFile="+k.classes())
	}
	return append(args, "-cp", strings.Join(k.jars, ":"))
}
