package main

import (
	"errors"
	"net"
	"sync"
)

// door is a listening socket that can be shut, which ends its connections too, and opened again at the same address: to
// clients it is a server that stops and starts.
type door struct {
	address net.Addr

	mu       sync.Mutex
	changed  *sync.Cond // of what follows
	listener net.Listener
	shut     bool
	closed   bool // for good
	conns    map[net.Conn]bool
}

// newDoor listens.
func newDoor(network, address string) (*door, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	d := &door{address: l.Addr(), listener: l, conns: make(map[net.Conn]bool)}
	d.changed = sync.NewCond(&d.mu)
	return d, nil
}

// Addr implements net.Listener.
func (d *door) Addr() net.Addr { return d.address }

// Accept implements net.Listener. A shut door only makes it wait.
func (d *door) Accept() (net.Conn, error) {
	for {
		d.mu.Lock()
		for d.shut && !d.closed {
			d.changed.Wait()
		}
		l := d.listener
		d.mu.Unlock()
		conn, err := l.Accept()
		if conn, entered := d.enter(conn, err); entered {
			return conn, err
		}
	}
}

// enter takes what Accept got, unless it got it because the door was being shut.
func (d *door) enter(conn net.Conn, err error) (_ net.Conn, entered bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err != nil && d.closed:
		return nil, true
	case err != nil:
		return nil, !errors.Is(err, net.ErrClosed)
	case d.shut || d.closed:
		_ = conn.Close()
		return nil, false
	}
	d.conns[conn] = true
	return &visitor{conn, d}, true
}

// visitor is a connection that the door forgets when it is closed.
type visitor struct {
	net.Conn
	door *door
}

// Close implements net.Conn.
func (v *visitor) Close() error {
	v.door.mu.Lock()
	delete(v.door.conns, v.Conn)
	v.door.mu.Unlock()
	return v.Conn.Close()
}

// stop shuts the door.
func (d *door) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = true
	_ = d.listener.Close()
	for conn := range d.conns {
		_ = conn.Close()
	}
}

// start opens it again.
func (d *door) start() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.shut || d.closed {
		return nil
	}
	l, err := net.Listen(d.address.Network(), d.address.String())
	if err != nil {
		return err
	}
	d.listener, d.shut = l, false
	d.changed.Broadcast()
	return nil
}

// Close implements net.Listener.
func (d *door) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.changed.Broadcast()
	if d.shut {
		return nil
	}
	return d.listener.Close()
}
