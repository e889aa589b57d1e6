package test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/decoder"
	"github.com/outrider-relay/outrider/test/harness"
	"github.com/outrider-relay/outrider/test/vectors"
)

// vectorTopics are those of the vectors; partition 7 has to be among theirs.
var vectorTopics = []string{"outbox.event.order", "order", "outbox.event."}

const vectorPartitions = 12

// play is a relay with one setting of Debezium's router, and the vectors of that setting, a table each.
type play struct {
	*stage
	converter string
	vectors   []vectors.Vector
}

// A real Postgres makes the rows, and a real broker stores the records.
func TestDebeziumsRecordsAreEqualledOnRealServers(t *testing.T) {
	t.Parallel()
	list, err := vectors.Read("testdata/debezium-vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	kafka := sharedKafka(t)
	created, err := harness.Admin(t, kafka.Brokers()).CreateTopics(t.Context(), vectorPartitions, 1, nil, vectorTopics...)
	for _, topic := range created {
		if topic.Err != nil && !errors.Is(topic.Err, kerr.TopicAlreadyExists) {
			err = topic.Err
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	bySetting := make(map[string][]vectors.Vector)
	for _, v := range list {
		if v.Ours("string").Unfit == "" { // see TestTableThatDoesNotFitIsNamed
			bySetting[relayWide(&v)] = append(bySetting[relayWide(&v)], v)
		}
	}
	for _, setting := range slices.Sorted(maps.Keys(bySetting)) {
		t.Run(setting, func(t *testing.T) {
			base := newStage(t, sharedPostgres(t))
			var plays []*play // one for each converter, of the same rows
			for converter := range vectors.Converters {
				s := &stage{url: base.url, conn: base.conn, name: uniqueName(t)}
				t.Cleanup(func() { s.dropSlot(t) })
				plays = append(plays, &play{stage: s, converter: converter, vectors: bySetting[setting]})
			}
			plays[0].createTables(t)
			relays := make([]*harness.Relay, len(plays))
			for i, p := range plays {
				relays[i] = p.start(t, kafka.Brokers(), p.config(setting))
			}
			for _, relay := range relays {
				relay.AwaitState(t, cdc.Relaying, patience)
			}
			plays[0].write(t)
			for i, p := range plays {
				p.check(t, kafka.Brokers())
				if n := strings.Count(relays[i].Log(), "event left out"); n != p.poison() {
					t.Errorf("%s: %d events were left out, not %d", p.converter, n, p.poison())
				}
			}
		})
	}
}

// relayWide gives those of our settings for a vector that hold for all tables.
func relayWide(v *vectors.Vector) string {
	var lines []string
	for name, value := range v.Settings {
		switch name {
		case "route.tombstone.on.empty.payload":
			lines = append(lines, "tombstone_on_null: "+value)
		case "table.expand.json.payload":
			lines = append(lines, "expand_json: "+value)
		case "route.topic.regex":
			lines = append(lines, "topic_regex: { match: '"+value+"' }")
		case "table.fields.additional.placement":
			if column, alias, ok := strings.Cut(value, ":header:"); ok {
				lines = append(lines, "headers: ['"+column+":"+alias+"']")
			}
		}
	}
	return strings.Join(lines, ", ")
}

func (p *play) table(i int) string { return fmt.Sprintf("public.v%d", i) }

func (p *play) config(setting string) string {
	var tables, columns []string
	for i, v := range p.vectors {
		tables = append(tables, p.table(i))
		for role, column := range map[string]string{"partition": "p", "timestamp": "ts"} {
			if slices.ContainsFunc(v.Columns(), func(c vectors.Column) bool { return c.Name == column }) {
				columns = append(columns, p.table(i)+"."+role+": "+column)
			}
		}
	}
	headers := "verbatim"
	if p.converter == "json+schema" {
		headers = "json-with-schema"
	}
	outbox := []string{
		"compat: debezium", "value: " + vectors.Converters[p.converter], "header_format: " + headers,
		"context_headers: { connectorLogicalName: srv }", "on_poison: skip",
		"tables: [" + strings.Join(tables, ", ") + "]", "columns: { " + strings.Join(columns, ", ") + " }",
	}
	if setting != "" {
		outbox = append(outbox, setting)
	}
	return "kafka: { delivery: exactly-once }\npostgres: { publication: everything }\noutbox: { " + strings.Join(outbox, ", ") + " }\n"
}

// createTables makes the tables, with a row in each that was there before, and publishes all that happens to them.
func (p *play) createTables(t *testing.T) {
	t.Helper()
	var names []string
	for i, v := range p.vectors {
		var columns []string
		for _, c := range v.Columns() {
			column := c.Name + " " + c.Type
			if c.NotNull {
				column += " not null"
			}
			columns = append(columns, column)
		}
		harness.Exec(t, p.conn, "create table "+p.table(i)+" ("+strings.Join(columns, ", ")+")")
		harness.Exec(t, p.conn, "alter table "+p.table(i)+" replica identity full")
		p.insert(t, i)
		names = append(names, p.table(i))
	}
	harness.Exec(t, p.conn, "create publication everything for table "+strings.Join(names, ", "))
}

func (p *play) insert(t *testing.T, i int) {
	t.Helper()
	var names, places []string
	var values []any
	for _, c := range p.vectors[i].Columns() {
		names = append(names, c.Name)
		if c.Value == nil {
			places = append(places, "null")
			continue
		}
		values = append(values, *c.Value)
		place := fmt.Sprintf("$%d::text", len(values))
		if c.Type == "bytea" {
			place = "convert_to(" + place + ", 'UTF8')"
		}
		places = append(places, place+"::"+c.Type)
	}
	harness.Exec(t, p.conn, "insert into "+p.table(i)+" ("+strings.Join(names, ", ")+") values ("+strings.Join(places, ", ")+")", values...)
}

// write does what the vectors are about, a transaction each.
func (p *play) write(t *testing.T) {
	t.Helper()
	for i, v := range p.vectors {
		switch v.Op {
		case "u":
			harness.Exec(t, p.conn, "update "+p.table(i)+" set type = 'Changed'")
		case "d":
			harness.Exec(t, p.conn, "delete from "+p.table(i))
		case "t":
			harness.Exec(t, p.conn, "truncate "+p.table(i))
		default:
			p.insert(t, i)
		}
	}
}

// isEvent says whether a vector's row becomes a record.
func (p *play) isEvent(v vectors.Vector) bool {
	return (v.Op == "c" || v.Op == "r") && v.Ours(p.converter).Poison == ""
}

func (p *play) poison() (n int) {
	for _, v := range p.vectors {
		if v.Ours(p.converter).Poison != "" {
			n++
		}
	}
	return n
}

// check compares the records of this relay, in the order of their positions, with those of the vectors.
func (p *play) check(t *testing.T, brokers []string) {
	t.Helper()
	want := slices.DeleteFunc(slices.Clone(p.vectors), func(v vectors.Vector) bool { return !p.isEvent(v) })
	var got []*kgo.Record
	harness.Eventually(t, patience, "the records of all rows", func() error {
		if got = p.records(t, brokers); len(got) < len(want) {
			return fmt.Errorf("there are %d of %d", len(got), len(want))
		}
		return nil
	})
	if len(got) != len(want) {
		t.Fatalf("%d records, not %d", len(got), len(want))
	}
	for i, v := range want {
		ours := v.Ours(p.converter)
		if ours.Partition < 0 {
			// partitions of key 1 and of key "1" among 12, as Java's client chooses them
			ours.Partition = map[string]int32{"1": 3, `"1"`: 4}[ours.Key]
			if p.converter == "json+schema" {
				ours.Partition = got[i].Partition
			}
		}
		if have, want := p.render(got[i]), p.expected(ours); have != want {
			t.Errorf("%s, %s:\ngot  %s\nwant %s", v.Name, p.converter, have, want)
		}
	}
}

// records are those that this relay has written, in the order of their positions.
func (p *play) records(t *testing.T, brokers []string) []*kgo.Record {
	t.Helper()
	records := slices.DeleteFunc(harness.ReadAll(t, brokers, vectorTopics...), func(r *kgo.Record) bool {
		return !strings.HasPrefix(harness.Header(r, "outrider-position"), p.name+":")
	})
	at := func(r *kgo.Record) decoder.Position {
		position, err := decoder.ParsePosition(strings.TrimPrefix(harness.Header(r, "outrider-position"), p.name+":"))
		if err != nil {
			t.Fatal(err)
		}
		return position
	}
	slices.SortFunc(records, func(a, b *kgo.Record) int {
		if at(a).LSN < at(b).LSN {
			return -1
		}
		return 1
	})
	return records
}

func (p *play) render(r *kgo.Record) string {
	text := fmt.Sprintf("%s/%d key %q value %q null %v", r.Topic, r.Partition, r.Key, r.Value, r.Value == nil)
	for _, h := range r.Headers[:len(r.Headers)-1] { // the last one is the position
		text += fmt.Sprintf("\n\t%s=%s", h.Key, h.Value)
	}
	return text
}

func (p *play) expected(ours vectors.Ours) string {
	r := &kgo.Record{Topic: ours.Topic, Partition: ours.Partition, Key: []byte(ours.Key)}
	if ours.Value != nil {
		r.Value = []byte(*ours.Value)
	}
	for _, h := range ours.Headers {
		value := h.Text
		if p.converter == "json+schema" {
			value = h.JSON
		}
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Name, Value: []byte(value)})
	}
	r.Headers = append(r.Headers, kgo.RecordHeader{})
	return p.render(r)
}
