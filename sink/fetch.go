package sink

import (
	"context"
	"fmt"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/segmentio/kafka-go/protocol/listoffsets"

	"github.com/outrider-relay/outrider/sink/broker"
)

// readFrom reads one leader's partitions. Errors of the connection end its round only: the next one asks again who leads.
func (s *scan) readFrom(ctx context.Context, addr string, parts []*scanned, found chan<- batchFound) error {
	conn, err := broker.Dial(ctx, addr, &s.k.cfg.Conn)
	if err != nil {
		return ctx.Err()
	}
	defer func() { _ = conn.Close() }()
	byName := make(map[string]map[int32]*scanned)
	for _, p := range parts {
		if byName[p.Topic] == nil {
			byName[p.Topic] = make(map[int32]*scanned)
		}
		byName[p.Topic][p.Partition] = p
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
		answer, err := conn.Do(ctx, req)
		if err != nil {
			return ctx.Err()
		}
		for _, t := range answer.(*fetch.Response).Topics {
			for i := range t.Partitions {
				a := &t.Partitions[i]
				p := byName[t.Topic][a.Partition]
				if p == nil {
					continue
				}
				if err := s.answer(ctx, conn, p, a, found); err != nil {
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
			Partition: p.Partition, CurrentLeaderEpoch: -1, FetchOffset: p.next, LogStartOffset: -1, PartitionMaxBytes: fetchPartitionBytes,
		})
	}
	if len(req.Topics) == 0 {
		return nil
	}
	return req
}

// answer takes what a leader sent of one partition.
func (s *scan) answer(ctx context.Context, conn *broker.Conn, p *scanned, a *fetch.ResponsePartition, found chan<- batchFound) error {
	switch {
	case a.ErrorCode == codeOffsetOutOfRange:
		return s.outOfRange(ctx, conn, p)
	case a.ErrorCode != 0:
		p.end = true // who leads by now is asked in the next round
		return nil
	}
	stream, ok := a.RecordSet.Records.(*protocol.RecordStream)
	if !ok || len(stream.Records) == 0 {
		p.whole = p.next >= a.HighWatermark
		p.end = p.whole
		return nil
	}
	for _, records := range stream.Records {
		b := batchFound{partition: p, records: records, taken: make(chan error, 1)}
		select {
		case found <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := <-b.taken; err != nil || p.marker >= 0 {
			return err
		}
	}
	return nil
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
	return lostData(p.Registration, fmt.Sprintf("its log ends at offset %d, below %d, where this relay had written", last, p.next))
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
