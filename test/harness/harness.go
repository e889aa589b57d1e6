// Package harness starts the real parts that the relay is proved against: Postgres, Apache Kafka, a TCP proxy that cuts and
// stalls, and the relay's own binary as a child process. Everything listens on loopback and a free port, and is stopped by
// whoever started it.
package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// CacheDir is where downloads are kept, for the next run to need none.
func CacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder (is HOME set?): %w", err)
	}
	dir := filepath.Join(base, "outrider")
	return dir, os.MkdirAll(dir, 0o755)
}

// freePort gives a TCP port on loopback that nobody listens on. It is one that systems give to no outgoing connection, and
// that was given to nobody before in this process, so that it is still free when the server that it is for comes up, and
// when one that was stopped comes back to it.
func freePort() (int, error) {
	const first, last = 15000, 32000
	for range 100 {
		port := first + rand.IntN(last-first)
		if _, given := givenPorts.LoadOrStore(port, true); given {
			continue
		}
		l, err := net.Listen("tcp", loopback(port))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free TCP port from %d to %d", first, last)
}

// givenPorts are the ports that freePort has given.
var givenPorts sync.Map

// Eventually waits until check returns nil, and fails the test with what it said last when that takes longer than patience.
func Eventually(t testing.TB, patience time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		}
		<-tick.C
	}
}

// Throughout checks again and again for as long as d that check returns nil, and fails the test when it does not.
func Throughout(t testing.TB, d time.Duration, what string, check func() error) {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Since(began) < d {
		if err := check(); err != nil {
			t.Fatalf("%s: no longer after %s: %v", what, time.Since(began).Round(time.Millisecond), err)
		}
		<-tick.C
	}
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
