package simulation

import (
	"bytes"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// produce appends batches, and tells of it as the weather lets it.
func (b *brokerConn) produce(req *kmsg.ProduceRequest) kmsg.Response {
	w := b.k.weather
	b.k.reached(b.process, sending)
	if b.k.chance(w.lostRequest) {
		return nil
	}
	answer := req.ResponseKind().(*kmsg.ProduceResponse)
	if b.k.chance(w.throttled) {
		answer.ThrottleMillis = int32(b.k.rng.IntN(2000))
	}
	for _, asked := range req.Topics {
		t := kmsg.ProduceResponseTopic{Topic: asked.Topic}
		for _, a := range asked.Partitions {
			code, offset := b.append(place{asked.Topic, a.Partition}, a.Records)
			result := kmsg.ProduceResponseTopicPartition{Partition: a.Partition, ErrorCode: code, BaseOffset: offset, LogAppendTime: -1}
			if code == invalidRecord && b.k.names {
				result.ErrorRecords = blame(a.Records)
			}
			t.Partitions = append(t.Partitions, result)
		}
		answer.Topics = append(answer.Topics, t)
	}
	if b.k.chance(w.lostAnswer) {
		return nil
	}
	return answer
}

// poisonMark is the payload of a row that a broker's rules for records refuse.
const poisonMark = `{"poison": true}`

// deadLetters is the topic of those.
const deadLetters = "outrider.dead-letter"

// blame names the first record that is refused.
func blame(wire []byte) []kmsg.ProduceResponseTopicPartitionErrorRecord {
	b, _ := readBatch(wire)
	records, err := b.records()
	i := slices.IndexFunc(records, func(r kmsg.Record) bool { return string(r.Value) == poisonMark })
	if err != nil || i < 0 {
		return nil
	}
	return []kmsg.ProduceResponseTopicPartitionErrorRecord{{RelativeOffset: int32(i)}}
}

// append puts one batch into a partition's log.
func (b *brokerConn) append(at place, wire []byte) (code int16, offset int64) {
	w := b.k.weather
	p, code := b.led(at)
	if code != none {
		return code, -1
	}
	if b.k.chance(w.notEnough) {
		return notEnoughReplicas, -1
	}
	read, ok := readBatch(wire)
	if !ok {
		return corruptMessage, -1
	}
	if at.topic != deadLetters && bytes.Contains(wire, []byte(poisonMark)) {
		return invalidRecord, -1
	}
	end := p.end
	code, offset = p.append(read, time.Now(), b.k.expiration)
	if code != none {
		return code, -1
	}
	if p.end > end {
		b.k.took(p, p.batches[len(p.batches)-1])
		b.k.tell()
	}
	switch {
	case b.k.chance(w.notEnoughLate):
		return notEnoughReplicasAfter, -1
	case b.k.chance(w.timedOut):
		return requestTimedOut, -1
	}
	return none, offset
}

// fetch answers with what is there, and waits a little where nothing is.
func (b *brokerConn) fetch(req *kmsg.FetchRequest) kmsg.Response {
	patience := time.NewTimer(time.Duration(req.MaxWaitMillis) * time.Millisecond)
	defer patience.Stop()
	for waited := false; ; {
		answer, changed := b.read(req, waited)
		if changed == nil {
			return answer
		}
		select {
		case <-changed:
		case <-patience.C:
			waited = true
		}
		b.k.mu.Lock()
		b.k.waiting--
		b.k.mu.Unlock()
	}
}

// read gives what a fetch is to be answered with; or, unless that is to be had now, what tells when there may be something.
func (b *brokerConn) read(req *kmsg.FetchRequest, now bool) (_ kmsg.Response, changed <-chan struct{}) {
	b.k.mu.Lock()
	defer b.k.mu.Unlock()
	if !b.k.up[b.id] {
		return nil, nil
	}
	b.k.reached(b.process, scanning)
	something := now
	answer := req.ResponseKind().(*kmsg.FetchResponse)
	for _, asked := range req.Topics {
		t := kmsg.FetchResponseTopic{Topic: asked.Topic}
		for _, a := range asked.Partitions {
			p, code := b.led(place{asked.Topic, a.Partition})
			found := kmsg.FetchResponseTopicPartition{Partition: a.Partition, ErrorCode: code, HighWatermark: -1, LastStableOffset: -1, PreferredReadReplica: -1}
			if code == none {
				found.ErrorCode, found.RecordBatches = p.read(a.FetchOffset, int(a.PartitionMaxBytes))
				found.HighWatermark, found.LastStableOffset = p.end, p.end
			}
			something = something || found.ErrorCode != none || len(found.RecordBatches) > 0
			t.Partitions = append(t.Partitions, found)
		}
		answer.Topics = append(answer.Topics, t)
	}
	if !something {
		b.k.waiting++
		return nil, b.k.changed
	}
	return answer, nil
}
