package migrate

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// producer begins the options of the Kafka producer in the configuration of a connector.
const producer = "producer.override."

// kafka translates how the producer reaches its cluster, and what it does there.
func (t *translation) kafka(brokers []string) {
	if own := list(t.take(producer + "bootstrap.servers")); len(brokers) == 0 {
		brokers = own
	}
	if len(brokers) == 0 {
		brokers = []string{"localhost:9092"}
		t.doc.set("kafka.brokers", brokers)
		t.doc.comment("kafka.brokers", "A connector's configuration does not say where Kafka is: take bootstrap.servers of the worker.")
		t.note("bootstrap.servers", "it stands in the worker's configuration: set kafka.brokers (or give --kafka), which is localhost:9092 until then")
	} else {
		t.doc.set("kafka.brokers", brokers)
	}
	if id := t.take(producer + "client.id"); id != "" {
		t.doc.set("kafka.client_id", id)
	}
	t.security()
	t.take("exactly.once.support") // the relay's default, whatever was asked for
	if c := t.take(producer + "compression.type"); c != "" {
		t.doc.set("kafka.compression", c)
	}
	t.millis(producer+"linger.ms", "kafka.linger")
	if size := t.take(producer + "max.request.size"); size != "" {
		t.doc.set("kafka.batch_bytes", size)
		t.take(producer + "batch.size")
		if n, err := strconv.ParseInt(size, 10, 64); err == nil && n > 16<<20 {
			t.doc.set("kafka.max_in_flight_bytes", size)
		}
	}
	t.millis(producer+"request.timeout.ms", "timeouts.broker")
	t.topics()
}

// millis carries a number of milliseconds over.
func (t *translation) millis(option, path string) {
	if value := t.take(option); value != "" {
		t.doc.set(path, value+"ms")
	}
}

// topics translates the default group of topics that Kafka Connect creates.
func (t *translation) topics() {
	const group = "topic.creation.default."
	partitions, replicas := t.take(group+"partitions"), t.take(group+"replication.factor")
	if partitions == "" && replicas == "" {
		t.note("topic.creation.default.partitions", "the relay creates no topics unless kafka.topics.create is true; rows of a missing topic wait. "+
			"Kafka Connect may have left it to the brokers (auto.create.topics.enable)")
		return
	}
	t.doc.set("kafka.topics.create", true)
	for _, count := range []struct{ option, value, path string }{
		{group + "partitions", partitions, "kafka.topics.partitions"},
		{group + "replication.factor", replicas, "kafka.topics.replication_factor"},
	} {
		if n, err := strconv.ParseInt(count.value, 10, 32); err == nil && n > 0 {
			t.doc.set(count.path, n)
		} else {
			t.lost(count.option, "it is left to the brokers: set %s", count.path)
		}
	}
	for _, option := range slices.Sorted(maps.Keys(t.options)) {
		setting, ours := strings.CutPrefix(option, group)
		if ours && setting != "include" && setting != "exclude" {
			t.doc.setEntry("kafka.topics.config", setting, t.take(option))
		}
	}
}

// security translates TLS and SASL.
func (t *translation) security() {
	protocol := strings.ToUpper(t.takeOr(producer+"security.protocol", "PLAINTEXT"))
	if strings.HasSuffix(protocol, "SSL") {
		t.tls()
	}
	if !strings.HasPrefix(protocol, "SASL_") {
		return
	}
	mechanism := strings.ToLower(t.takeOr(producer+"sasl.mechanism", "GSSAPI"))
	jaas := t.take(producer + "sasl.jaas.config")
	if !slices.Contains([]string{"plain", "scram-sha-256", "scram-sha-512"}, mechanism) {
		t.lost(producer+"sasl.mechanism", "%s is not known to the relay: kafka.sasl is left out", mechanism)
		return
	}
	user, password := jaasValue(jaas, "username"), jaasValue(jaas, "password")
	if user == "" || strings.Contains(user, "${") && !environmentValue.MatchString(user) {
		user = "unknown"
		t.lost(producer+"sasl.jaas.config", "no user name was found in it: set kafka.sasl.username")
	}
	t.doc.set("kafka.sasl.mechanism", mechanism)
	t.doc.set("kafka.sasl.username", user)
	switch ref, file := secret(password); {
	case file != "":
		t.doc.set("kafka.sasl.password_file", file)
	case ref != "":
		t.doc.set("kafka.sasl.password", ref)
	default:
		t.doc.set("kafka.sasl.password", "${env:KAFKA_PASSWORD}")
		t.doc.comment("kafka.sasl.password", "The password is not copied: give it as this variable, or name a file in password_file instead.")
		t.note(producer+"sasl.jaas.config", "its password is not copied: give it as KAFKA_PASSWORD, or set kafka.sasl.password_file instead of kafka.sasl.password")
	}
}

// jaasEntry is an option of a login module: name="value".
var jaasEntry = regexp.MustCompile(`(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s;"']+))`)

func jaasValue(jaas, name string) string {
	for _, m := range jaasEntry.FindAllStringSubmatch(jaas, -1) {
		if m[1] == name {
			return strings.ReplaceAll(m[2]+m[3]+m[4], `\"`, `"`)
		}
	}
	return ""
}

// tls takes over files in PEM. A Java key store is none.
func (t *translation) tls() {
	t.doc.set("kafka.tls.enabled", true)
	const ssl = producer + "ssl."
	for _, store := range []struct {
		name  string
		paths []string
	}{
		{"truststore", []string{"kafka.tls.ca_file"}},
		{"keystore", []string{"kafka.tls.cert_file", "kafka.tls.key_file"}}, // one file holds both
	} {
		file := t.take(ssl + store.name + ".location")
		pem := strings.EqualFold(t.take(ssl+store.name+".type"), "PEM")
		t.drop(ssl + store.name + ".password")
		switch {
		case file == "":
		case pem:
			for _, path := range store.paths {
				t.doc.set(path, file)
			}
		default:
			t.lost(ssl+store.name+".location", "a Java key store cannot be read: export it as PEM, and set %s", strings.Join(store.paths, " and "))
		}
	}
}
