package migrate

import (
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// postgres translates how the connector reaches its database, and what it reads there.
func (t *translation) postgres() {
	t.connection()
	t.slot()
}

func (t *translation) connection() {
	host, port := t.takeOr("database.hostname", "localhost"), t.takeOr("database.port", "5432")
	mode := t.takeOr("database.sslmode", "prefer")
	user := escaped(t.takeOr("database.user", "postgres"))
	password, option := t.take("database.password"), t.asWritten("database.password")
	var comment []string
	ref, file := secret(password)
	switch {
	case ref != "":
		user += ":" + ref
	case file != "":
		t.doc.set("postgres.password_file", file)
	case password != "":
		comment = append(comment, "The password ("+option+") is not copied: it is taken from PGPASSWORD, or from postgres.password_file.")
		t.note("database.password", "not copied: it is taken from PGPASSWORD, or set postgres.password_file")
	}
	query := "sslmode=" + escaped(mode)
	for _, f := range []string{"sslrootcert", "sslcert", "sslkey"} {
		if path := t.take("database." + f); path != "" {
			query += "&" + f + "=" + escaped(path)
			if f == "sslkey" {
				t.note("database.sslkey", "the relay reads a key in PEM, not in PKCS#8 DER as the JDBC driver does")
			}
		}
	}
	if t.take("database.sslpassword") != "" {
		t.note("database.sslpassword", "not copied: decrypt the key, or add sslpassword=${env:...} to postgres.url")
	}
	t.doc.set("postgres.url", "postgres://"+user+"@"+authority(host)+":"+escaped(port)+"/"+escaped(t.takeOr("database.dbname", "postgres"))+"?"+query)
	if mode != "verify-full" && !loopback(host) {
		t.doc.set("postgres.insecure", true)
		comment = append(comment, "sslmode "+mode+" does not prove that this is the right server, hence insecure. Better: sslmode=verify-full, and insecure: false.")
		t.note("database.sslmode", "%s proves no server, so that postgres.insecure has to be true; better set sslmode=verify-full in postgres.url", mode)
	}
	if comment != nil {
		t.doc.comment("postgres.url", comment...)
	}
}

// authority is a host in a URL.
func authority(host string) string {
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		return "[" + host + "]"
	}
	return escaped(host)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// escaped escapes a part of a URL; a reference to the environment is replaced when the settings are loaded.
func escaped(part string) string {
	if strings.Contains(part, "${env:") {
		return part
	}
	return url.QueryEscape(part)
}

var (
	environmentValue = regexp.MustCompile(`^\$\{env:[A-Za-z_][A-Za-z0-9_]*\}$`)
	directoryValue   = regexp.MustCompile(`^\$\{directory:([^:}]+):([^:}]+)\}$`)
)

// secret gives what a secret may be copied as: a reference to a variable, or a file that holds it alone. Neither for one
// that is written out, or that another provider of Kafka Connect knows.
func secret(value string) (ref, file string) {
	if environmentValue.MatchString(value) {
		return value, ""
	}
	if m := directoryValue.FindStringSubmatch(value); m != nil {
		return "", m[1] + "/" + m[2]
	}
	return "", ""
}

// slot takes over slot and publication: the relay goes on where the connector has stopped.
func (t *translation) slot() {
	plugin, slot := t.takeOr("plugin.name", "decoderbufs"), t.takeOr("slot.name", "debezium")
	publication, mode := t.takeOr("publication.name", "dbz_publication"), t.takeOr("publication.autocreate.mode", "all_tables")
	if t.take("slot.failover") == "false" {
		t.doc.set("postgres.failover", "false")
	}
	if plugin != "pgoutput" {
		t.lost("plugin.name", "slot %s is one of plugin %s, and the relay reads pgoutput: a new slot is made at its first start. "+
			"Start it once while the connector still runs, so that no event falls between the two; those that both have sent are there twice", slot, plugin)
		return
	}
	t.doc.set("postgres.publication", publication)
	t.doc.set("postgres.slot", slot)
	t.note("slot.name", "the relay goes on where slot %s stands, once the connector has been stopped for good. What that had sent without confirming it is sent again: stop the writers first, or expect repeats", slot)
	if mode == "all_tables" {
		t.note("publication.autocreate.mode", "if %s was made for all tables, the relay refuses it, since its own checkpoints would be in it: "+
			"drop publication %s; create publication %s for table ... with (publish = 'insert')", publication, publication, publication)
	}
}

// tableName is what stands for one table among the regular expressions of table.include.list.
var tableName = regexp.MustCompile(`^([A-Za-z0-9_$ -]+)\\?\.([A-Za-z0-9_$ -]+)$`)

// tables gives outbox.tables; none means all that the publication has.
func (t *translation) tables() []string {
	tables := []string{}
	listed := t.take("table.include.list")
	for _, entry := range list(listed) {
		name := tableName.FindStringSubmatch(entry)
		if name == nil {
			t.lost("table.include.list", "%s is an expression for tables: outbox.tables is left empty, which means all tables of the publication; name them", entry)
			return []string{}
		}
		tables = append(tables, name[1]+"."+name[2])
	}
	if listed != "" {
		// What these say is said by the list of tables.
		t.take("schema.include.list")
		t.take("schema.exclude.list")
	}
	slices.Sort(tables)
	return slices.Compact(tables)
}
