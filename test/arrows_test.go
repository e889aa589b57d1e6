package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/outrider-relay/outrider"

// arrows has every folder that may hold code, and what its packages may import besides the standard library and each other:
// folders of ours, and modules. An ack goes from sink to checkpoint as a callback that cdc hands over, so neither knows the other.
var arrows = map[string][]string{
	"decoder":    {"github.com/jackc/pglogrepl"}, // for its LSN
	"checkpoint": {"github.com/jackc/pglogrepl", "github.com/jackc/pgx/v5"},
	"migrations": {"github.com/jackc/pgx/v5"},
	"sink": {
		"decoder", "sink/route", "sink/record",
		kafkaGo, "github.com/jackc/pglogrepl", "github.com/cenkalti/backoff/v5", "github.com/prometheus/client_golang", "github.com/rs/zerolog", "golang.org/x/sync",
		"github.com/aws/aws-msk-iam-sasl-signer-go", "github.com/aws/aws-sdk-go-v2", "github.com/aws/smithy-go", // to authenticate to MSK
	},
	// What becomes of a row knows nothing of how it is delivered.
	"sink/route":  {"decoder", "sink/record", "github.com/buger/jsonparser", "github.com/prometheus/client_golang", "github.com/rs/zerolog"},
	"sink/record": {"github.com/klauspost/compress", "github.com/pierrec/lz4/v4"},
	// What applications import: nothing of the relay comes along.
	"sink/inbox": {"github.com/jackc/pgx/v5"},
	"docs":       {"sink/inbox", "github.com/jackc/pgx/v5", "github.com/twmb/franz-go"}, // the examples, which are such applications
	"cdc": {
		"decoder", "checkpoint", "migrations",
		"github.com/jackc/pglogrepl", "github.com/jackc/pgx/v5", "github.com/cenkalti/backoff/v5", "github.com/rs/zerolog", "golang.org/x/sync",
	},
	"cmd":  nil, // above all parts: anything
	"test": nil, // likewise
}

// kafkaGo is the relay's Kafka client. It ends at sink; tests use another one, which cannot share its mistakes.
const kafkaGo = "github.com/segmentio/kafka-go"

// unlinked is what the relay's binary must not carry: the servers and clients of the tests and the demo, and what is for consumers.
var unlinked = []string{
	module + "/test", module + "/cmd/demo", module + "/sink/inbox",
	"github.com/fergusstrange/embedded-postgres", "github.com/lib/pq", "github.com/twmb/franz-go",
}

// goPackage is what go list says of one.
type goPackage struct {
	ImportPath, Name                   string
	Imports, TestImports, XTestImports []string
}

// goList asks go list.
func goList(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Name,Imports,TestImports,XTestImports"}, args...)...)
	cmd.Dir = ".." // the module's root
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Logf("%s", exit.Stderr)
		}
		t.Fatalf("go list %v: %v", args, err)
	}
	var pkgs []goPackage
	for in := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := in.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// part is the folder at the root that a package lies in, or the folder below it that has arrows of its own; empty where it
// is none of ours.
func part(importPath string) string {
	inside, ours := strings.CutPrefix(importPath, module+"/")
	if !ours {
		return ""
	}
	if _, own := arrows[inside]; own {
		return inside
	}
	first, _, _ := strings.Cut(inside, "/")
	return first
}

// within says whether a package is root or lies below it.
func within(importPath, root string) bool {
	return importPath == root || strings.HasPrefix(importPath, root+"/")
}

func TestPackagesImportOnlyWhatTheArrowsAllow(t *testing.T) {
	for _, p := range goList(t, "./...") {
		from := part(p.ImportPath)
		allowed, known := arrows[from]
		if !known {
			t.Errorf("%s is in no folder for code", p.ImportPath)
			continue
		}
		if slices.Contains([]string{"util", "utils", "common", "helpers", "types", "models", "mocks"}, p.Name) {
			t.Errorf("%s: the name of a package says what it is for", p.ImportPath)
		}
		if !within(from, "sink") {
			for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
				if within(imported, kafkaGo) {
					t.Errorf("%s imports %s, which belongs to sink", p.ImportPath, imported)
				}
			}
		}
		if from == "cmd" || from == "test" {
			continue
		}
		for _, imported := range p.Imports {
			root := imported
			if to := part(imported); to != "" {
				root = to
			} else if !strings.Contains(imported, ".") {
				continue // the standard library
			}
			if root != from && !slices.ContainsFunc(allowed, func(a string) bool { return within(root, a) }) {
				t.Errorf("%s imports %s; %s may import %v", p.ImportPath, imported, from, allowed)
			}
		}
	}
}

// The decoder is pure: what it needs comes in, what it finds goes out.
func TestDecoderTouchesNoWorld(t *testing.T) {
	for _, p := range goList(t, "./decoder/...") {
		for _, imported := range p.Imports {
			if slices.Contains([]string{"context", "io", "log", "log/slog", "net", "os", "sync"}, imported) {
				t.Errorf("%s imports %s", p.ImportPath, imported)
			}
		}
	}
}

func TestRelayLinksNothingOfTheTests(t *testing.T) {
	for _, p := range goList(t, "-deps", "./cmd/outrider") {
		for _, root := range unlinked {
			if within(p.ImportPath, root) {
				t.Errorf("cmd/outrider links %s", p.ImportPath)
			}
		}
	}
}
