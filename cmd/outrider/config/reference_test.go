package config

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

const (
	referenceFile = "../../../docs/configuration.md"
	referenceHead = "reference.md" // in testdata: what stands above the tables
)

// docs/configuration.md is made of the settings themselves: names and values from keys, defaults from defaults, and what
// each means from the comment on its field. So a setting cannot be without a word about it.
func TestReferenceSaysWhatTheSettingsAre(t *testing.T) {
	want := reference(t)
	if *update {
		if err := os.WriteFile(referenceFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/configuration.md is stale: go test ./cmd/outrider/config -run TestReference -update")
	}
}

func reference(t *testing.T) []byte {
	t.Helper()
	head, err := os.ReadFile("testdata/" + referenceHead)
	if err != nil {
		t.Fatal(err)
	}
	s := defaults()
	s.Name = "<name>"
	s.complete()
	meanings := meaningsOf(t, s)
	s.Name = ""
	doc := bytes.NewBuffer(head)
	section := ""
	keys := s.keys()
	slices.SortStableFunc(keys, func(a, b key) int { return strings.Compare(sectionOf(a), sectionOf(b)) })
	for _, k := range keys {
		if top := sectionOf(k); top != section {
			section = top
			fmt.Fprintf(doc, "\n## %s\n\n| setting | takes | default | |\n|---|---|---|---|\n", section)
		}
		meaning := meanings[reflect.ValueOf(k.field).Pointer()]
		if meaning == "" {
			t.Errorf("%s: the field of Settings has no comment that says what it is", k.path)
		}
		fmt.Fprintf(doc, "| `%s`<br>`%s` | %s | %s | %s |\n", k.path, variable(k.path), cell(k.wants()), cell(printed(k.field)), cell(meaning))
	}
	return doc.Bytes()
}

// sectionOf is what a setting stands under.
func sectionOf(k key) string {
	if top, _, nested := strings.Cut(k.path, "."); nested {
		return top
	}
	return "The relay" // a capital: before all others
}

// cell keeps text from ending its cell, or from being taken for HTML.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`).Replace(text)
}

// printed is a default as a file would have it.
func printed(field any) string {
	switch v := reflect.ValueOf(field).Elem().Interface().(type) {
	case Size:
		for _, u := range units[:4] {
			if last := v / Size(u.bytes); v > 0 && v%Size(u.bytes) == 0 && last < 1<<10 {
				return fmt.Sprint(int64(last), u.suffix)
			}
		}
		return fmt.Sprint(int64(v))
	case time.Duration:
		text := v.String()
		for _, zero := range []string{"m0s", "h0m"} {
			if strings.HasSuffix(text, zero) {
				text = strings.TrimSuffix(text, zero[1:])
			}
		}
		return text
	case []string:
		return strings.Join(v, ", ")
	case map[string]string:
		return ""
	case Secret:
		return string(v)
	default:
		return fmt.Sprint(v)
	}
}

// meaningsOf gives, for the address of each field of s, the comment that stands on it in the source.
func meaningsOf(t *testing.T, s *Settings) map[uintptr]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "settings.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	comments := make(map[string]string) // by "Type.Field"
	for _, decl := range file.Decls {
		types, ok := decl.(*ast.GenDecl)
		if !ok || types.Tok != token.TYPE {
			continue
		}
		for _, spec := range types.Specs {
			typ := spec.(*ast.TypeSpec)
			fields, ok := typ.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, f := range fields.Fields.List {
				for _, name := range f.Names {
					comments[typ.Name.Name+"."+name.Name] = sentence(f.Comment.Text())
				}
			}
		}
	}
	meanings := make(map[uintptr]string)
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		for i := range v.NumField() {
			field, name := v.Field(i), v.Type().Field(i).Name
			meanings[field.Addr().Pointer()] = comments[v.Type().Name()+"."+name]
			if field.Kind() == reflect.Struct {
				walk(field)
			}
		}
	}
	walk(reflect.ValueOf(s).Elem())
	return meanings
}

// sentence makes a comment one: a first capital unless it begins with a name of ours, and a stop.
func sentence(comment string) string {
	comment = strings.Join(strings.Fields(comment), " ")
	first, size := utf8.DecodeRuneInString(comment)
	word, _, _ := strings.Cut(comment, " ")
	if comment == "" || slices.Contains([]string{"host:port", "schema.table,"}, word) || strings.HasSuffix(word, ":") {
		return comment
	}
	return string(unicode.ToUpper(first)) + comment[size:]
}
