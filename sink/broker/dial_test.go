package broker

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/sasl"
)

func TestHighestCommonVersionIsSpoken(t *testing.T) {
	addr := listen(t, nil, func(p played) { p.greet(); p.gone() })
	c := dial(t, addr, Config{})
	if c.Addr() != addr {
		t.Errorf("address %s", c.Addr())
	}
	for key, want := range map[protocol.ApiKey]int16{protocol.Produce: 8, protocol.Metadata: 8} {
		if got, ok := c.Version(key); !ok || got != want {
			t.Errorf("%s v%d, %t; want v%d", key, got, ok, want)
		}
	}
	if _, ok := c.Version(protocol.Fetch); ok {
		t.Error("an API that the broker does not offer has a version")
	}
	if !c.RetireAt().IsZero() {
		t.Error("a connection without a session lifetime is to be replaced")
	}
}

func TestVersionsThatDoNotOverlapAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		least, most int16
		says        string
	}{
		"broker too new": {9, 13, "Metadata v9 to v13, this program v0 to v8"},
		"broker absurd":  {-3, -1, "Metadata v-3 to v-1, this program v0 to v8"},
	} {
		t.Run(name, func(t *testing.T) {
			addr := listen(t, nil, func(p played) {
				r, _ := p.next()
				p.answer(r, &apiversions.Response{ApiKeys: []apiversions.ApiKeyResponse{
					{ApiKey: int16(protocol.Metadata), MinVersion: c.least, MaxVersion: c.most},
				}})
				p.gone()
			})
			err := dialError(t, addr, Config{})
			wantError(t, err, KindVersion, addr, c.says)
			if !IsPermanent(err) {
				t.Error("trying again is no use")
			}
		})
	}
}

// A broker that does not know our version of ApiVersions refuses it in the form of version 0, which is shorter.
func TestOldBrokerIsAskedAgainInItsOwnVersion(t *testing.T) {
	asked := make(chan int16, 2)
	addr := listen(t, nil, func(p played) {
		for {
			r, ok := p.next()
			if !ok {
				return
			}
			asked <- r.version
			if r.version > 0 {
				r.version = 0
				p.answer(r, &apiversions.Response{ErrorCode: unsupportedVersion})
				continue
			}
			p.answer(r, &apiversions.Response{ApiKeys: offered})
		}
	})
	c := dial(t, addr, Config{})
	if first, second := <-asked, <-asked; first != 2 || second != 0 {
		t.Errorf("asked in v%d, then v%d", first, second)
	}
	if v, _ := c.Version(protocol.Produce); v != 8 {
		t.Errorf("Produce v%d", v)
	}
}

func TestUnreachableBrokerIsCalledThat(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	err = dialError(t, l.Addr().String(), Config{})
	wantError(t, err, KindUnreachable, l.Addr().String(), "refused")
	if IsPermanent(err) {
		t.Error("a broker that is down comes back")
	}
	wantError(t, dialError(t, "broker", Config{}), KindSettings, "missing port")
}

// silent lists peers that stop answering at some step of a dial.
var silent = map[string]struct {
	cfg  Config
	play func(p played)
	says string
}{
	"before ApiVersions": {Config{}, func(p played) { p.gone() }, "ApiVersions"},
	"in TLS":             {Config{TLS: TLS{}.Config}, func(p played) { p.gone() }, "plaintext listener?"},
	"before SASL":        {Config{SASL: asAlice}, func(p played) { p.greet(); p.gone() }, "SASL PLAIN"},
	"inside SASL":        {Config{SASL: asAlice}, func(p played) { p.greet(); p.acceptMechanism(); p.gone() }, "SASL PLAIN"},
}

func asAlice() (sasl.Mechanism, error) { return Mechanism("plain", "alice", "secret") }

func TestDialTimesOutAtEveryStep(t *testing.T) {
	for name, c := range silent {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.cfg.Timeout = 50 * time.Millisecond
			wantError(t, dialError(t, listen(t, nil, c.play), c.cfg), KindTimeout, c.says)
		})
	}
}

func TestDialEndsWithItsContextAtEveryStep(t *testing.T) {
	for name, c := range silent {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(10*time.Millisecond, cancel)
			c.cfg.Timeout = time.Hour
			conn, err := Dial(ctx, listen(t, nil, c.play), &c.cfg)
			if conn != nil || !errors.Is(err, context.Canceled) {
				t.Errorf("%v, %v", conn, err)
			}
		})
	}
}

// The context of a dial is not that of the connection.
func TestConnectionOutlivesTheContextOfItsDial(t *testing.T) {
	_, addr := kafka(t)
	ctx, cancel := context.WithCancel(t.Context())
	c, err := Dial(ctx, addr, &Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	cancel()
	if _, err := c.Do(t.Context(), topics("t")); err != nil {
		t.Error(err)
	}
}

func TestBrokerThatHangsUpIsLost(t *testing.T) {
	wantError(t, dialError(t, listen(t, nil, func(p played) { p.next() }), Config{}), KindLost, "want TLS?")
	wantError(t, dialError(t, listen(t, nil, func(p played) { p.greet(); p.next() }), Config{SASL: asAlice}), KindLost)
}

// Brokers close connections that were idle for long (connections.max.idle.ms); that is no sign of wrong settings.
func TestIdleConnectionThatIsClosedGetsNoAdvice(t *testing.T) {
	c := dial(t, listen(t, nil, func(p played) { p.greet() }), Config{})
	await(t, "end", c.Done())
	wantError(t, c.Err(), KindLost, "closed the connection")
	if strings.Contains(c.Err().Error(), "SASL") {
		t.Error(c.Err())
	}
}

func TestListenerOfAnotherProtocolIsGarbled(t *testing.T) {
	addr := listen(t, nil, func(p played) {
		p.next()
		_, _ = p.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	})
	wantError(t, dialError(t, addr, Config{}), KindGarbled, "is this a Kafka listener?")
}
