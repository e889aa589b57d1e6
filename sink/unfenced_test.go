package sink

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/outrider-relay/outrider/sink/broker"
)

// asked counts requests of a kind.
func (c *cluster) asked(key kmsg.Key) func() int {
	n := c.answerFirst(key, 0, nil)
	return func() int { return int(n.Load()) }
}

// refreshes waits for n more answers to Metadata.
func (s *session) refreshes(asked func() int, n int) {
	s.t.Helper()
	for last := asked() + n; asked() <= last; { // the last one that was asked is answered
		from := asked()
		s.askRefresh()
		s.until("metadata are asked for", func() bool { return asked() > from })
	}
}

// What the session before has left in a topic that could not be read may be there already: given up, its rows would be there and
// among the dead letters, or be said not to be there.
func TestRowsForATopicThatCouldNotBeReadAreNotGivenUp(t *testing.T) {
	const wait = 20 * time.Millisecond
	for _, policy := range []Policy{Skip, DeadLetter} {
		for name, tc := range map[string]struct {
			topic    string
			scanFrom int64
			clean    bool
			givenUp  bool
		}{
			"missing":                                 {topic: "gone"},
			"forbidden":                               {topic: "b"},
			"missing after a clean stop":              {topic: "gone", clean: true, givenUp: true},
			"forbidden after a clean stop":            {topic: "b", clean: true, givenUp: true},
			"missing, and does not count, as decided": {topic: "gone", scanFrom: forgotten, givenUp: true},
			"never written":                           {topic: "new", givenUp: true},
		} {
			t.Run(string(policy)+", "+name, func(t *testing.T) {
				t.Parallel()
				c, m := newCluster(t, kfake.SeedTopics(1, "a", "b", letters)), newMemory()
				m.complete = tc.clean
				m.register("a", 0, 0, false)
				if tc.topic != "new" {
					m.register(tc.topic, 0, tc.scanFrom, false)
				}
				c.forbid("b")
				c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "b", Err: kerr.TopicAuthorizationFailed, Count: -1})
				asked := c.asked(kmsg.Metadata)
				s := startSession(t, c, exactlyOnce(m), func(cfg *Config) { cfg.OnPoison, cfg.Topics.Wait = policy, wait })
				s.append(tc.topic, 0, 10)
				s.append("a", 0, 10)
				if tc.givenUp {
					s.drain()
					return
				}
				s.until("the other topic's row is acked, and the time is over", func() bool {
					other := s.topics[tc.topic]
					return s.records == 1 && !other.trouble.IsZero() && time.Since(other.trouble) > 2*wait
				})
				s.refreshes(asked, 3)
				if n, records := s.cfg.Stats.Poison(), len(c.read(letters)[0]); n != 0 || records != 0 {
					t.Errorf("%d rows are given up, %d are dead letters", n, records)
				}
				if trouble := s.Trouble(); tc.topic == "gone" && !strings.Contains(trouble, "whatever outbox.on_poison says") {
					t.Errorf("the trouble is %q", trouble)
				}
			})
		}
	}
}

// A decision is taken once: the next session must not find what was left in a topic that was out of reach when it was taken.
func TestThatNothingCountsIsKeptForATopicOutOfReach(t *testing.T) {
	c, m := newCluster(t, kfake.SeedTopics(1, "a")), newMemory()
	m.register("gone", 0, 5, true)
	m.forget = true
	if _, err := tryStart(t, c, exactlyOnce(m)); err != nil {
		t.Fatal(err)
	}
	if r, _ := m.at("gone", 0); r.ScanFrom != forgotten || r.Owned {
		t.Errorf("the next session begins to scan it at %+v", r)
	}
}

// authorized is a cluster that lets the user relay do only what it has been granted.
type authorized struct {
	*cluster
	admin *kadm.Client
}

func newAuthorized(t *testing.T, topics ...string) *authorized {
	t.Helper()
	const password = "secret"
	id := func(op kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kmsg.ACLResourceTypeTransactionalId, Name: transactionalID("test"), Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: op, Allow: true}
	}
	c := newCluster(t, kfake.SeedTopics(1, topics...), kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", password),
		kfake.User("PLAIN", "relay", password, id(kmsg.ACLOperationWrite), id(kmsg.ACLOperationDescribe)))
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.SASL(plain.Auth{User: "admin", Pass: password}.AsMechanism()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &authorized{c, kadm.NewClient(client)}
}

// login makes a session the user relay's.
func (c *authorized) login(cfg *Config) {
	cfg.Conn.SASL = func() (broker.SASL, error) { return broker.Mechanism("plain", "relay", "secret") }
}

func (c *authorized) grant(topic string, operations ...kadm.ACLOperation) {
	c.t.Helper()
	b := kadm.NewACLs().Allow("User:relay").AllowHosts("*").ResourcePatternType(kadm.ACLPatternLiteral).Topics(topic).Operations(operations...)
	if res, err := c.admin.CreateACLs(c.t.Context(), b); err != nil || res[0].Err != nil {
		c.t.Fatal(err, res)
	}
}

// To write a topic and to read it are two rights, and with either of them it is described as if nothing were wrong. Without one of
// them it is left out, once, and its return is not believed before it is granted.
func TestTopicThatLacksARightIsLeftOutUntilThatIsGranted(t *testing.T) {
	for missing, left := range map[kadm.ACLOperation]kadm.ACLOperation{kadm.OpRead: kadm.OpWrite, kadm.OpWrite: kadm.OpRead} {
		t.Run(fmt.Sprint(missing), func(t *testing.T) {
			t.Parallel()
			c, m := newAuthorized(t, "a", "b"), newMemory()
			c.grant("a", kadm.OpRead, kadm.OpWrite)
			c.grant("b", left)
			m.register("a", 0, 0, false)
			m.register("b", 0, 0, false)
			if missing == kadm.OpWrite {
				c.forbid("b")
			}
			asked, ended := c.asked(kmsg.Metadata), c.asked(kmsg.EndTxn)
			s := startSession(t, c.cluster, c.login, exactlyOnce(m))
			if trouble := s.Trouble(); !strings.Contains(trouble, "b (TOPIC_AUTHORIZATION_FAILED)") {
				t.Errorf("trouble %q", trouble)
			}
			if n := ended(); n != 1 {
				t.Errorf("the fence took %d transactions", n)
			}
			s.append("b", 0, 10)
			s.append("a", 0, 10)
			s.until("the other topic's row is acked, and the right is named", func() bool {
				return s.records == 1 && strings.Contains(s.troubles.bySubject["topic b"].what, "READ, WRITE and DESCRIBE")
			})
			s.refreshes(asked, 3)
			s.goesOn()
			c.grant("b", missing)
			s.askRefresh()
			if err := s.fails(); !strings.Contains(err.Error(), "topic b is back") {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}

// Whether rows are for it or not: what was left in it counts.
func TestReturnOfATopicEndsTheSession(t *testing.T) {
	c, m := newFenced(t)
	m.register("gone", 0, 5, true)
	s := startSession(t, c, exactlyOnce(m))
	if trouble := s.Trouble(); trouble != "" || len(s.logs.with(`"topics":["gone"]`)) != 1 {
		t.Errorf("a topic that nobody needs is the trouble %q, and the log says %q", trouble, s.logs.with("gone"))
	}
	if err := c.CreateTopic("gone", 1, nil); err != nil {
		t.Fatal(err)
	}
	s.askRefresh()
	if err := s.fails(); !strings.Contains(err.Error(), "topic gone is back") {
		t.Errorf("it ended with %v", err)
	}
}
