package sink

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// closedPort is an address at which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func TestRehearsalFindsWhatWouldKeepASessionFromBeginning(t *testing.T) {
	dead := closedPort(t)
	for name, tc := range map[string]struct {
		change      func(*Config)
		forbidden   bool // the transactional id
		atLeastOnce bool
		says        string
		permanent   bool // trying again does not cure it
	}{
		"nothing":                              {},
		"one address that is dead":             {change: func(c *Config) { c.Brokers = append([]string{dead}, c.Brokers...) }},
		"no address that answers":              {change: func(c *Config) { c.Brokers = []string{dead} }, says: dead},
		"a template":                           {change: func(c *Config) { c.Routing.Topic = "${topic" }, says: "outbox.topic"},
		"a certificate that is not there":      {change: func(c *Config) { c.Conn.TLS = func() (*tls.Config, error) { return nil, errors.New("no cert.pem") } }, says: "no cert.pem", permanent: true},
		"the right to the transactional id":    {forbidden: true, says: "--transactional-id outrider.test", permanent: true},
		"that right, where it is of no matter": {forbidden: true, atLeastOnce: true},
	} {
		c := newCluster(t, kfake.NumBrokers(3), kfake.SeedTopics(1, "a"))
		if tc.forbidden {
			c.answerFirst(kmsg.FindCoordinator, 1<<30, func(req kmsg.Request) kmsg.Response {
				res := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
				res.ErrorCode = 53
				return res
			})
		}
		taken := c.answerFirst(kmsg.InitProducerID, 0, nil)
		cfg := Config{Name: "test", Brokers: c.ListenAddrs(), Routing: shardRouting}
		if tc.change != nil {
			tc.change(&cfg)
		}
		err := Rehearse(t.Context(), cfg, !tc.atLeastOnce)
		if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, not %q", name, err, tc.says)
		}
		var p interface{ Permanent() bool }
		if errors.As(err, &p) != tc.permanent {
			t.Errorf("%s: an error that trying again cures, or the other way round: %v", name, err)
		}
		if taken.Load() > 0 {
			t.Errorf("%s: it has taken a producer's place", name)
		}
	}
}
