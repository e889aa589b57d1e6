// Package failpoint ends the process, as kill -9 does, or freezes it, at a place that the code names. The relay is linked with it under
// the build tag failpoint alone; in any other build a failpoint is an empty function.
package failpoint

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Variables that a process is started with.
const (
	// Kill says where it ends: a name and at which hit, from 1 on, with a colon in between.
	Kill = "FAILPOINT"
	// Hold is for how long what has come there is held before the process ends, while all the rest of it goes on: what must
	// not happen before that step then has the time to happen.
	Hold = "FAILPOINT_HOLD"
	// Freeze says where it is stopped as by SIGSTOP, in the way of Kill; several places are separated by commas. It goes on
	// there at a SIGCONT.
	Freeze = "FAILPOINT_FREEZE"
	// Renewal is the time between two renewals of the hold on Kafka, which are frequent in this build unless it is set.
	Renewal = "FAILPOINT_RENEWAL"
	// Hits names a file that gets the failpoint's name, in a line, at each hit.
	Hits = "FAILPOINT_HITS"
)

var (
	mu    sync.Mutex // guards hits, and gives those of the file the same order
	hits  = make(map[string]int)
	plan  = sync.OnceValues(readPlan)
	halts = sync.OnceValues(readFreeze)
	file  = sync.OnceValues(openHits)
)

// end is where the process ends, or is frozen.
type end struct {
	name string
	hit  int
	hold time.Duration
}

func readPlan() (end, error) {
	text := os.Getenv(Kill)
	if text == "" {
		return end{}, nil
	}
	e, err := readEnd(Kill, text)
	if text := os.Getenv(Hold); err == nil && text != "" {
		if e.hold, err = time.ParseDuration(text); err != nil {
			return end{}, fmt.Errorf("%s: %w", Hold, err)
		}
	}
	return e, err
}

func readFreeze() (places []end, err error) {
	for text := range strings.SplitSeq(os.Getenv(Freeze), ",") {
		if text == "" {
			continue
		}
		e, err := readEnd(Freeze, text)
		if err != nil {
			return nil, err
		}
		places = append(places, e)
	}
	return places, nil
}

// readEnd reads a name and a hit.
func readEnd(variable, text string) (end, error) {
	name, count, _ := strings.Cut(text, ":")
	hit, err := strconv.Atoi(count)
	if err != nil || hit < 1 {
		return end{}, fmt.Errorf("%s=%s: want a name, a colon, and a hit from 1 on", variable, text)
	}
	return end{name: name, hit: hit}, nil
}

func openHits() (*os.File, error) {
	path := os.Getenv(Hits)
	if path == "" {
		return nil, nil
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
}

// Every gives the time between two renewals: usual, unless Renewal says otherwise.
func Every(usual time.Duration) time.Duration {
	text := os.Getenv(Renewal)
	if text == "" {
		return usual
	}
	return must(time.ParseDuration(text))
}

// Hit tells that the process has come to the failpoint of that name. It does not return where the process is to end.
func Hit(name string) {
	planned, places, hit := must(plan()), must(halts()), count(name)
	if slices.Contains(places, end{name: name, hit: hit}) {
		freeze()
	}
	if name != planned.name || hit != planned.hit {
		return
	}
	time.Sleep(planned.hold)
	self := must(os.FindProcess(os.Getpid()))
	if err := self.Kill(); err != nil {
		panic(err)
	}
	select {} // the signal takes a moment, in which nobody may pass
}

// freeze stops the process. The signal takes a moment, in which nobody may pass: what is left of it is over when the process
// goes on.
func freeze() {
	if err := must(os.FindProcess(os.Getpid())).Signal(syscall.SIGSTOP); err != nil {
		panic(err)
	}
	time.Sleep(100 * time.Millisecond)
}

// count books a hit, and says which one it is.
func count(name string) int {
	mu.Lock()
	defer mu.Unlock()
	hits[name]++
	if out := must(file()); out != nil {
		must(fmt.Fprintln(out, name))
	}
	return hits[name]
}

// must is for a test's own mistakes: a run with a wrong plan would prove nothing.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("failpoint: %v", err))
	}
	return v
}
