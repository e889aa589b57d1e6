package simulation

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// statement is an SQL statement that the model can run: one that the relay sends. Anything else fails the test, so that a
// statement which changes is noticed here.
type statement struct {
	params, columns []uint32
	// run gives the rows and the command's tag. The server's lock is held.
	run func(b *backend, args []any) (rows [][]any, tag string, err error)
}

// Types, short for the table below.
const (
	text    = uint32(pgtype.TextOID)
	name    = uint32(pgtype.NameOID)
	int4    = uint32(pgtype.Int4OID)
	int8    = uint32(pgtype.Int8OID)
	boolean = uint32(pgtype.BoolOID)
	jsonb   = uint32(pgtype.JSONBOID)
	moment  = uint32(pgtype.TimestamptzOID)
	texts   = uint32(pgtype.TextArrayOID)
	int4s   = uint32(pgtype.Int4ArrayOID)
	int8s   = uint32(pgtype.Int8ArrayOID)
	bools   = uint32(pgtype.BoolArrayOID)
)

// statements caches what statementOf found.
var statements sync.Map

// statementOf finds a statement by its text; nil when the model has none.
func statementOf(sql string) *statement {
	if st, ok := statements.Load(sql); ok {
		return st.(*statement)
	}
	flat := strings.Join(strings.Fields(sql), " ")
	st := reading(flat)
	if st == nil {
		st = writing(flat)
	}
	if st != nil {
		statements.Store(sql, st)
	}
	return st
}

// reading finds a statement that changes nothing by its beginning; the relay looks at the number of its columns.
func reading(flat string) *statement {
	i := slices.IndexFunc(readings, func(r readingStatement) bool { return strings.HasPrefix(flat, r.begin) })
	if i < 0 {
		return nil
	}
	r := &readings[i]
	return &statement{r.params, r.columns, func(b *backend, args []any) ([][]any, string, error) {
		rows := r.rows(b, args)
		return rows, "SELECT " + strconv.Itoa(len(rows)), nil
	}}
}

type readingStatement struct {
	begin           string // of its text, white space aside
	params, columns []uint32
	rows            func(b *backend, args []any) [][]any
}

func one(values ...any) [][]any { return [][]any{values} }

// outbox is the table that is relayed; the order of its columns is that of the stream.
var outbox = []struct {
	name string
	oid  uint32
}{
	{"id", pgtype.UUIDOID},
	{"aggregate_type", text},
	{"aggregate_id", text},
	{"event_type", text},
	{"payload", jsonb},
	{"headers", jsonb},
	{"created_at", moment},
}

var readings = []readingStatement{
	{"select exists (select from pg_namespace", []uint32{name}, []uint32{boolean}, func(*backend, []any) [][]any { return one(true) }},
	{"select exists (select from pg_class", []uint32{name, name}, []uint32{boolean}, func(*backend, []any) [][]any { return one(true) }},
	{"select exists (select from pg_attribute", []uint32{name, name, name}, []uint32{boolean}, func(*backend, []any) [][]any { return one(true) }},
	{"select md5(concat_ws(' ', array_to_string($2::text[], ' '),", []uint32{name, texts}, []uint32{text}, func(*backend, []any) [][]any { return one("as ever") }},
	{"select coalesce((select total_txns > 0 from pg_stat_replication_slots", []uint32{name}, []uint32{boolean}, func(*backend, []any) [][]any { return one(false) }},
	{
		"select current_setting('server_version_num')::int,", nil,
		[]uint32{int4, text, text, boolean, text, int8, int8, text, text, text, text, boolean, boolean, boolean, int4},
		func(b *backend, _ []any) [][]any {
			return one(int32(180000), "18.0", "logical", false, strconv.FormatUint(uint64(b.s.end), 10), b.s.senderTimeout.Milliseconds(),
				int64(-1), "UTF8", "", "outrider/model", "relay", true, false, false, int32(b.pid))
		},
	},
	{"select (select system_identifier::text from pg_control_system()),", nil, []uint32{text, int8, text}, func(b *backend, _ []any) [][]any {
		return one(b.s.systemID, int64(b.s.timeline), b.s.startText())
	}},
	{"select to_jsonb(s) from pg_replication_slots s where slot_name = $1", []uint32{name}, []uint32{jsonb}, func(b *backend, args []any) [][]any {
		if row := b.s.slotJSON(args[0].(string)); row != nil {
			return one(row)
		}
		return nil
	}},
	{"select to_jsonb(p) from pg_publication p", []uint32{name}, []uint32{jsonb}, func(*backend, []any) [][]any {
		return one([]byte(`{"puballtables": false, "pubinsert": true, "pubviaroot": true}`))
	}},
	{"select to_jsonb(t) || jsonb_build_object('all_columns',", []uint32{name}, []uint32{jsonb}, func(*backend, []any) [][]any {
		var columns []string
		for _, c := range outbox {
			columns = append(columns, strconv.Quote(c.name))
		}
		list := strings.Join(columns, ", ")
		return one(fmt.Appendf(nil, `{"schemaname": "public", "tablename": "outbox", "attnames": [%s], "all_columns": [%s], "rowfilter": null}`, list, list))
	}},
	{"select n.nspname, c.relname, c.relpersistence <> 'p',", []uint32{texts, texts}, []uint32{name, name, boolean, text, texts}, func(*backend, []any) [][]any {
		return one("public", "outbox", false, "", []string{})
	}},
	{"select t.schemaname, t.tablename, a.attname from pg_publication_tables t", []uint32{name}, []uint32{name, name, name}, func(*backend, []any) [][]any {
		return [][]any{{"public", "outbox", "id"}}
	}},
	{"select pg_current_wal_insert_lsn()::text", nil, []uint32{text}, func(b *backend, _ []any) [][]any { return one(b.s.end.String()) }},
	{"select coalesce(sync_state, '') from pg_stat_replication where pid = $1", []uint32{int4}, []uint32{text}, func(b *backend, args []any) [][]any {
		if b.s.backends[uint32(args[0].(int64))] == nil {
			return nil
		}
		return one("async")
	}},
	{"select coalesce(application_name, ''), coalesce(client_addr::text,", []uint32{int4}, []uint32{text, text, moment}, func(b *backend, args []any) [][]any {
		if b.s.backends[uint32(args[0].(int64))] == nil {
			return nil
		}
		return one("outrider/model", "a unix socket", b.s.started)
	}},
	{"select current_setting('synchronous_commit')", nil, []uint32{text}, func(*backend, []any) [][]any { return one("on") }},
	{"select count(*) from (select from", nil, []uint32{int8}, func(*backend, []any) [][]any { return one(int64(0)) }},
	{"select b.pid, coalesce(a.usename, ''),", []uint32{int4}, []uint32{int4, text, text, text, moment}, func(*backend, []any) [][]any { return nil }},
	{
		"select c.name, c.format, c.generation,",
		[]uint32{text},
		append(slices.Clone(rowTypes), text, moment),
		func(b *backend, args []any) [][]any {
			if r := b.s.rows[args[0].(string)]; r != nil {
				return [][]any{append(r.values(), r["instance"], r["heartbeat_at"])}
			}
			return nil
		},
	},
	{"select topic, partition, scan_from, owned from outrider.partition where name = $1", []uint32{text}, []uint32{text, int4, int8, boolean}, func(b *backend, args []any) [][]any {
		var rows [][]any
		for at, r := range b.s.places[args[0].(string)] {
			rows = append(rows, []any{at.topic, at.id, r.from, r.owned})
		}
		slices.SortFunc(rows, func(a, b []any) int {
			if c := strings.Compare(a[0].(string), b[0].(string)); c != 0 {
				return c
			}
			return int(a[1].(int32) - b[1].(int32))
		})
		return rows
	}},
}

func (s *server) startText() string {
	return strconv.FormatFloat(float64(s.started.UnixMicro())/1e6, 'f', 6, 64)
}

// row is a row of outrider.checkpoint, by column.
type row map[string]any

// rowColumns are the columns that a claim and a read return, in their order.
var rowColumns = []string{
	"name", "format", "generation", "system_id", "timeline", "slot", "lsn", "kafka_cluster_id", "delivery", "producer_ids",
	"decode_hash", "clean", "verdict", "decision", "updated_at",
}

var rowTypes = []uint32{text, int4, int8, text, int8, text, text, text, text, int8s, text, boolean, jsonb, jsonb, moment}

func (r row) values() []any {
	values := make([]any, len(rowColumns))
	for i, c := range rowColumns {
		v := r[c]
		if v == nil && (c == "kafka_cluster_id" || c == "decode_hash") {
			v = ""
		}
		values[i] = v
	}
	return values
}

// lsn is what is stored.
func (r row) lsn() lsn {
	l, err := parseLSN(r["lsn"].(string))
	if err != nil {
		panic(err)
	}
	return l
}

// claimSQL is the statement that takes the row, but for white space.
const claimSQL = `insert into outrider.checkpoint as c (name, format, generation, instance, heartbeat_at, system_id, timeline, slot, lsn, kafka_cluster_id, delivery, decode_hash, updated_at) select $1, $2, 1, $3, clock_timestamp(), $6, $7, s.slot_name, $8::text::pg_lsn, nullif($9, ''), $10, nullif($11, ''), clock_timestamp() from pg_replication_slots s where s.slot_name = $4 and s.active_pid = $5 on conflict (name) do update set generation = c.generation + 1, instance = excluded.instance, heartbeat_at = excluded.heartbeat_at, updated_at = excluded.updated_at where c.format <= excluded.format returning `

// registerSQL is the statement that registers partitions, but for white space.
const registerSQL = `with mine as ( select name from outrider.checkpoint where name = $1 and generation = $2 for no key update ) insert into outrider.partition (name, topic, partition, scan_from, owned) select mine.name, p.topic, p.partition, p.scan_from, p.owned from mine, unnest($3::text[], $4::int[], $5::bigint[], $6::boolean[]) as p (topic, partition, scan_from, owned) on conflict (name, topic, partition) do update set scan_from = excluded.scan_from, owned = excluded.owned`

// writing finds a statement that changes something by its whole text.
func writing(flat string) *statement {
	switch {
	case strings.HasPrefix(flat, claimSQL):
		return &statement{[]uint32{text, int4, text, name, int4, text, int8, text, text, text, text}, append(slices.Clone(rowTypes), text, moment), claim}
	case flat == registerSQL:
		return &statement{[]uint32{text, int8, texts, int4s, int8s, bools}, nil, func(b *backend, args []any) ([][]any, string, error) {
			return nil, "INSERT 0 " + strconv.Itoa(b.s.register(args)), nil
		}}
	case strings.HasPrefix(flat, "update outrider.checkpoint set "):
		return updating(strings.TrimPrefix(flat, "update outrider.checkpoint set "))
	}
	return nil
}

// claim takes the row for the owner of the slot.
func claim(b *backend, args []any) ([][]any, string, error) {
	sl := b.s.slots[args[3].(string)]
	if sl == nil || sl.pid != uint32(args[4].(int64)) && !plantedIn(claimsUnchecked) {
		return nil, "INSERT 0 0", nil
	}
	key, now := args[0].(string), time.Now()
	r := b.s.rows[key]
	before := []any{"", nil}
	if r == nil {
		r = row{
			"name": key, "format": int32(args[1].(int64)), "generation": int64(0), "system_id": args[5], "timeline": args[6], "slot": sl.name,
			"lsn": args[7], "delivery": args[9], "producer_ids": []int64{}, "clean": false,
		}
		for column, i := range map[string]int{"kafka_cluster_id": 8, "decode_hash": 10} {
			if args[i] != "" {
				r[column] = args[i]
			}
		}
		b.s.rows[key] = r
		b.s.places[key] = make(map[place]scanRow)
	} else {
		before = []any{r["instance"], r["heartbeat_at"]}
	}
	r["generation"] = r["generation"].(int64) + 1
	r["instance"], r["heartbeat_at"], r["updated_at"] = args[2], now, now
	b.s.written()
	b.s.journey.reach(b.process, claimed)
	return [][]any{append(r.values(), before...)}, "INSERT 0 1", nil
}

// register writes rows of outrider.partition, and gives their number.
func (s *server) register(args []any) int {
	key := args[0].(string)
	r := s.rows[key]
	if r == nil || r["generation"] != args[1] {
		return 0
	}
	topics := args[2].([]string)
	for i, topic := range topics {
		s.places[key][place{topic, int32(args[3].([]int64)[i])}] = scanRow{args[4].([]int64)[i], args[5].([]bool)[i]}
	}
	s.written()
	return len(topics)
}

// written notes that a statement has made WAL.
func (s *server) written() {
	s.write(lsn(150 + s.rng.IntN(300)))
	s.wake()
}
