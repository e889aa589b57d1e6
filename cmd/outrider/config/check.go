package config

import (
	"fmt"
	"maps"
	"math"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outrider-relay/outrider/sink/broker"
)

var (
	nameRule      = regexp.MustCompile(`^[a-z0-9_]{1,40}$`)
	slotRule      = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)
	topicRule     = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)
	topicWildRule = regexp.MustCompile(`^[a-zA-Z0-9._-]{0,249}\*?$`)
)

// roles are the parts that a column can play in outbox.columns.
var roles = []string{"id", "aggregate_type", "aggregate_id", "event_type", "payload", "headers", "timestamp", "topic", "key", "partition"}

// check finds what is wrong with values that could be read, each by itself and together.
func (l *loader) check() {
	l.checkNames()
	l.checkPostgres()
	l.checkKafka()
	l.checkTLS()
	l.checkSASL()
	l.checkTopics()
	l.checkOutbox()
	l.checkHTTP()
	l.checkTimes()
	l.checkBuilt()
}

// wrong adds a problem to a setting whose value was read.
func (l *loader) wrong(path, format string, args ...any) {
	if !l.broken[path] {
		l.add(l.origins[path], path, format, args...)
	}
}

// wrongEntry is wrong for one entry of a map, which has its own line in a file.
func (l *loader) wrongEntry(path, entry, format string, args ...any) {
	at := l.origins[path]
	if at.line > 0 {
		at = l.origins[path+"."+entry]
	}
	l.add(at, path+"."+entry, format, args...)
}

// given is true for a setting that some source has set.
func (l *loader) given(path string) bool {
	_, given := l.origins[path]
	return given
}

func (l *loader) checkNames() {
	s := l.settings
	if s.Name == "" {
		l.wrong("name", "required: it names the relay, its slot and its checkpoint")
	} else if !nameRule.MatchString(s.Name) {
		l.wrong("name", "%q is not 1 to 40 of a-z, 0-9 and _", s.Name)
	}
	if s.Postgres.Slot != "" && l.given("postgres.slot") && !slotRule.MatchString(s.Postgres.Slot) {
		l.wrong("postgres.slot", "%q is not 1 to 63 of a-z, 0-9 and _", s.Postgres.Slot)
	}
	if s.Postgres.Publication == "" {
		l.wrong("postgres.publication", "required")
	}
}

func (l *loader) checkPostgres() {
	pg := &l.settings.Postgres
	if pg.URL == "" && l.environ["PGHOST"] == "" && l.environ["PGSERVICE"] == "" {
		if !slices.Contains(l.spare, "postgres.url") {
			l.wrong("postgres.url", "required, e.g. postgres://relay@localhost:5432/shop")
		}
		return
	}
	cfg, err := pgconn.ParseConfig(string(pg.URL))
	if err != nil {
		// pgconn masks passwords as well as it can guess in a text that it could not read. Nothing of such a text is shown here;
		// what follows the text in errors about TLS is about files and modes.
		if _, detail, ok := strings.Cut(err.Error(), "`: failed to configure TLS "); ok {
			l.wrong("postgres.url", "TLS cannot be set up as it says %s", detail)
		} else {
			l.wrong("postgres.url", "not a libpq URL or DSN that can be read; special characters in a password must be percent-encoded in a URL, or set postgres.password_file")
		}
		return
	}
	l.checkFile("postgres.password_file", pg.PasswordFile)
	if host := exposedHost(cfg); host != "" && !pg.Insecure {
		l.wrong("postgres.url", "%s is not on this machine, and the connection to it is not verified: "+
			"add sslmode=verify-full (and sslrootcert) to the URL, or set postgres.insecure: true if the network is trusted", host)
	}
}

// exposedHost gives the first host off loopback that would be connected to without verify-full, or "".
func exposedHost(cfg *pgconn.Config) string {
	hosts := []*pgconn.FallbackConfig{{Host: cfg.Host, Port: cfg.Port, TLSConfig: cfg.TLSConfig}}
	for _, h := range append(hosts, cfg.Fallbacks...) {
		network, _ := pgconn.NetworkAddress(h.Host, h.Port)
		// verify-full is the only mode that leaves the verification to crypto/tls.
		verified := h.TLSConfig != nil && !h.TLSConfig.InsecureSkipVerify
		if network != "unix" && !isLoopback(h.Host) && !verified {
			return h.Host
		}
	}
	return ""
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (l *loader) checkKafka() {
	k := &l.settings.Kafka
	if len(k.Brokers) == 0 && !slices.Contains(l.spare, "kafka.brokers") {
		l.wrong("kafka.brokers", "required, e.g. [localhost:9092]")
	}
	for _, broker := range k.Brokers {
		if host, port, ok := hostPort(broker); !ok || host == "" || port == 0 {
			l.wrong("kafka.brokers", "%q is not host:port", broker)
		}
	}
	if k.BatchBytes < 1<<10 || k.BatchBytes > math.MaxInt32 {
		l.wrong("kafka.batch_bytes", "must be from 1KiB to 2GiB")
	}
	if k.MaxInFlightBytes < k.BatchBytes {
		l.wrong("kafka.max_in_flight_bytes", "must be at least kafka.batch_bytes")
	}
}

// hostPort reads host:port; the host may be empty.
func hostPort(s string) (host string, port uint16, ok bool) {
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, false
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return host, uint16(n), err == nil
}

func (l *loader) checkTLS() {
	t := &l.settings.Kafka.TLS
	if !t.Enabled {
		for _, path := range []string{"ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify"} {
			if path = "kafka.tls." + path; l.isSet(path) {
				l.wrong(path, "has no effect without kafka.tls.enabled: true")
			}
		}
		return
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		l.wrong("kafka.tls.cert_file", "kafka.tls.cert_file and kafka.tls.key_file are set together or not at all")
	}
	l.checkFile("kafka.tls.ca_file", t.CAFile)
	l.checkFile("kafka.tls.cert_file", t.CertFile)
	l.checkFile("kafka.tls.key_file", t.KeyFile)
}

// saslSettings are those that some mechanisms need.
var saslSettings = []string{"username", "password", "password_file", "token_file", "extensions"}

func (l *loader) checkSASL() {
	s := &l.settings.Kafka.SASL
	switch s.Mechanism {
	case "none":
		l.refuseSASL("without kafka.sasl.mechanism", saslSettings...)
	case "plain", "scram-sha-256", "scram-sha-512":
		l.checkPassword()
		l.refuseSASL("with kafka.sasl.mechanism "+s.Mechanism, "token_file", "extensions")
	case "oauthbearer":
		if s.TokenFile == "" {
			l.wrong("kafka.sasl.token_file", "required by kafka.sasl.mechanism oauthbearer")
		}
		l.checkFile("kafka.sasl.token_file", s.TokenFile)
		for _, name := range slices.Sorted(maps.Keys(s.Extensions)) {
			if err := broker.CheckExtension(name, s.Extensions[name]); err != nil {
				l.wrong("kafka.sasl.extensions", "%v", err)
			}
		}
		l.refuseSASL("with kafka.sasl.mechanism oauthbearer", "username", "password", "password_file")
	case "aws-msk-iam":
		l.refuseSASL("with kafka.sasl.mechanism aws-msk-iam, whose credentials are found as AWS documents it", saslSettings...)
		if !l.settings.Kafka.TLS.Enabled {
			l.wrong("kafka.tls.enabled", "required by kafka.sasl.mechanism aws-msk-iam: MSK has no other listener for it")
		}
	}
}

// refuseSASL finds settings that the mechanism makes no use of.
func (l *loader) refuseSASL(why string, settings ...string) {
	for _, name := range settings {
		if path := "kafka.sasl." + name; l.isSet(path) {
			l.wrong(path, "has no effect %s", why)
		}
	}
}

func (l *loader) checkPassword() {
	s := &l.settings.Kafka.SASL
	if s.Username == "" {
		l.wrong("kafka.sasl.username", "required by kafka.sasl.mechanism %s", s.Mechanism)
	}
	switch {
	case s.Password == "" && s.PasswordFile == "":
		l.wrong("kafka.sasl.password_file", "required by kafka.sasl.mechanism %s (or kafka.sasl.password)", s.Mechanism)
	case s.Password != "" && s.PasswordFile != "":
		l.wrong("kafka.sasl.password_file", "set this or kafka.sasl.password, not both")
	}
	l.checkFile("kafka.sasl.password_file", s.PasswordFile)
}

func (l *loader) checkTopics() {
	t := &l.settings.Kafka.Topics
	if t.Partitions < 1 {
		l.wrong("kafka.topics.partitions", "must be at least 1")
	}
	if t.ReplicationFactor < 1 || t.ReplicationFactor > math.MaxInt16 {
		l.wrong("kafka.topics.replication_factor", "must be from 1 to %d", math.MaxInt16)
	}
}

func (l *loader) checkOutbox() {
	o := &l.settings.Outbox
	for _, table := range o.Tables {
		if schema, name, ok := strings.Cut(table, "."); !ok || schema == "" || name == "" {
			l.wrong("outbox.tables", "%q has no schema: write schema.table, e.g. public.outbox", table)
		}
	}
	for _, role := range slices.Sorted(maps.Keys(o.Columns)) {
		last := strings.LastIndex(role, ".") + 1 // schema.table.role, or a role alone
		if table := role[:last]; !slices.Contains(roles, role[last:]) || strings.Count(table, ".") == 1 {
			l.wrongEntry("outbox.columns", role, "unknown role; the nearest is %s (or schema.table.role, for one table alone)", nearest(role[last:], roles))
		} else if o.Columns[role] == "" {
			l.wrongEntry("outbox.columns", role, "names no column")
		}
	}
	for _, topic := range o.AllowedTopics {
		switch {
		case topic == "" || !topicWildRule.MatchString(topic):
			l.wrong("outbox.allowed_topics", "%q is neither a topic nor a prefix that ends in *", topic)
		case strings.HasPrefix(topic, "__"):
			l.wrong("outbox.allowed_topics", "%q: topics that begin with __ are internal to Kafka and are never written", topic)
		}
	}
	l.checkPlacements("outbox.headers", o.Headers)
	l.checkPlacements("outbox.envelope", o.Envelope)
	routing := o.Routing()
	for _, problem := range routing.Check(l.settings.Name) {
		l.wrong(problem.Setting, "%s", problem.Reason)
	}
	if slices.Contains(o.LogicalMessages.Prefixes, "") {
		l.wrong("outbox.logical_messages.prefixes", "an empty prefix is none")
	}
	if !o.PositionHeader && l.settings.Kafka.Delivery != "at-least-once" {
		l.wrong("outbox.position_header", "can be false only with kafka.delivery: at-least-once; a restart reads it")
	}
	if !topicRule.MatchString(o.DeadLetter.Topic) {
		l.wrong("outbox.dead_letter.topic", "%q is no topic", o.DeadLetter.Topic)
	}
}

// checkPlacements finds what is no "column:alias".
func (l *loader) checkPlacements(path string, list []string) {
	for _, placed := range list {
		column, alias, renamed := strings.Cut(placed, ":")
		switch {
		case column == "" || renamed && alias == "":
			l.wrong(path, "%q is neither column nor column:alias", placed)
		case strings.HasPrefix(column, "outrider-") && !renamed, strings.HasPrefix(alias, "outrider-"):
			l.wrong(path, "%q: names that begin with outrider- are the relay's own", placed)
		}
	}
}

func (l *loader) checkHTTP() {
	h := &l.settings.HTTP
	if h.Listen == "" {
		return
	}
	if _, _, ok := hostPort(h.Listen); !ok {
		l.wrong("http.listen", "%q is not host:port; \"\" turns the endpoint off", h.Listen)
	}
	l.checkFile("http.token_file", h.TokenFile)
}

func (l *loader) checkTimes() {
	for _, path := range []string{"kafka.max_timestamp_age", "kafka.topics.wait", "checkpoint.interval", "timeouts.drain", "timeouts.broker"} {
		if *l.keys[path].field.(*time.Duration) <= 0 {
			l.wrong(path, "must be more than 0")
		}
	}
}

// checkFile finds a file that cannot be used now rather than at the first dial. Only a regular one is read: a pipe gives its secret once.
func (l *loader) checkFile(path, file string) {
	if file == "" {
		return
	}
	info, err := os.Stat(file)
	if err == nil && (info.Mode().IsRegular() || info.IsDir()) {
		_, err = readSecret(file)
	}
	if err != nil {
		l.wrong(path, "%v", err)
	}
}

// isSet is true for a setting with another value than "", false or an empty map.
func (l *loader) isSet(path string) bool {
	switch field := l.keys[path].field.(type) {
	case *string:
		return *field != ""
	case *Secret:
		return *field != ""
	case *bool:
		return *field
	case *map[string]string:
		return len(*field) > 0
	}
	panic(fmt.Sprintf("setting %s is neither text, boolean nor a map", path))
}
