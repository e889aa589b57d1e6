package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/outrider-relay/outrider/cmd/outrider/config"
)

// document is a file of Markdown.
type document struct {
	path   string // from the module's root
	text   string
	blocks []codeBlock
	prose  string // without the blocks
}

// codeBlock is a fenced one: its language, what else stands behind the fence, and what is in it.
type codeBlock struct{ language, word, text string }

var fence = regexp.MustCompile("(?ms)^```([a-z]*)[ ]?([a-z]*)\n(.*?)^```$")

func readDocument(t *testing.T, path string) *document {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", path))
	if err != nil {
		t.Fatal(err)
	}
	d := &document{path: path, text: string(b)}
	for _, m := range fence.FindAllStringSubmatch(d.text, -1) {
		d.blocks = append(d.blocks, codeBlock{m[1], m[2], m[3]})
	}
	d.prose = fence.ReplaceAllString(d.text, "")
	if strings.Contains(d.prose, "```") {
		t.Errorf("%s: a fence that is not closed", path)
	}
	return d
}

// documents are all that people read.
func documents(t *testing.T) []*document {
	t.Helper()
	var paths []string
	for _, dir := range []string{".", "docs", "deploy"} {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, entry fs.DirEntry, err error) error {
			if entry != nil && entry.IsDir() && dir == "." && path != ".." {
				return fs.SkipDir
			}
			if err == nil && filepath.Ext(path) == ".md" {
				paths = append(paths, strings.TrimPrefix(path, "../"))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	all := make([]*document, len(paths))
	for i, path := range paths {
		all[i] = readDocument(t, path)
	}
	return all
}

// span is `code` within a line of text.
var span = regexp.MustCompile("`([^`\n]+)`")

// spans are the code within the text.
func (d *document) spans() []string {
	var all []string
	for _, m := range span.FindAllStringSubmatch(d.prose, -1) {
		all = append(all, m[1])
	}
	return all
}

var heading = regexp.MustCompile(`(?m)^#+ (.*)$`)

// anchors are what GitHub makes of the headings.
func (d *document) anchors() map[string]bool {
	all := make(map[string]bool)
	for _, m := range heading.FindAllStringSubmatch(d.prose, -1) {
		all[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])] = true
	}
	return all
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestDocumentsLinkToWhatThereIs(t *testing.T) {
	all := make(map[string]*document)
	for _, d := range documents(t) {
		all[d.path] = d
	}
	for _, d := range all {
		for _, m := range link.FindAllStringSubmatch(d.prose, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := d.path
			if target != "" {
				path = filepath.Join(filepath.Dir(d.path), target)
			}
			if _, err := os.Stat(filepath.Join("..", path)); err != nil {
				t.Errorf("%s links to %s: %v", d.path, m[1], err)
				continue
			}
			if anchor == "" {
				continue
			}
			if there, read := all[path]; !read || !there.anchors()[anchor] {
				t.Errorf("%s links to %s, where there is no such heading", d.path, m[1])
			}
		}
	}
}

func TestDocumentedSettingsAreTaken(t *testing.T) {
	settings := readDocument(t, "docs/configuration.md").text // which is made from them
	named := regexp.MustCompile(`^(postgres|kafka|outbox|checkpoint|http|timeouts|log)\.[a-z_.]+$`)
	for _, d := range documents(t) {
		for _, b := range d.blocks {
			if b.language != "yaml" {
				continue
			}
			file := filepath.Join(t.TempDir(), "outrider.yaml")
			if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := config.Sources{File: file, Environ: []string{
				"OUTRIDER_NAME=orders", "OUTRIDER_POSTGRES_URL=postgres://relay@localhost/shop", "OUTRIDER_KAFKA_BROKERS=localhost:9092",
			}}.Load()
			problems, _ := err.(config.Problems)
			for _, p := range problems {
				if !strings.HasSuffix(p.Key, "_file") { // of a machine that is not this one
					t.Errorf("%s: %v in\n%s", d.path, p, b.text)
				}
			}
		}
		for _, name := range d.spans() {
			name, _, _ = strings.Cut(name, ":")
			if named.MatchString(name) && !strings.HasPrefix(name, "outbox.event") && !strings.Contains(settings, "`"+name) {
				t.Errorf("%s: there is no setting %s", d.path, name)
			}
		}
	}
}

func TestDocumentsOfTheCodeNameWhatThereIs(t *testing.T) {
	for name, least := range map[string]int{"docs/architecture.md": 40, "docs/speed.md": 15} {
		namesWhatThereIs(t, readDocument(t, name), least)
	}
}

// namesWhatThereIs checks each file that a document names, and each `name` behind it; of these there are so many at least.
func namesWhatThereIs(t *testing.T, d *document, least int) {
	t.Helper()
	path := regexp.MustCompile("`((?:[a-z]+/)+[a-z_]*(?:\\.go)?)`((?:,? `[A-Za-z]+`)*)")
	declared, found := make(map[string][]string), 0
	for _, m := range path.FindAllStringSubmatch(d.prose+"\n", -1) {
		if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
			t.Errorf("%v", err)
			continue
		}
		names := span.FindAllStringSubmatch(m[2], -1)
		if len(names) > 0 && declared[m[1]] == nil {
			declared[m[1]] = declarations(t, filepath.Join("..", m[1]))
		}
		for _, name := range names {
			if found++; !slices.Contains(declared[m[1]], name[1]) {
				t.Errorf("%s: %s declares no %s", d.path, m[1], name[1])
			}
		}
	}
	if found < least {
		t.Errorf("%s: only %d names were found: are they written as `file.go` `Name`?", d.path, found)
	}
}

// declarations are the names of a file's functions, methods, types, constants and variables.
func declarations(t *testing.T, path string) (names []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			names = append(names, d.Name.Name)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					names = append(names, s.Name.Name)
				case *ast.ValueSpec:
					for _, name := range s.Names {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

// named finds all that the pattern's group matches in the files, each once.
func named(t *testing.T, pattern string, globs ...string) []string {
	t.Helper()
	var all []string
	for _, glob := range globs {
		paths, err := filepath.Glob(filepath.Join("..", glob))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(b), -1) {
				all = append(all, m[1])
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestOperatingKnowsEachThingThatAnOperatorMeets(t *testing.T) {
	d := readDocument(t, "docs/operating.md")
	for _, kind := range []struct {
		what, as string // how operating.md has it
		least    int
		names    []string
	}{
		{"state", "\n| `%s` |", 7, named(t, `State += +"([a-z]+)"`, "cdc/*.go")},
		{"verdict", "\n### %s\n", 7, named(t, `(?:Verdict: |rivalCase =|Name:  |return) *"([a-z]+(?: [a-z]+)*)"`, "cdc/verdict.go", "cdc/rival.go", "sink/scan.go", "sink/tail.go", "sink/refuse.go")},
		{"exit code", "\n| %s |", 10, named(t, `exit[A-Z][a-z]+\s+= (\d+)`, "cmd/outrider/exit.go")},
		{"metric", "`outrider_%s", 20, named(t, `(?:desc|opts|NewDesc|Name:)\(? ?"(?:outrider_)?([a-z_]*[a-z])"`, "cmd/outrider/admin/metrics.go", "sink/stats.go")},
		{"alert", "\n### %s\n", 10, named(t, `alert: (\w+)`, "deploy/prometheus/*.rules.yml")},
	} {
		t.Logf("%ss: %s", kind.what, strings.Join(kind.names, ", "))
		if len(kind.names) < kind.least {
			t.Errorf("fewer than %d: is the source written otherwise now?", kind.least)
		}
		for _, name := range kind.names {
			if !strings.Contains(d.text, fmt.Sprintf(kind.as, name)) {
				t.Errorf("docs/operating.md says nothing of the %s %s", kind.what, name)
			}
		}
	}
	metrics := named(t, `"(?:outrider_)?([a-z_]+)"`, "cmd/outrider/admin/metrics.go", "sink/stats.go")
	for _, m := range regexp.MustCompile("outrider_([a-z_]+)").FindAllStringSubmatch(strings.Join(d.spans(), " "), -1) {
		if !slices.Contains(metrics, m[1]) && !slices.Contains([]string{"orders", "gone"}, m[1]) { // slots of examples
			t.Errorf("docs/operating.md speaks of outrider_%s, which nothing counts", m[1])
		}
	}
}
