package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
)

// DefaultFile is read, if it exists, where no file is named.
const DefaultFile = "outrider.yaml"

// Sources are where settings come from. A flag wins over the environment, that over the file, and that over the default.
type Sources struct {
	File    string   // empty: DefaultFile if it exists
	Environ []string // as os.Environ gives it
	Flags   []Flag   // those that were given
	Spare   []string // required settings that the command can do without
}

// Flag is a setting given on the command line.
type Flag struct{ Name, Path, Value string }

// Load reads, completes and checks the settings. Its error is of type Problems and holds all that is wrong.
func (s Sources) Load() (*Settings, error) {
	settings := defaults()
	l := newLoader(settings, s.Environ)
	l.spare = s.Spare
	if !l.readFile(s.File) {
		// A file that cannot be parsed makes every later complaint about what is missing a false one.
		return nil, l.problems
	}
	l.readEnvironment()
	for _, f := range s.Flags {
		l.set(f.Path, f.Value, origin{where: "--" + f.Name})
	}
	settings.complete()
	if settings.Outbox.Compat == "debezium" && !l.given("outbox.tombstone_on_null") {
		settings.Outbox.TombstoneOnNull = false // as route.tombstone.on.empty.payload is there
	}
	l.check()
	if len(l.problems) > 0 {
		l.problems.sort()
		return nil, l.problems
	}
	return settings, nil
}

// loader gathers settings, remembers where each came from, and collects what is wrong.
type loader struct {
	settings *Settings
	keys     map[string]key
	paths    []string // of keys, in the order of the file
	origins  map[string]origin
	environ  map[string]string
	spare    []string        // as in Sources
	broken   map[string]bool // settings whose value could not be read, which further checks are spared
	problems Problems
}

func newLoader(settings *Settings, environ []string) *loader {
	l := &loader{
		settings: settings,
		keys:     make(map[string]key),
		origins:  make(map[string]origin),
		environ:  make(map[string]string, len(environ)),
		broken:   make(map[string]bool),
	}
	for _, k := range settings.keys() {
		l.keys[k.path] = k
		l.paths = append(l.paths, k.path)
	}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		l.environ[name] = value
	}
	return l
}

// fail adds a problem to a setting whose value could not be read.
func (l *loader) fail(at origin, path, format string, args ...any) {
	l.broken[path] = true
	l.add(at, path, format, args...)
}

func (l *loader) add(at origin, path, format string, args ...any) {
	l.problems = append(l.problems, Problem{Where: at.where, Key: path, Text: fmt.Sprintf(format, args...), line: at.line})
}

// set takes the text of a scalar setting, or of a list or map in its comma-separated form.
func (l *loader) set(path, text string, at origin) {
	k, known := l.keys[path]
	if !known {
		panic("no setting is called " + path)
	}
	l.origins[path] = at
	value, err := expand(text, l.environ)
	if err == nil {
		err = k.set(value)
	}
	if err != nil {
		l.fail(at, path, "%v", err)
	}
}

// readFile is false when nothing can be said about the rest.
func (l *loader) readFile(file string) bool {
	optional := file == ""
	if optional {
		file = DefaultFile
	}
	b, err := os.ReadFile(file)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		l.fail(origin{where: file}, "", "cannot be read: %v", errors.Unwrap(err))
		return false
	}
	return l.parseFile(file, b)
}

// readEnvironment takes the variables that begin with our prefix. Any that is no setting is an error: it was meant to be one.
func (l *loader) readEnvironment() {
	byVariable := make(map[string]string, len(l.paths))
	for _, path := range l.paths {
		byVariable[variable(path)] = path
	}
	for _, name := range slices.Sorted(maps.Keys(l.environ)) {
		if !strings.HasPrefix(name, variablePrefix) {
			continue
		}
		at := origin{where: name}
		if path, known := byVariable[name]; known {
			l.set(path, l.environ[name], at)
		} else if !l.isServiceLink(name) {
			meant := nearest(strings.ToLower(strings.TrimPrefix(name, variablePrefix)), l.paths)
			l.fail(at, "", "no setting has this variable; the nearest is %s", variable(meant))
		}
	}
}

// isServiceLink is true for the variables that Kubernetes gives every pod beside a service whose name begins with
// "outrider": OUTRIDER_SERVICE_HOST, OUTRIDER_PORT_9187_TCP and so on.
func (l *loader) isServiceLink(name string) bool {
	for other := range l.environ {
		service, ok := strings.CutSuffix(other, "_SERVICE_HOST")
		if !ok {
			continue
		}
		if rest, ok := strings.CutPrefix(name, service); ok &&
			(rest == "_PORT" || strings.HasPrefix(rest, "_PORT_") || strings.HasPrefix(rest, "_SERVICE_")) {
			return true
		}
	}
	return false
}
