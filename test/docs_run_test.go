package test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/migrations"
	"github.com/outrider-relay/outrider/test/harness"
)

// command is `outrider SUB ...` at the beginning of a line of code, or of a span.
var command = regexp.MustCompile(`^(?:\./)?outrider ([a-z-]+)(.*)`)

// commands are those of the relay that a document shows, without what stands behind a # or a pipe.
func (d *document) commands() (all [][]string) {
	lines := d.spans()
	for _, b := range d.blocks {
		lines = append(lines, strings.Split(strings.ReplaceAll(b.text, "\\\n", ""), "\n")...)
	}
	for _, line := range strings.Split(d.prose, "\n") {
		if indented, ok := strings.CutPrefix(line, "    "); ok {
			lines = append(lines, strings.TrimSpace(indented))
		}
	}
	for _, line := range lines {
		if m := command.FindStringSubmatch(line); m != nil {
			rest, _, _ := strings.Cut(m[2], " #")
			rest, _, _ = strings.Cut(rest, "|")
			all = append(all, append([]string{m[1]}, strings.Fields(rest)...))
		}
	}
	return all
}

func TestDocumentedCommandsExist(t *testing.T) {
	help, seen := make(map[string]string), 0
	makefile := readDocument(t, "Makefile").text
	for _, d := range documents(t) {
		for _, cmd := range d.commands() {
			sub := cmd[0]
			if _, asked := help[sub]; !asked {
				help[sub], _, _ = harness.Command(t, nil, sub, "--help")
			}
			seen++
			if !strings.Contains(help[sub], "outrider "+sub) {
				t.Errorf("%s: there is no command outrider %s", d.path, sub)
				continue
			}
			for _, arg := range cmd[1:] {
				flag, _, _ := strings.Cut(arg, "=")
				if strings.HasPrefix(flag, "-") && !regexp.MustCompile(`(?m)^ +(-\w, +)?`+flag+`\b|^ +`+flag+`,`).MatchString(help[sub]) {
					t.Errorf("%s: outrider %s has no %s", d.path, sub, flag)
				}
			}
		}
		for _, m := range regexp.MustCompile("(?m)(?:`|^ {4}|^)make ([a-z-]+)").FindAllStringSubmatch(d.text, -1) {
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s: there is no make %s", d.path, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`go run \./([a-z/]+)`).FindAllStringSubmatch(d.text, -1) {
			if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
				t.Errorf("%s: %v", d.path, err)
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d commands were found", seen)
	}
}

// walk runs the blocks of a document as whoever reads it would.
type walk struct {
	dir, prelude string
	env          []string
}

// bash is a block, behind the document's own settings and those of this machine.
func (w *walk) bash(ctx context.Context, block string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", w.prelude+"\n"+block)
	cmd.Dir, cmd.Env = w.dir, w.env
	return cmd
}

func (w *walk) run(t *testing.T, block string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := w.bash(ctx, block).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, block, out)
	}
	return string(out)
}

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// needTools wants programs that an operator has.
func needTools(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("TOOLTEST") == "skip" {
				t.Skipf("needs %s, and TOOLTEST=skip asks to do without", tool)
			}
			t.Fatalf("the documents use %s: make deps installs it", tool)
		}
	}
}

func TestGettingStartedWorksAsItIsWritten(t *testing.T) {
	t.Parallel()
	needTools(t, "psql", "kcat", "curl")
	bin, err := harness.Build()
	if err != nil {
		t.Fatal(err)
	}
	pg, kafka := harness.NewPostgres(t, harness.PostgresOptions{}), sharedKafka(t)
	address := freeAddress(t)
	w := &walk{dir: t.TempDir(), env: append(os.Environ(), "PATH="+filepath.Dir(bin)+":"+os.Getenv("PATH"))}
	const topic = "outbox.event.greeting"
	var relay *exec.Cmd
	var program *harness.Program
	shells := slices.DeleteFunc(readDocument(t, "docs/getting-started.md").blocks, func(b codeBlock) bool { return b.language != "sh" })
	for i, b := range shells {
		switch {
		case i == 0:
			w.prelude = b.text + "export DATABASE_URL='" + pg.URL() + "' RELAY_URL='" + strings.Replace(pg.URL(), "postgres@", "relay:relay@", 1) +
				"' KAFKA=" + kafka.Brokers()[0] + " OUTRIDER_HTTP_LISTEN=" + address
		case b.word == "background":
			relay = w.bash(context.Background(), "exec "+b.text)
			program = harness.StartProgram(t, relay)
		case b.word == "cleanup":
			eachRowIsThereOnce(t, pg.Connect(t), kafka.Brokers(), topic)
			metricsAreDocumented(t, address)
			_ = relay.Process.Signal(syscall.SIGTERM)
			<-program.Ended()
			if err := program.Err(); err != nil {
				t.Errorf("the relay ended with %v\n%s", err, program.Output())
			}
			w.run(t, b.text)
		default:
			out := w.run(t, b.text)
			switch {
			case strings.Contains(b.text, "uniq -d"):
				if out != "" {
					t.Errorf("%s\nshows repeats:\n%s", b.text, out)
				}
			case strings.HasPrefix(b.text, "kcat") && !strings.Contains(out, `key 42, value {"total": 10}`):
				t.Errorf("%s\n printed %s", b.text, out)
			}
		}
	}
	var left int
	queryRow(t, pg.Connect(t), `select (select count(*) from pg_replication_slots) + (select count(*) from pg_roles where rolname = 'relay') + (select count(*) from pg_publication)`, nil, &left)
	if left > 0 {
		t.Errorf("%d things are left behind", left)
	}
}

// eachRowIsThereOnce compares the ids of the table with those of the topic.
func eachRowIsThereOnce(t *testing.T, conn *pgx.Conn, brokers []string, topic string) {
	t.Helper()
	var rows []string
	queryRow(t, conn, `select array_agg(id::text order by id::text) from outbox`, nil, &rows)
	if len(rows) < 1000 {
		t.Errorf("the document has written %d rows", len(rows))
	}
	harness.Eventually(t, patience, "each row once in "+topic, func() error {
		var records []string
		for _, r := range harness.ReadAll(t, brokers, topic) {
			records = append(records, harness.Header(r, "id"))
		}
		slices.Sort(records)
		if len(records) > len(rows) {
			t.Fatalf("%d rows became %d records", len(rows), len(records))
		}
		if !slices.Equal(rows, records) {
			return fmt.Errorf("%d rows are %d records so far", len(rows), len(records))
		}
		return nil
	})
}

// metricsAreDocumented compares what a relay that has relayed shows with docs/operating.md.
func metricsAreDocumented(t *testing.T, address string) {
	t.Helper()
	res, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	shown, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	operating := readDocument(t, "docs/operating.md").text
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (outrider_\w+)`).FindAllSubmatch(shown, -1) {
		if !strings.Contains(operating, string(m[1])) {
			t.Errorf("docs/operating.md says nothing of %s", m[1])
		}
	}
	if !bytes.Contains(shown, []byte("outrider_lag_seconds")) {
		t.Errorf("no metrics:\n%s", shown)
	}
}

func TestDocumentedSQLRuns(t *testing.T) {
	t.Parallel()
	pg := sharedPostgres(t)
	for _, path := range []string{"docs/operating.md", "docs/scaling.md"} {
		if path == "docs/scaling.md" && pg.Major < 15 {
			continue // row filters came with 15, as it says
		}
		conn := harness.Connect(t, pg.NewDatabase(t))
		harness.CreateOutbox(t, conn)
		if err := migrations.EnsureCheckpoint(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		const again = `6ba7b810-9dad-41d1-80b4-00c04fd430c8`
		harness.Exec(t, conn, `insert into outbox (id, aggregate_type, aggregate_id, event_type, created_at) values ($1, 'order', '1', 'OrderPlaced', now() - interval '1 day')`, again)
		for _, b := range readDocument(t, path).blocks {
			if b.language != "sql" {
				continue
			}
			if _, err := conn.PgConn().Exec(t.Context(), b.text).ReadAll(); err != nil {
				t.Errorf("%s: %v in\n%s", path, err, b.text)
			}
		}
		var rows int
		queryRow(t, conn, `select count(*) from outbox where id = $1`, []any{again}, &rows)
		if rows != 1 {
			t.Errorf("%s: publishing again left %d rows of the event", path, rows)
		}
	}
}
