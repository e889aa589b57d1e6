package test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/test/harness"
)

// failpointSample is how many kills are taken at random, unless FAILPOINTTEST is a regular expression of their names.
const failpointSample = 5

// failpointBuild is a relay that heeds the variables of package failpoint.
func failpointBuild(t *testing.T) string {
	t.Helper()
	b, err := buildFailpoint()
	if err != nil {
		t.Fatal(err)
	}
	return b.bin
}

var buildFailpoint = harness.Share(func() (failpointBinary, error) {
	dir, err := os.MkdirTemp("", "outrider-failpoint-")
	if err != nil {
		return failpointBinary{}, err
	}
	bin, err := harness.BuildWith(dir, "failpoint")
	return failpointBinary{dir, bin}, err
})

// failpointBinary is a file in a folder of its own, which goes when it is closed.
type failpointBinary struct{ dir, bin string }

func (b failpointBinary) Close() error { return os.RemoveAll(b.dir) }

// failpoints finds the names of all failpoints in the source, in its order: what is in the code is in the test.
func failpoints(t *testing.T) []string {
	t.Helper()
	var names []string
	places := make(map[string]token.Position)
	for _, c := range callsOf(t, "failpoint") {
		if other, used := places[c.name]; used {
			t.Fatalf("%s: failpoint %q is at %s too", c.at, c.name, other)
		}
		places[c.name] = c.at
		names = append(names, c.name)
	}
	return names
}

// namedCall is a place in the source at which a function is called with a name.
type namedCall struct {
	name string
	at   token.Position
}

// callsOf finds them, in the order of the source.
func callsOf(t *testing.T, function string) (calls []namedCall) {
	t.Helper()
	files := token.NewFileSet()
	visit := func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if f, ok := call.Fun.(*ast.Ident); !ok || f.Name != function {
			return true
		}
		at := files.Position(call.Pos())
		literal, ok := call.Args[0].(*ast.BasicLit)
		if !ok {
			t.Fatalf("%s: what %s is called with must be a literal", at, function)
		}
		name, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		calls = append(calls, namedCall{name, at})
		return true
	}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, visit)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(calls) == 0 {
		t.Fatalf("the source has no call of %s", function)
	}
	return calls
}

// failpointHold is how long half of the kills hold what has come to the failpoint, while the rest of the relay goes on.
const failpointHold = 50 * time.Millisecond

// ending is where and when a relay is killed.
type ending struct {
	point string
	hit   int
	hold  time.Duration
	life  life
}

func (e ending) String() string { return fmt.Sprintf("%s/%s:%d+%s", e.life, e.point, e.hit, e.hold) }

// endings chooses, for each failpoint, the first, second, last and a random hit of those that were counted in a life of each
// kind. The hits of a first start, in which nothing is behind the relay yet, are looked for only where they are the first,
// or there are no others.
func endings(t *testing.T, points []string, counted map[life]map[string]int, rng *rand.Rand) []ending {
	t.Helper()
	var all []ending
	for _, point := range points {
		first, later := counted[firstStart][point], counted[takeover][point]
		if first == 0 && later == 0 {
			t.Errorf("failpoint %q is never hit", point)
			continue
		}
		if later == 0 {
			all = append(all, spread(point, first, firstStart, rng)...)
			continue
		}
		if first > 0 {
			all = append(all, ending{point, 1, hold(rng), firstStart})
		}
		all = append(all, spread(point, later, takeover, rng)...)
	}
	return all
}

// spread gives first, second, last and a random one of count hits.
func spread(point string, count int, l life, rng *rand.Rand) []ending {
	hits := []int{1, min(2, count), count, 1 + rng.IntN(count)}
	slices.Sort(hits)
	var all []ending
	for _, hit := range slices.Compact(hits) {
		all = append(all, ending{point, hit, hold(rng), l})
	}
	return all
}

// hold is nothing or failpointHold.
func hold(rng *rand.Rand) time.Duration { return time.Duration(rng.IntN(2)) * failpointHold }

func TestKillAtEveryFailpointRepeatsAndLosesNothing(t *testing.T) {
	t.Parallel()
	bin := failpointBuild(t)
	seed := rand.Uint64()
	var err error
	if s := os.Getenv("FAILPOINTTEST_SEED"); s != "" {
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("FAILPOINTTEST_SEED: %v", err)
		}
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	points := failpoints(t)
	counted := make(map[life]map[string]int)
	for _, l := range []life{firstStart, takeover} {
		t.Run("count/"+string(l), func(t *testing.T) {
			counted[l], _ = newWorld(t, bin).run(t, ending{life: l}, rng.Uint64())
		})
	}
	if t.Failed() {
		return
	}
	all := endings(t, points, counted, rng)
	chosen := choose(t, all, rng)
	survived := 0
	for _, e := range chosen {
		if t.Run(e.String(), func(t *testing.T) { killAt(t, bin, e, rng.Uint64()) }) {
			survived++
		}
	}
	t.Logf("%d failpoints; %d kills at their hits, of which %d were taken and %d survived; seed %d", len(points), len(all), len(chosen), survived, seed)
}

// choose takes the endings that FAILPOINTTEST describes, or a sample.
func choose(t *testing.T, all []ending, rng *rand.Rand) []ending {
	t.Helper()
	if names := os.Getenv("FAILPOINTTEST"); names != "" {
		wanted, err := regexp.Compile(names)
		if err != nil {
			t.Fatalf("FAILPOINTTEST: %v", err)
		}
		return slices.DeleteFunc(slices.Clone(all), func(e ending) bool { return !wanted.MatchString(e.String()) })
	}
	all = slices.Clone(all)
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(failpointSample, len(all))]
}

// killAt ends a relay at a hit. How often a failpoint is hit is not the same in two runs: where that hit did not come, the
// last one that did is tried.
func killAt(t *testing.T, bin string, e ending, seed uint64) {
	for {
		hits, killed := newWorld(t, bin).run(t, e, seed)
		if killed {
			return
		}
		if hits[e.point] == 0 {
			t.Fatalf("failpoint %q was not hit in this run", e.point)
		}
		t.Logf("hit %d did not come, only %d", e.hit, hits[e.point])
		e.hit = min(e.hit-1, hits[e.point])
	}
}

// readHits counts the lines of a file of hits by name.
func readHits(path string) (map[string]int, error) {
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	hits := make(map[string]int)
	for line := range strings.Lines(string(content)) {
		hits[strings.TrimSuffix(line, "\n")]++
	}
	return hits, nil
}
