package examples

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/outrider-relay/outrider/test/harness"
)

// A language is a folder of docs/examples.
type language struct {
	name  string
	needs []string // commands that have to be on the machine
	jdbc  bool     // its URL of a database is JDBC's
	ends  bool     // its consumer ends at the end of the topic, and keeps its offsets to itself
	// prepare compiles the programs, in a folder of the test's.
	prepare func(t *testing.T) programs
}

// programs are what a language's folder holds.
type programs struct {
	writer   func(orders int) *exec.Cmd
	consumer func() *exec.Cmd
}

var languages = []language{
	{name: "go", prepare: prepareGo},
	{name: "sql", needs: []string{"psql", "kcat"}, ends: true, prepare: prepareSQL},
	{name: "python", needs: []string{"python3"}, prepare: preparePython},
	{name: "java", needs: []string{"javac", "mvn"}, jdbc: true, prepare: prepareMaven("java", "Writer", "Consumer")},
	{name: "kotlin", needs: []string{"java", "mvn"}, jdbc: true, prepare: prepareMaven("kotlin", "Writer", "Consumer")},
	{name: "scala", needs: []string{"java", "mvn"}, jdbc: true, prepare: prepareMaven("scala", "Writer", "Consumer")},
	{name: "clojure", needs: []string{"java", "mvn"}, jdbc: true, prepare: prepareMaven("clojure", "clojure.main writer.clj", "clojure.main consumer.clj")},
}

// selected are the languages that EXAMPLES names, with commas between them, or all; without it those that take no time.
func selected(t *testing.T) []language {
	t.Helper()
	names := os.Getenv("EXAMPLES")
	switch names {
	case "all":
		return languages
	case "":
		names = "go,sql"
	}
	var found []language
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(languages, func(l language) bool { return l.name == name })
		if i < 0 {
			t.Fatalf("EXAMPLES: there is no example in %q", name)
		}
		found = append(found, languages[i])
	}
	return found
}

// missing names the commands that are needed and not there.
func (l language) missing() string {
	missing := slices.DeleteFunc(slices.Clone(l.needs), func(command string) bool {
		_, err := exec.LookPath(command)
		return err == nil
	})
	return strings.Join(missing, ", ")
}

// url is a database's URL as the language's client takes it.
func (l language) url(postgres string) string {
	if !l.jdbc {
		return postgres
	}
	u, err := url.Parse(postgres)
	if err != nil {
		panic(err) // the harness makes them
	}
	query := u.Query()
	query.Set("user", u.User.Username())
	return "jdbc:postgresql://" + u.Host + u.Path + "?" + query.Encode()
}

// docs is the path of a file of the examples.
func docs(elem ...string) string {
	path, err := filepath.Abs(filepath.Join(append([]string{"../../docs/examples"}, elem...)...))
	if err != nil {
		panic(err) // there is no working folder
	}
	return path
}

func prepareGo(t *testing.T) programs {
	t.Helper()
	dir := t.TempDir()
	run(t, exec.Command("go", "build", "-o", dir, "../../docs/examples/go/..."))
	return programs{
		func(orders int) *exec.Cmd { return exec.Command(filepath.Join(dir, "writer"), strconv.Itoa(orders)) },
		func() *exec.Cmd { return exec.Command(filepath.Join(dir, "consumer")) },
	}
}

func prepareSQL(*testing.T) programs {
	return programs{
		func(orders int) *exec.Cmd {
			return exec.Command("sh", "-c", `exec psql "$DATABASE_URL" -X -q -v count=$0 -f $1`, strconv.Itoa(orders), docs("sql", "writer.sql"))
		},
		func() *exec.Cmd { return exec.Command(docs("sql", "consumer.sh")) },
	}
}

// preparePython installs the libraries in the cache, where the next run finds them.
func preparePython(t *testing.T) programs {
	t.Helper()
	cache, err := harness.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	venv := filepath.Join(cache, "examples", "python")
	python := filepath.Join(venv, "bin", "python")
	if _, err := os.Stat(python); err != nil {
		run(t, exec.Command("python3", "-m", "venv", venv))
	}
	run(t, exec.Command(python, "-m", "pip", "install", "-q", "-r", docs("python", "requirements.txt")))
	return programs{
		func(orders int) *exec.Cmd {
			return exec.Command(python, docs("python", "writer.py"), strconv.Itoa(orders))
		},
		func() *exec.Cmd { return exec.Command(python, docs("python", "consumer.py")) },
	}
}

// prepareMaven compiles a copy of the folder, so that nothing is left in the tree; Maven keeps the libraries. The writer and
// the consumer are what stands behind java -cp.
func prepareMaven(name, writer, consumer string) func(t *testing.T) programs {
	return func(t *testing.T) programs {
		t.Helper()
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(docs(name))); err != nil {
			t.Fatal(err)
		}
		maven := exec.Command("mvn", "-q", "-B", "compile", "dependency:build-classpath", "-Dmdep.outputFile=classpath")
		maven.Dir = dir
		run(t, maven)
		libraries, err := os.ReadFile(filepath.Join(dir, "classpath"))
		if err != nil {
			t.Fatal(err)
		}
		java := func(program string, args ...string) *exec.Cmd {
			args = slices.Concat([]string{"-cp", "target/classes:" + string(libraries)}, strings.Fields(program), args)
			cmd := exec.Command("java", args...)
			cmd.Dir = dir
			return cmd
		}
		return programs{
			func(orders int) *exec.Cmd { return java(writer, strconv.Itoa(orders)) },
			func() *exec.Cmd { return java(consumer) },
		}
	}
}
