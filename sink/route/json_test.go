package route

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"
)

func TestTextIsQuotedAsJacksonDoes(t *testing.T) {
	const text = "a\"b\\c/\x00\x1f\b\t\n\f\r\x7fé漢😀"
	const want = `"a\"b\\c/\u0000\u001F\b\t\n\f\r` + "\x7fé漢😀\""
	if got := string(appendQuoted(nil, []byte(text))); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestNumbersAreWrittenAsJavaDoes(t *testing.T) {
	for text, want := range map[string]string{
		"1.50": "1.5", "0.1234567890123456789": "0.12345678901234568", "1e3": "1000.0", "1.0": "1.0", "-0.0": "-0.0", "0.0": "0.0",
		"1e7": "1.0E7", "9999999.0": "9999999.0", "12345678.9": "1.23456789E7", "0.001": "0.001", "0.00099": "9.9E-4",
		"1e-7": "1.0E-7", "1.5e300": "1.5E300", "4.9e-324": "4.9E-324", "100.0": "100.0", "-1.5e-10": "-1.5E-10",
	} {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		got := string(appendFloat(nil, f, 64))
		if got != want {
			t.Errorf("%s is written %s, not %s", text, got, want)
		}
	}
	for f, want := range map[float64]string{math.Inf(1): "Infinity", math.Inf(-1): "-Infinity"} {
		if got := string(appendFloat(nil, f, 64)); got != want {
			t.Errorf("%v is written %s", f, got)
		}
	}
	if got := string(appendFloat(nil, float64(float32(0.1)), 32)); got != "0.1" {
		t.Errorf("a float of 0.1 is written %s", got)
	}
}

// expand gives what becomes of a JSON payload; how is "expanded", "text" (as it was) or "passes".
func expand(payload string, withSchema bool) (value, schema, how string) {
	p := expandedPart{columnPart: columnPart{typ: debeziumTypes[oidText], optional: true}, withSchema: withSchema}
	if err := p.load(event(table("t", "payload", oidText), payload).Values); err != nil {
		return err.Error(), "", "error"
	}
	how = "text"
	switch {
	case p.schema != nil:
		how = "expanded"
	case p.passes:
		how = "passes"
	}
	return string(p.appendJSON(nil)), string(p.appendSchema(nil, "")), how
}

// Beyond the vectors: what Debezium's source says, and where it would throw or lose something.
func TestJSONIsExpandedAsDebeziumDoes(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 1200) + "1" + strings.Repeat("}", 1200)
	for payload, want := range map[string]string{
		`{"a": true, "b": "x\u00e9\n"}`:             `expanded {"a":true,"b":"xé\n"}`,
		`{"n": null, "e": [], "o": {"n": null}}`:    `expanded {"o":{}}`,
		`{"a": [[1], [2, null]]}`:                   `expanded {"a":[[1],[2,null]]}`,
		`{"a": [{"x": 1}, {"y": "s"}]}`:             `expanded {"a":[{"x":1,"y":null},{"x":null,"y":"s"}]}`,
		`{"a": [{"x": null}, {"x": 1}]}`:            `expanded {"a":[{"x":null},{"x":1}]}`,
		`{"a": [{"x": 1}, {"x": 1}, null]}`:         `expanded {"a":[{"x":1},{"x":1},null]}`,
		`{"d": [1.0, 2.5]}`:                         `expanded {"d":[1.0,2.5]}`,
		`{"a": 1, "b": 2, "a": 3}`:                  `expanded {"a":3,"b":2}`,
		`{"a": [1, 2.5]}`:                           `text`,
		`{"a": [null]}`:                             `text`,
		`{"a": [[]]}`:                               `text`,
		`[1, "x"]`:                                  `text`,
		` {"a": 1}`:                                 `text`,
		`{"a": 1`:                                   `text`,
		deep:                                        `text`,
		`[1, 2]`:                                    `passes`,
		`{"a": [[1], ["x"]]}`:                       `passes`,
		`{"a": 1e400}`:                              `passes`,
		`{"a": 9223372036854775808}`:                `passes`,
		`{"a": [{"x": 1}, {"y": 1}, null]}`:         `passes`,
		`{"a": [{"o": {"x": 1}}, {"o": {"y": 1}}]}`: `passes`, // Debezium keeps one of x and y
	} {
		value, _, how := expand(payload, false)
		switch how {
		case "text":
			value = "text"
			if quoted, _, _ := expand(payload, true); quoted != string(appendQuoted(nil, []byte(payload))) {
				t.Errorf("%.60s: written %s", payload, quoted)
			}
		case "passes":
			if value != payload {
				t.Errorf("%.60s: passes as %s", payload, value)
			}
			value = "passes"
		default:
			value = how + " " + value
		}
		if value != want {
			t.Errorf("%.60s: %s, want %s", payload, value, want)
		}
	}
}

func TestMergedObjectsAreRequired(t *testing.T) {
	_, schema, _ := expand(`{"a": [{"x": 1}, {"y": true}]}`, true)
	const want = `{"type":"struct","fields":[{"type":"array","items":{"type":"struct","fields":[{"type":"int32","optional":true,"field":"x"},` +
		`{"type":"boolean","optional":true,"field":"y"}],"optional":false,"name":"payload.a"},"optional":true,"field":"a"}],"optional":true,"name":"payload"}`
	if schema != want {
		t.Errorf("got  %s\nwant %s", schema, want)
	}
}

// Whatever comes, what goes out is JSON, and holds what came but for nulls and empty arrays.
func FuzzExpandedJSON(f *testing.F) {
	for _, seed := range []string{`{"a": [1, 2], "b": {"c": null}}`, `[{"a": 1}]`, `{"a": [{"x": 1}, {"y": "\ud83d"}]}`, `{"": {"": 0.1e-9}}`, `{`, `{"a":[null,[{}]]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		value, schema, how := expand(string(payload), true)
		if how != "expanded" {
			return
		}
		var was, is, of any
		for _, c := range []struct {
			text string
			into *any
		}{{string(payload), &was}, {value, &is}, {schema, &of}} {
			if err := json.Unmarshal([]byte(c.text), c.into); err != nil {
				t.Fatalf("%s of %q: %v", c.text, payload, err)
			}
		}
		a, errA := json.Marshal(bare(was))
		b, errB := json.Marshal(bare(is))
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Fatalf("%q became %s: %s, not %s", payload, value, b, a)
		}
	})
}

// bare leaves out members that are null or empty arrays, as far down as there are objects.
func bare(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if list, ok := member.([]any); member == nil || ok && len(list) == 0 {
				delete(v, name)
				continue
			}
			v[name] = bare(member)
		}
	case []any:
		for i := range v {
			v[i] = bare(v[i])
		}
	}
	return v
}
