package admin

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// pipes is a listener without a network, whose time is the test's.
type pipes struct {
	clients chan net.Conn
	closed  context.Context
	close   context.CancelFunc
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.clients:
		return c, nil
	case <-p.closed.Done():
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.close(); return nil }
func (*pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// besieged runs f in a bubble with a server; come gives the client's end of a new connection.
func besieged(t *testing.T, f func(t *testing.T, come func() net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{clients: make(chan net.Conn)}
		p.closed, p.close = context.WithCancel(context.Background())
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		s := &Server{Relay: &relay{}, Metrics: prometheus.NewRegistry(), Log: zerolog.Nop()}
		go func() { done <- s.Run(ctx, p) }()
		var ours []net.Conn
		f(t, func() net.Conn {
			client, server := net.Pipe()
			ours = append(ours, client)
			p.clients <- server
			return client
		})
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, c := range ours {
			_ = c.Close()
		}
		time.Sleep(2 * time.Second) // of the bubble's time, in which whoever still writes sees the end
	})
}

// ask sends a request for /healthz, and gives the code of the answer.
func ask(t *testing.T, c net.Conn, header string) int {
	t.Helper()
	go func() { _, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: h\r\n"+header+"\r\n") }() // which may be cut short
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode
}

// A client that takes its time is sent away, however it goes about it; others are answered meanwhile.
func TestSlowClientsAreSentAway(t *testing.T) {
	for name, c := range map[string]struct {
		within time.Duration
		act    func(t *testing.T, c net.Conn)
	}{
		"silent": {requestTimeout, func(*testing.T, net.Conn) {}},
		"a byte a second": {requestTimeout, func(_ *testing.T, c net.Conn) {
			go func() {
				for _, b := range []byte("GET /healthz HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 100)) {
					if _, err := c.Write([]byte{b}); err != nil {
						return
					}
					time.Sleep(time.Second) // of the bubble's time
				}
			}()
		}},
		"asking once": {idleTimeout, func(t *testing.T, c net.Conn) {
			if code := ask(t, c, ""); code != http.StatusOK {
				t.Errorf("answered with %d", code)
			}
		}},
		"asking and not listening": {responseTimeout, func(_ *testing.T, c net.Conn) {
			_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
			time.Sleep(responseTimeout + time.Millisecond)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			besieged(t, func(t *testing.T, come func() net.Conn) {
				slow, began := come(), time.Now()
				go func() {
					if code := ask(t, come(), "Connection: close\r\n"); code != http.StatusOK {
						t.Errorf("another client is answered with %d", code)
					}
				}()
				c.act(t, slow)
				for {
					if _, err := slow.Read(make([]byte, 512)); err != nil {
						break
					}
				}
				if stayed := time.Since(began); stayed < c.within || stayed > c.within+time.Second {
					t.Errorf("it was gone after %s, not %s", stayed, c.within)
				}
			})
		})
	}
}

func TestHugeHeadersAreRefused(t *testing.T) {
	besieged(t, func(t *testing.T, come func() net.Conn) {
		if code := ask(t, come(), "X: "+strings.Repeat("x", 1<<20)+"\r\n"); code != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("answered with %d", code)
		}
		if code := ask(t, come(), "X: "+strings.Repeat("x", 1<<10)+"\r\n"); code != http.StatusOK {
			t.Errorf("the next client is answered with %d", code)
		}
	})
}

// Each client has a descriptor of the relay's.
func TestClientsBeyondTheLimitWaitForOneToGo(t *testing.T) {
	besieged(t, func(t *testing.T, come func() net.Conn) {
		first := come()
		for range maxConnections - 1 {
			come()
		}
		late := make(chan net.Conn, 1)
		go func() { late <- come() }()
		synctest.Wait()
		select {
		case <-late:
			t.Fatal("one more was let in")
		default:
		}
		_ = first.Close()
		if code := ask(t, <-late, ""); code != http.StatusOK {
			t.Errorf("answered with %d", code)
		}
	})
}
