// Package failpoint ends the process, as kill -9 does, at a place that the code names. The relay is linked with it under
// the build tag failpoint alone; in any other build a failpoint is an empty function.
package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
)

// Variables that a process is started with.
const (
	// Kill says where it ends: a name, a colon, and at which hit, from 1 on.
	Kill = "FAILPOINT"
	// Hits names a file that gets the failpoint's name, in a line, at each hit.
	Hits = "FAILPOINT_HITS"
)

var (
	mu   sync.Mutex // held for a whole hit: the hits have an order, and the last one is the last line of the file
	hits = make(map[string]int)
	plan = sync.OnceValues(readPlan)
	file = sync.OnceValues(openHits)
)

// at is where the process ends.
type at struct {
	name string
	hit  int
}

func readPlan() (at, error) {
	text := os.Getenv(Kill)
	if text == "" {
		return at{}, nil
	}
	name, count, _ := strings.Cut(text, ":")
	hit, err := strconv.Atoi(count)
	if err != nil || hit < 1 {
		return at{}, fmt.Errorf("%s=%s: want a name, a colon, and a hit from 1 on", Kill, text)
	}
	return at{name, hit}, nil
}

func openHits() (*os.File, error) {
	path := os.Getenv(Hits)
	if path == "" {
		return nil, nil
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
}

// Hit tells that the process has come to the failpoint of that name. It does not return where the process is to end.
func Hit(name string) {
	mu.Lock()
	defer mu.Unlock()
	hits[name]++
	end := must(plan())
	if out := must(file()); out != nil {
		must(fmt.Fprintln(out, name))
	}
	if (at{name, hits[name]}) != end {
		return
	}
	self := must(os.FindProcess(os.Getpid()))
	if err := self.Kill(); err != nil {
		panic(err)
	}
	select {} // the signal takes a moment, in which nobody may pass
}

// must is for a test's own mistakes: a run with a wrong plan would prove nothing.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("failpoint: %v", err))
	}
	return v
}
