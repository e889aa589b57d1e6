package harness

import (
	"bytes"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP relay on loopback that can break as networks do.
type Proxy struct {
	listener net.Listener

	mu      sync.Mutex
	targets []string           // of new connections, in turn
	conns   map[net.Conn]*link // by the client's end
	flow    *sync.Cond         // of mu: stalled has changed
	filter  func() Filter      // of new connections
	stalled bool
	refuse  bool
	delay   time.Duration
	rate    int // bytes a second; 0: all
	closed  bool
	wg      sync.WaitGroup
}

// link is a connection through the proxy.
type link struct {
	client, server net.Conn
	filter         Filter // nil: everything passes
	hello          []byte // what the client sent first
	frozen         bool   // half-open for ever
}

// Filter sees what passes on one connection, in pieces as they come, and gives what is to pass instead. An error resets the
// connection. Each direction has a goroutine.
type Filter interface {
	Request(piece []byte) ([]byte, error)
	Answer(piece []byte) ([]byte, error)
}

// StartProxy relays to target until it is closed.
func StartProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &Proxy{listener: l, targets: []string{target}, conns: make(map[net.Conn]*link)}
	p.flow = sync.NewCond(&p.mu)
	p.wg.Go(p.accept)
	return p, nil
}

// NewProxy relays to target until the test ends.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := StartProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
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
func (p *Proxy) Freeze() { p.FreezeIf(func([]byte) bool { return true }) }

// FreezeIf does that with those connections whose client sent first what is looked for.
func (p *Proxy) FreezeIf(hello func([]byte) bool) {
	p.set(func() {
		for _, l := range p.conns {
			l.frozen = l.frozen || hello(l.hello)
		}
	})
}

// Vanish does so for their clients alone: to the server they are reset.
func (p *Proxy) Vanish(hello func([]byte) bool) {
	p.set(func() {
		for _, l := range p.conns {
			if hello(l.hello) {
				l.frozen = true
				reset(l.server)
			}
		}
	})
}

// SetFilter gives each new connection a filter of its own.
func (p *Proxy) SetFilter(filter func() Filter) { p.set(func() { p.filter = filter }) }

// Refuse makes new connections end at once; Accept takes them again.
func (p *Proxy) Refuse() { p.set(func() { p.refuse = true }) }
func (p *Proxy) Accept() { p.set(func() { p.refuse = false }) }

// Latency delays what passes, in each direction.
func (p *Proxy) Latency(d time.Duration) { p.set(func() { p.delay = d }) }

// Trickle lets so many bytes a second pass on each connection, in each direction; 0: as many as come.
func (p *Proxy) Trickle(bytesPerSecond int) { p.set(func() { p.rate = bytesPerSecond }) }

// Cut resets every connection.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.conns {
		l.reset()
	}
}

func (l *link) reset() {
	reset(l.client)
	reset(l.server)
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
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
		l := &link{client: client, server: server}
		p.mu.Lock()
		p.conns[client] = l
		if p.filter != nil {
			l.filter = p.filter()
		}
		closed := p.closed
		p.mu.Unlock()
		if closed { // after close has cut the others
			p.Cut()
			return
		}
		p.wg.Go(func() { p.pass(l, client, server) })
		p.wg.Go(func() { p.pass(l, server, client) })
	}
}

// pass copies one direction of a connection.
func (p *Proxy) pass(l *link, from, to net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		if from == l.client && l.hello == nil {
			l.hello = bytes.Clone(buf[:n])
		}
		for (p.stalled || l.frozen) && !p.closed {
			p.flow.Wait()
		}
		delay := p.delay
		p.mu.Unlock()
		if delay > 0 {
			time.Sleep(delay)
		}
		piece, refused := l.through(buf[:n], from == l.client)
		if len(piece) > 0 {
			if werr := p.write(to, piece); werr != nil {
				break
			}
		}
		if refused != nil {
			l.reset()
		}
		if err != nil || refused != nil {
			break
		}
	}
	_ = from.Close()
	_ = to.Close()
	p.set(func() { delete(p.conns, l.client) })
}

// write passes a piece on, no faster than the rate allows.
func (p *Proxy) write(to net.Conn, piece []byte) error {
	const turns = 50 // a second
	for len(piece) > 0 {
		p.mu.Lock()
		n, rate := len(piece), p.rate
		p.mu.Unlock()
		if rate > 0 {
			n = min(n, max(1, rate/turns))
			time.Sleep(time.Second / turns)
		}
		if _, err := to.Write(piece[:n]); err != nil {
			return err
		}
		piece = piece[n:]
	}
	return nil
}

// through gives what the link's filter makes of a piece.
func (l *link) through(piece []byte, request bool) ([]byte, error) {
	switch {
	case l.filter == nil || len(piece) == 0:
		return piece, nil
	case request:
		return l.filter.Request(piece)
	}
	return l.filter.Answer(piece)
}

// Close resets every connection, and takes no more.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.set(func() { p.closed = true })
	p.Cut()
	p.wg.Wait()
}
