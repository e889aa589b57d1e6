package test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outrider-relay/outrider/test/harness"
)

// mute is a Postgres connection on which a stream begins and brings nothing.
type mute struct{ rest []byte }

func (m *mute) Request(piece []byte) ([]byte, error) { return piece, nil }

// Answer leaves out CopyData (PostgreSQL docs, "Message Formats").
func (m *mute) Answer(piece []byte) (passes []byte, _ error) {
	m.rest = append(m.rest, piece...)
	for len(m.rest) >= 5 {
		size := 1 + int(binary.BigEndian.Uint32(m.rest[1:]))
		if len(m.rest) < size {
			break
		}
		if m.rest[0] != 'd' {
			passes = append(passes, m.rest[:size]...)
		}
		m.rest = m.rest[size:]
	}
	return passes, nil
}

// A stop before the stream has brought again what Kafka holds leaves Kafka with more than the checkpoint says: a hole in a log may
// have been a hole in that.
func TestStopBeforeTheTailIsMetIsNotClean(t *testing.T) {
	pg, kafka := sharedPostgres(t), sharedKafka(t)
	s := newStage(t, pg)
	kafka.CreateTopic(t, s.topic("a"), 1, 1, nil)
	relay := s.startRelaying(t, kafka.Brokers(), unsaved)
	s.insertN(t, "a", 100)
	awaitIDs(t, kafka.Brokers(), 100, false, s.topic("a"))
	relay.Kill()

	proxy := harness.NewProxy(t, pg.Addr())
	proxy.SetFilter(func() harness.Filter { return &mute{} })
	direct := s.url
	s.url = strings.Replace(direct, pg.Addr(), proxy.Addr(), 1)
	relay = s.startRelaying(t, kafka.Brokers(), unsaved)
	if code := relay.Stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	s.url = direct
	var clean bool
	queryRow(t, s.conn, `select clean from outrider.checkpoint where name = $1`, []any{s.name}, &clean)
	if clean {
		t.Error("the stop passes for a clean one")
	}
	var cut kadm.Offsets
	cut.Add(kadm.Offset{Topic: s.topic("a"), Partition: 0, At: 40})
	if res, err := harness.Admin(t, kafka.Brokers()).DeleteRecords(t.Context(), cut); err != nil || res.Error() != nil {
		t.Fatalf("delete records: %v, %v", err, res.Error())
	}
	awaitVerdict(t, s.start(t, kafka.Brokers(), unsaved), "tail incomplete")
}
