package sink

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// remembering makes brokers tell what they remember for how long; an empty text is not told.
func (c *cluster) remembering(code int16, producer, transactional string) {
	c.ControlKey(kmsg.DescribeConfigs.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		asked := req.(*kmsg.DescribeConfigsRequest).Resources[0]
		res := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		told := kmsg.DescribeConfigsResponseResource{ErrorCode: code, ResourceType: asked.ResourceType, ResourceName: asked.ResourceName}
		for name, value := range map[string]string{producerExpiry: producer, transactionalExpiry: transactional} {
			if value != "" {
				told.Configs = append(told.Configs, kmsg.DescribeConfigsResponseResourceConfig{Name: name, Value: &value})
			}
		}
		res.Resources = append(res.Resources, told)
		return res, nil, true
	})
}

func TestBrokersTellHowLongTheyRemember(t *testing.T) {
	const day = 24 * time.Hour
	for name, tc := range map[string]struct {
		code                    int16
		producer, transactional string
		want                    expiry
		stamps                  time.Duration // MaxTimestampAge
		assumed                 bool
	}{
		"defaults":             {0, "86400000", "604800000", expiry{day, 7 * day}, time.Hour, false},
		"a short memory":       {0, "120000", "604800000", expiry{2 * time.Minute, 7 * day}, 30 * time.Second, false},
		"a longer one":         {0, "864000000", "864000000", expiry{10 * day, 10 * day}, time.Hour, false},
		"only one is told":     {0, "", "60000", expiry{day, time.Minute}, time.Hour, true},
		"the right is missing": {31, "", "", expiry{day, 7 * day}, time.Hour, true},
	} {
		c := newCluster(t, kfake.SeedTopics(1, "a"))
		c.remembering(tc.code, tc.producer, tc.transactional)
		for delivery, set := range map[string]func(*Config){"exactly once": exactlyOnce(newMemory()), "at least once": func(*Config) {}} {
			s := newSession(t, c, set)
			if s.expiry != tc.want {
				t.Errorf("%s, %s: %s, not %s", name, delivery, s.expiry, tc.want)
			}
			if s.cfg.MaxTimestampAge != tc.stamps || s.router.MaxTimestampAge != tc.stamps {
				t.Errorf("%s, %s: stamps get %s old, those of the router %s; not %s", name, delivery, s.cfg.MaxTimestampAge, s.router.MaxTimestampAge, tc.stamps)
			}
			if said := s.logs.with("defaults are assumed"); (len(said) == 1) != tc.assumed {
				t.Errorf("%s, %s: the log says %q", name, delivery, said)
			}
		}
	}
}

// A broker that has just come up may not have heard of the others yet, nor of itself.
func TestBrokerThatKnowsOfNoneIsAskedAgain(t *testing.T) {
	c := newCluster(t, kfake.SeedTopics(1, "a"))
	for delivery, set := range map[string]func(*Config){"exactly once": exactlyOnce(newMemory()), "at least once": func(*Config) {}} {
		asked := c.answerFirst(kmsg.Metadata, 2, func(req kmsg.Request) kmsg.Response {
			return req.ResponseKind().(*kmsg.MetadataResponse)
		})
		if s := newSession(t, c, set); s.expiry != defaultExpiry || s.clusterID == "" || asked.Load() < 3 {
			t.Errorf("%s: %s, of cluster %q, after %d answers", delivery, s.expiry, s.clusterID, asked.Load())
		}
	}
}

func TestRenewalGoesOnWithoutAForbiddenTopic(t *testing.T) {
	c, m := newCluster(t, kfake.SeedTopics(1, "a", "b")), newMemory()
	m.register("a", 0, 0, false)
	m.register("b", 0, 0, false)
	s := newSession(t, c, exactlyOnce(m), func(cfg *Config) { cfg.RenewInterval = 20 * time.Millisecond })
	refused := c.forbid("b")
	s.run()
	// That b is tried each time keeps it from being forgotten once it is allowed again.
	s.until("a is renewed, and b was tried three times", func() bool { return s.fence.notes[place{"a", 0}] > 0 && refused.Load() >= 3 })
	s.end()
	if len(s.fence.without) != 0 {
		t.Errorf("%v will not be renewed any more", s.fence.without)
	}
}

// Whether its transaction is let in or not: where it leaves no marker, a leader forgets.
func TestLeaderThatCannotRenewEndsItsSession(t *testing.T) {
	for name, tc := range map[string]struct {
		key    kmsg.Key
		answer func(kmsg.Request) kmsg.Response
	}{
		"no transaction": {kmsg.AddPartitionsToTxn, addAnswer(always(51))},
		"no marker":      {kmsg.EndTxn, endAnswer(0)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, m := newFenced(t)
			c.remembering(0, "1000", "604800000")
			s := newSession(t, c, exactlyOnce(m))
			c.answerFirst(tc.key, 1<<30, tc.answer)
			began := time.Now()
			s.run()
			err := s.fails()
			if took := time.Since(began); took < 400*time.Millisecond || !strings.Contains(err.Error(), "for 500ms the transaction") {
				t.Errorf("after %s it ended with %v", took, err)
			}
		})
	}
}

// EndTxn is answered before the markers are written, and a partition without a leader at that moment may never get its own: its
// leader would go on to forget this producer.
func TestRenewalIsRepeatedUntilEachMarkerIsRead(t *testing.T) {
	c, m := newCluster(t, kfake.SeedTopics(1, "a", "b")), newMemory()
	m.register("a", 0, 0, false)
	m.register("b", 0, 0, false)
	s := newSession(t, c, exactlyOnce(m))
	s.fence.patience = 0
	var named []string
	ended := c.answerFirst(kmsg.EndTxn, 2, func(req kmsg.Request) kmsg.Response {
		named = append(named, s.Trouble())
		return endAnswer(0)(req)
	})
	began := time.Now()
	if err := s.fence.renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := ended.Load(); n != 3 {
		t.Errorf("%d transactions were ended, not 3", n)
	}
	for at, p := range s.fence.registered {
		if _, noted := s.fence.notes[at]; p.reminded.Before(began) || !noted {
			t.Errorf("%v: reminded at %s, noted: %v", at, p.reminded, noted)
		}
	}
	if len(named) != 2 || !strings.Contains(named[1], "has had no marker of ours") || s.Trouble() != "" {
		t.Errorf("the trouble was %q, and is %q", named, s.Trouble())
	}
}

func TestMarkerOrAckRemindsALeader(t *testing.T) {
	s := newIdle(t, 4, exactlyOnce(newMemory()))
	began := time.Now()
	var all []*scanned
	for p := range int32(4) {
		all = append(all, &scanned{Registration: Registration{Topic: "a", Partition: p}, marker: 0})
	}
	all[0].reminded = began.Add(time.Second)
	s.topics["a"].queues[1].ackedAt = began.Add(time.Second)
	all[2].reminded, s.topics["a"].queues[2].ackedAt = began.Add(-time.Second), began.Add(-time.Second)
	if left := s.fence.unreminded(all, began); len(left) != 2 || left[0] != all[2] || left[1] != all[3] {
		t.Errorf("%d partitions are left", len(left))
	}
}

// Records of an idle partition are taken by retention some day; a restart must not miss them then.
func TestRenewalLetsIdlePartitionsBeScannedFromItsMarkerOn(t *testing.T) {
	c, m := newFenced(t)
	s := startSession(t, c, exactlyOnce(m), func(cfg *Config) { cfg.RenewInterval = 20 * time.Millisecond })
	noted := func() int64 {
		offset, ok := s.fence.notes[place{"a", 0}]
		if !ok {
			return -1
		}
		return offset
	}
	s.append("a", 0, 10)
	var marker int64
	s.until("a marker lies behind the record", func() bool {
		if n := s.fence.registered[place{"a", 0}].note; n != nil && s.records == 0 {
			marker = n.offset
		}
		return marker > 1
	})
	s.mu.Lock()
	if n := noted(); n > 1 { // the record is at 1, after the marker of the start
		t.Errorf("%d is noted though the event before it is not stored", n)
	}
	s.mu.Unlock()
	s.Stored(s.next)
	s.until("a marker is noted", func() bool { return noted() >= marker })
	at := noted()
	if _, err := s.fence.writeNotes(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.end()
	if r, _ := m.at("a", 0); r.ScanFrom < at || !r.Owned {
		t.Errorf("a restart begins at %+v, not at %d", r, at)
	}
	if err := c.DeleteRecords("a", 0, at); err != nil {
		t.Fatal(err)
	}
	if _, err := tryStart(t, c, exactlyOnce(m)); err != nil {
		t.Errorf("after retention: %v", err)
	}
}

// While events that Kafka holds have not been met again, a marker says nothing of what lies before it.
func TestRenewalMovesNothingWhileTheTailIsNotMet(t *testing.T) {
	c, m := newFenced(t)
	s := startSession(t, c, exactlyOnce(m))
	s.append("a", 0, 10)
	s.drain()
	s.end()
	s = startSession(t, c, exactlyOnce(m), func(cfg *Config) { cfg.RenewInterval = 20 * time.Millisecond })
	ended := c.answerFirst(kmsg.EndTxn, 0, nil)
	s.until("it is renewed three times", func() bool { return ended.Load() >= 4 })
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.fence.registered[place{"a", 0}].note; s.tail == nil || n != nil || len(s.fence.notes) > 0 {
		t.Errorf("noted %v and %v with the tail %v", n, s.fence.notes, s.tail)
	}
}
