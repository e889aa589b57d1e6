package sink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/segmentio/kafka-go/protocol/listoffsets"

	"github.com/outrider-relay/outrider/sink/broker"
)

// readFrom reads one leader's partitions. Errors of the connection end its round only: the next one asks again who leads.
func (s *scan) readFrom(ctx context.Context, addr string, parts []*scanned) error {
	conn, err := broker.Dial(ctx, addr, &s.k.cfg.Conn)
	if err != nil {
		return ctx.Err()
	}
	defer func() { _ = conn.Close() }()
	byPlace := make(map[place]*scanned)
	for _, p := range parts {
		byPlace[place{p.Topic, p.Partition}] = p
	}
	for _, p := range parts {
		if p.next >= 0 {
			continue
		}
		if p.next, err = offsetOf(ctx, conn, p.Topic, p.Partition, -1); err != nil {
			p.next, p.end = -1, true
		}
	}
	for {
		req := fetchRequest(parts)
		if req == nil {
			return nil
		}
		answers, err := fetchFrom(ctx, conn, req)
		switch {
		case errors.Is(err, errUnread):
			return err
		case err != nil:
			return ctx.Err()
		}
		for i := range answers {
			if p := byPlace[answers[i].place]; p != nil {
				if err := s.answer(ctx, conn, p, &answers[i]); err != nil {
					return err
				}
			}
		}
	}
}

// fetchRequest asks for what is left to read; nil when nothing is.
func fetchRequest(parts []*scanned) *fetch.Request {
	req := &fetch.Request{ReplicaID: -1, MaxWaitTime: int32(fetchWait.Milliseconds()), MinBytes: 1, MaxBytes: fetchBytes, SessionEpoch: -1}
	index := make(map[string]int)
	for _, p := range parts {
		if p.end || p.marker >= 0 {
			continue
		}
		i, known := index[p.Topic]
		if !known {
			i = len(req.Topics)
			index[p.Topic] = i
			req.Topics = append(req.Topics, fetch.RequestTopic{Topic: p.Topic})
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, fetch.RequestPartition{
			Partition: p.Partition, CurrentLeaderEpoch: -1, FetchOffset: p.next, LogStartOffset: -1, PartitionMaxBytes: fetchBytes,
		})
	}
	if len(req.Topics) == 0 {
		return nil
	}
	return req
}

// answer takes what a leader sent of one partition.
func (s *scan) answer(ctx context.Context, conn *broker.Conn, p *scanned, a *fetched) error {
	switch {
	case a.code == codeOffsetOutOfRange:
		return s.outOfRange(ctx, conn, p)
	case a.code != 0:
		p.end, p.barred = true, a.code == codeTopicForbidden // who leads by now is asked in the next round
		return nil
	}
	some, err := s.takeAll(p, a.records)
	if err == nil && !some {
		p.whole = p.next >= a.highWatermark
		p.end = p.whole
	}
	return err
}

// errUnread is an answer that makes no sense: to ask again is no use, as it is where a connection ends.
var errUnread = errors.New("the answer to Fetch cannot be read")

var errCut = fmt.Errorf("%w: it ends before its last field", errUnread)

// fetched is what a Fetch brings of one partition.
type fetched struct {
	place         place
	code          int16
	highWatermark int64
	records       []byte // a record set, as record.Next reads it
}

// The versions of Fetch that fetchFrom reads: the first has the current record format, the next after the last has tagged
// fields, and kafka-go does not ask in it.
const firstFetch, lastFetch = 4, 11

// fetchFrom sends req and reads the answer in place: kafka-go would take a page of 64 KiB for each batch in it.
func fetchFrom(ctx context.Context, conn *broker.Conn, req *fetch.Request) ([]fetched, error) {
	raw, err := conn.DoRaw(ctx, req)
	if err != nil {
		return nil, err
	}
	all, err := readFetch(raw.Version, raw.Body)
	if err != nil {
		return nil, fmt.Errorf("fetch from %s: %w", conn.Addr(), err)
	}
	return all, nil
}

// readFetch reads the body of an answer (Kafka protocol guide, "Fetch API"). It trusts no byte of it.
func readFetch(version int16, body []byte) ([]fetched, error) {
	if version < firstFetch || version > lastFetch {
		return nil, fmt.Errorf("%w: it is of version %d, not of %d to %d", errUnread, version, firstFetch, lastFetch)
	}
	in := answerReader{rest: body}
	in.int32() // throttle time
	if version >= 7 {
		if code := in.int16(); code != 0 {
			return nil, &answerError{code: code}
		}
		in.int32() // session
	}
	var all []fetched
	for topics := in.int32(); topics > 0 && !in.failed; topics-- {
		topic := string(in.bytes(int64(in.int16())))
		for partitions := in.int32(); partitions > 0 && !in.failed; partitions-- {
			a := fetched{place: place{topic, in.int32()}, code: in.int16(), highWatermark: in.int64()}
			in.int64() // last stable offset
			if version >= 5 {
				in.int64() // log start offset
			}
			if aborted := in.int32(); aborted > 0 {
				in.bytes(16 * int64(aborted))
			}
			if version >= 11 {
				in.int32() // preferred read replica
			}
			a.records = in.bytes(max(0, int64(in.int32()))) // -1 is none
			if in.failed {
				return nil, errCut
			}
			all = append(all, a)
		}
	}
	if in.failed {
		return nil, errCut
	}
	return all, nil
}

// answerReader takes fields off an answer. From where it ends too early it yields zeros.
type answerReader struct {
	rest   []byte
	failed bool
}

func (r *answerReader) bytes(n int64) []byte {
	if n < 0 || n > int64(len(r.rest)) {
		r.rest, r.failed = nil, true
		return nil
	}
	field := r.rest[:n:n]
	r.rest = r.rest[n:]
	return field
}

func (r *answerReader) int16() int16 {
	if b := r.bytes(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *answerReader) int32() int32 {
	if b := r.bytes(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (r *answerReader) int64() int64 {
	if b := r.bytes(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// outOfRange tells a log that was cut at its front, or lost its end, from one that is as it was.
func (s *scan) outOfRange(ctx context.Context, conn *broker.Conn, p *scanned) error {
	const earliest, latest = -2, -1
	first, err := offsetOf(ctx, conn, p.Topic, p.Partition, earliest)
	if err != nil {
		p.end = true
		return ctx.Err()
	}
	if first > p.next {
		return s.incomplete(p, first)
	}
	last, err := offsetOf(ctx, conn, p.Topic, p.Partition, latest)
	if err != nil || last >= p.next {
		p.end = true
		return ctx.Err()
	}
	// A leader that was deposed, and has not heard of it, has less of the log than the one that is. Which of both this is, our marker tells.
	p.ended, p.next = max(p.ended, p.next), last
	return nil
}

// offsetOf asks a leader for an offset of one of its partitions: -2 is the earliest, -1 the latest.
func offsetOf(ctx context.Context, conn *broker.Conn, topic string, partition int32, which int64) (int64, error) {
	answer, err := conn.Do(ctx, &listoffsets.Request{ReplicaID: -1, Topics: []listoffsets.RequestTopic{{
		Topic: topic, Partitions: []listoffsets.RequestPartition{{Partition: partition, CurrentLeaderEpoch: -1, Timestamp: which}},
	}}})
	if err != nil {
		return 0, err
	}
	topics := answer.(*listoffsets.Response).Topics
	if len(topics) != 1 || len(topics[0].Partitions) != 1 {
		return 0, errUnanswered
	}
	p := topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		return 0, &answerError{code: p.ErrorCode}
	}
	return p.Offset, nil
}
