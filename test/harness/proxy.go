package harness

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP relay on loopback that can break as networks do.
type Proxy struct {
	listener net.Listener

	mu      sync.Mutex
	targets []string              // of new connections, in turn
	conns   map[net.Conn]net.Conn // both ends of each connection, by the client's
	frozen  map[net.Conn]bool     // those of them that are half-open for ever
	flow    *sync.Cond            // of mu: stalled has changed
	stalled bool
	refuse  bool
	delay   time.Duration
	closed  bool
	wg      sync.WaitGroup
}

// NewProxy relays to target until the test ends.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("proxy: %v", err)
	}
	p := &Proxy{listener: l, targets: []string{target}, conns: make(map[net.Conn]net.Conn), frozen: make(map[net.Conn]bool)}
	p.flow = sync.NewCond(&p.mu)
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Addr is where clients connect.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// SetTarget sends new connections elsewhere; to several servers in turn, as a balancer does, where more than one is named.
func (p *Proxy) SetTarget(addrs ...string) { p.set(func() { p.targets = addrs }) }

// Stall makes every connection, present and future, a half-open one: it stays up, and nothing passes. Resume lets all go on.
func (p *Proxy) Stall()  { p.set(func() { p.stalled = true }) }
func (p *Proxy) Resume() { p.set(func() { p.stalled = false }) }

// Freeze makes every present connection a half-open one for ever, as a router that lost its state does; new ones work.
func (p *Proxy) Freeze() {
	p.set(func() {
		for client := range p.conns {
			p.frozen[client] = true
		}
	})
}

// Refuse makes new connections end at once; Accept takes them again.
func (p *Proxy) Refuse() { p.set(func() { p.refuse = true }) }
func (p *Proxy) Accept() { p.set(func() { p.refuse = false }) }

// Latency delays what passes, in each direction.
func (p *Proxy) Latency(d time.Duration) { p.set(func() { p.delay = d }) }

// Cut resets every connection.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for client, server := range p.conns {
		for _, c := range []net.Conn{client, server} {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = c.Close()
		}
	}
}

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.flow.Broadcast()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target, refuse := p.targets[0], p.refuse
		p.targets = append(p.targets[1:len(p.targets):len(p.targets)], target)
		p.mu.Unlock()
		if refuse {
			_ = client.Close()
			continue
		}
		server, err := net.Dial("tcp", target)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client] = server
		closed := p.closed
		p.mu.Unlock()
		if closed { // after close has cut the others
			p.Cut()
			return
		}
		p.wg.Go(func() { p.pass(client, server, client) })
		p.wg.Go(func() { p.pass(server, client, client) })
	}
}

// pass copies one direction. key is the connection's place in conns.
func (p *Proxy) pass(from, to, key net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		for (p.stalled || p.frozen[key]) && !p.closed {
			p.flow.Wait()
		}
		delay := p.delay
		p.mu.Unlock()
		if delay > 0 {
			time.Sleep(delay)
		}
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_ = from.Close()
	_ = to.Close()
	p.set(func() {
		delete(p.conns, key)
		delete(p.frozen, key)
	})
}

func (p *Proxy) close() {
	_ = p.listener.Close()
	p.set(func() { p.closed = true })
	p.Cut()
	p.wg.Wait()
}
