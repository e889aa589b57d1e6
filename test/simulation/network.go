package simulation

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// network connects processes with servers.
type network struct {
	seed uint64
	far  int // see link
	// accept is asked for every connection: it serves until the connection ends, or refuses with an error at once.
	accept func(c net.Conn, addr string) (serve func(), err error)

	mu      sync.Mutex
	dials   map[string]int
	links   map[string][]*link // by the process that dialled
	frozen  map[string]bool
	thawed  sync.Cond
	serving sync.WaitGroup
}

func newNetwork(seed uint64) *network {
	n := &network{seed: seed, far: 1, dials: make(map[string]int), links: make(map[string][]*link), frozen: make(map[string]bool)}
	n.thawed.L = &n.mu
	return n
}

// random gives a stream of random numbers to whatever has that name.
func random(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// dialler gives a process its way to the servers. It ends with the process.
func (n *network) dialler(process string, dead func() bool) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, _, addr string) (net.Conn, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n.mu.Lock()
		for n.frozen[process] && !dead() {
			n.thawed.Wait()
		}
		if dead() {
			n.mu.Unlock()
			return nil, syscall.ENETDOWN
		}
		n.dials[process]++
		name := fmt.Sprintf("%s to %s, %d", process, addr, n.dials[process])
		l := newLink(process, name, random(n.seed, name), n.far)
		n.mu.Unlock()
		serve, err := n.accept(conn{l, 1}, addr)
		if err != nil {
			wait(ctx, time.Millisecond)
			return nil, err
		}
		n.mu.Lock()
		n.links[process] = append(slices.DeleteFunc(n.links[process], (*link).dead), l)
		n.mu.Unlock()
		n.serving.Go(serve)
		return conn{l, 0}, nil
	}
}

// each calls f for the links of a process.
func (n *network) each(process string, f func(*link)) {
	n.mu.Lock()
	links := slices.Clone(n.links[process])
	n.mu.Unlock()
	for _, l := range links {
		f(l)
	}
}

// freeze stops all that a process sends and receives, or lets it go on.
func (n *network) freeze(process string, frozen bool) {
	n.mu.Lock()
	n.frozen[process] = frozen
	n.thawed.Broadcast()
	n.mu.Unlock()
	n.each(process, func(l *link) { l.hold(frozen) })
}

// end cuts every connection, and waits for the servers to let go of them.
func (n *network) end() {
	n.mu.Lock()
	for _, links := range n.links {
		for _, l := range links {
			l.cut([2]bool{true, true})
		}
	}
	n.mu.Unlock()
	n.serving.Wait()
}

// wait passes time, or as much of it as ctx allows.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
