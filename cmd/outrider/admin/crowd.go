package admin

import (
	"net"
	"sync"
)

// maxConnections is far more than probes, scrapes and people's browsers hold at a time.
const maxConnections = 100

// crowd is a listener that takes no further clients while it has as many as it has places: whoever can reach the endpoint
// could otherwise use up the file descriptors that the relay needs to dial Postgres and Kafka.
type crowd struct {
	net.Listener
	places chan struct{}
}

func limit(l net.Listener) crowd { return crowd{l, make(chan struct{}, maxConnections)} }

// Accept waits for a place, and then for a client. It ends with the listener once a client has gone, as all of them do when
// the server is closed.
func (c crowd) Accept() (net.Conn, error) {
	c.places <- struct{}{}
	conn, err := c.Listener.Accept()
	if err != nil {
		<-c.places
		return nil, err
	}
	return &guest{Conn: conn, leave: sync.OnceFunc(func() { <-c.places })}, nil
}

// guest is a connection that gives its place back.
type guest struct {
	net.Conn
	leave func()
}

func (g *guest) Close() error {
	defer g.leave()
	return g.Conn.Close()
}
