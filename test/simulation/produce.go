package simulation

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// produce appends batches, and tells of it as the weather lets it.
func (b *brokerConn) produce(req *kmsg.ProduceRequest) kmsg.Response {
	w := b.k.weather
	if b.k.chance(w.lostRequest) {
		return nil
	}
	answer := req.ResponseKind().(*kmsg.ProduceResponse)
	for _, asked := range req.Topics {
		t := kmsg.ProduceResponseTopic{Topic: asked.Topic}
		for _, a := range asked.Partitions {
			code, offset := b.append(place{asked.Topic, a.Partition}, a.Records)
			t.Partitions = append(t.Partitions, kmsg.ProduceResponseTopicPartition{
				Partition: a.Partition, ErrorCode: code, BaseOffset: offset, LogAppendTime: -1,
			})
		}
		answer.Topics = append(answer.Topics, t)
	}
	if b.k.chance(w.lostAnswer) {
		return nil
	}
	return answer
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
	end := p.end
	code, offset = p.append(read, time.Now(), b.k.expiration)
	if code != none {
		return code, -1
	}
	if p.end > end {
		b.k.took(p, p.batches[len(p.batches)-1])
	}
	switch {
	case b.k.chance(w.notEnoughLate):
		return notEnoughReplicasAfter, -1
	case b.k.chance(w.timedOut):
		return requestTimedOut, -1
	}
	return none, offset
}

// fetchPoll is how often a fetch that waits looks again.
const fetchPoll = 5 * time.Millisecond

// fetch answers with what is there, and waits a little where nothing is.
func (b *brokerConn) fetch(req *kmsg.FetchRequest) kmsg.Response {
	until := time.Now().Add(time.Duration(req.MaxWaitMillis) * time.Millisecond)
	for {
		answer, something := b.read(req)
		if answer == nil {
			return nil
		}
		if something || !time.Now().Before(until) {
			return answer
		}
		time.Sleep(fetchPoll)
	}
}

func (b *brokerConn) read(req *kmsg.FetchRequest) (_ kmsg.Response, something bool) {
	b.k.mu.Lock()
	defer b.k.mu.Unlock()
	if !b.k.up[b.id] {
		return nil, false
	}
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
	return answer, something
}
