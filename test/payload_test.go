package test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/test/harness"
)

// Whatever an application puts into a payload: Kafka holds what Postgres prints, or the bytes of a bytea.
func TestPayloadsOfAnyKindArriveByteForByte(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if replay := os.Getenv("PAYLOADTEST_SEED"); replay != "" {
		var err error
		if seed, err = strconv.ParseUint(replay, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("PAYLOADTEST_SEED=%d repeats this run", seed)
	random := payloads{rand.New(rand.NewPCG(seed, 0))}

	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	topic := s.topic("a")
	kafka.CreateTopic(t, topic, 2, 1, map[string]string{"max.message.bytes": "9000000"})
	kinds := map[string]func(size int) any{
		"jsonb": func(size int) any { return random.json(size, false) },
		"json":  func(size int) any { return random.json(size, true) },
		"text":  func(size int) any { return random.text(size) },
		"bytea": func(size int) any { return random.bytes(size) },
	}
	var tables []string
	for kind := range kinds {
		table := "public.outbox_" + kind
		harness.Exec(t, s.conn, `create table `+table+` (id uuid default gen_random_uuid(), aggregate_type text, aggregate_id text, event_type text, payload `+kind+`)`)
		tables = append(tables, table)
	}
	s.startRelaying(t, kafka.Brokers(), "kafka: { batch_bytes: 8MiB, max_in_flight_bytes: 24MiB }\noutbox: { tables: ["+strings.Join(tables, ", ")+"] }")

	count := 0
	for kind, payload := range kinds {
		for i := range 24 {
			size := 1 << random.IntN(14)
			if i == 7 { // late enough to have rows before and behind it
				size = 1<<20 + random.IntN(3<<20)
			}
			cast := "$2::" + kind
			if kind != "bytea" {
				cast = "$2::text::" + kind
			}
			harness.Exec(t, s.conn, `insert into public.outbox_`+kind+` (aggregate_type, aggregate_id, event_type, payload) values ($1, 'k', 'Written', `+cast+`)`, s.aggregate("a"), payload(size))
			count++
		}
	}
	harness.AwaitRecords(t, kafka.Brokers(), int64(count), patience, topic)
	got := make(map[string][]byte)
	for _, r := range harness.ReadAll(t, kafka.Brokers(), topic) {
		got[harness.Header(r, "id")] = r.Value
	}
	if len(got) != count {
		t.Errorf("%d records, not %d", len(got), count)
	}
	for kind := range kinds {
		printed := "convert_to(payload::text, 'UTF8')"
		if kind == "bytea" {
			printed = "payload"
		}
		rows, err := s.conn.Query(t.Context(), `select id::text, `+printed+` from public.outbox_`+kind)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id string
			var want []byte
			if err := rows.Scan(&id, &want); err != nil {
				t.Fatal(err)
			}
			if value := got[id]; !bytes.Equal(value, want) {
				at := 0
				for at < min(len(value), len(want)) && value[at] == want[at] {
					at++
				}
				t.Errorf("%s of %d bytes arrived with %d, and differs from byte %d on", kind, len(want), len(value), at)
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// payloads makes random ones, of about the size that is asked for.
type payloads struct{ *rand.Rand }

func (p payloads) bytes(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(p.Uint32())
	}
	return b
}

// runes are what is written, escaped or counted in a way of its own somewhere.
var runes = []rune("aZ09 \t\n\r\b\f\x01\x1f\x7f\"\\/'$${}[]:,éß漢字😀\u2028\u00a0\ufeff\uffff")

func (p payloads) text(size int) string {
	var b strings.Builder
	for b.Len() < size {
		b.WriteRune(runes[p.IntN(len(runes))])
	}
	return b.String()
}

// json makes a JSON text. A loose one has what jsonb would not keep: spaces, members of one name, numbers and escapes as
// they were written.
func (p payloads) json(size int, loose bool) string {
	var b strings.Builder
	if p.IntN(10) == 0 {
		depth := 200 + p.IntN(300)
		fmt.Fprint(&b, strings.Repeat(`[{"a":`, depth))
		p.value(&b, size, 3, loose)
		fmt.Fprint(&b, strings.Repeat(`}]`, depth))
		return b.String()
	}
	p.value(&b, size, 0, loose)
	return b.String()
}

func (p payloads) value(b *strings.Builder, size, depth int, loose bool) {
	space := func() {
		if loose {
			b.WriteString([]string{"", "", " ", "\n", "\t "}[p.IntN(5)])
		}
	}
	list := func(open, end string, each func()) {
		b.WriteString(open)
		for i, from := 0, b.Len(); b.Len()-from < size; i++ {
			if space(); i > 0 {
				b.WriteString(",")
			}
			space()
			each()
		}
		space()
		b.WriteString(end)
	}
	inner := size / (1 + p.IntN(8))
	switch kind := p.IntN(8); {
	case depth < 40 && (kind < 2 || depth == 0):
		list("{", "}", func() {
			p.quoted(b, p.IntN(6), loose)
			space()
			b.WriteString(":")
			space()
			p.value(b, inner, depth+1, loose)
		})
	case depth < 40 && kind < 4:
		list("[", "]", func() { p.value(b, inner, depth+1, loose) })
	case kind < 6:
		p.quoted(b, min(size, 1<<uint(p.IntN(12))), loose)
	case kind == 6:
		b.WriteString([]string{"true", "false", "null"}[p.IntN(3)])
	default:
		p.number(b, loose)
	}
}

func (p payloads) number(b *strings.Builder, loose bool) {
	if p.IntN(3) == 0 {
		b.WriteString("-")
	}
	b.WriteString(strconv.Itoa(1 + p.IntN(9)))
	for range p.IntN(45) { // beyond 64 bits
		b.WriteString(strconv.Itoa(p.IntN(10)))
	}
	if p.IntN(2) == 0 {
		b.WriteString("." + strconv.Itoa(p.IntN(1000)) + strings.Repeat("0", p.IntN(5)))
	}
	if loose && p.IntN(4) == 0 {
		b.WriteString([]string{"e", "E", "e+", "E-"}[p.IntN(4)] + strconv.Itoa(p.IntN(400)))
	}
}

func (p payloads) quoted(b *strings.Builder, size int, loose bool) {
	b.WriteString(`"`)
	for from := b.Len(); b.Len()-from < size; {
		switch r := runes[p.IntN(len(runes))]; {
		case r < ' ' || r == '"' || r == '\\':
			fmt.Fprintf(b, `\u%04x`, r)
		case r > 0xffff:
			b.WriteRune(r)
		case p.IntN(3) == 0:
			fmt.Fprintf(b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
		if p.IntN(10) == 0 {
			b.WriteString([]string{`\n`, `\/`, `\"`, `\\`, `\ud83d\uDE00`, `\t`}[p.IntN(6)])
		}
		if loose && p.IntN(50) == 0 {
			b.WriteString(`\u0000`) // which jsonb refuses
		}
	}
	b.WriteString(`"`)
}
