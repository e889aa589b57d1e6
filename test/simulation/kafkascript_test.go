package simulation

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outrider-relay/outrider/test/harness"
)

// kafkaScript is what a producer and a coordinator are asked, one after another, with answers that a model has to give too.
// It runs on the model and on a real broker, and what it sees there has to be the same.
var kafkaScript = []struct {
	claim string
	do    func(c *kafkaClient) string
}{
	{"the coordinator of a transactional id", func(c *kafkaClient) string { return c.find() }},
	{"the first producer of a transactional id", func(c *kafkaClient) string { return c.init() }},
	{"its first batch", func(c *kafkaClient) string { return c.produce(0, 0, 3) }},
	{"a repeat is answered with the first offset", func(c *kafkaClient) string { return c.produce(0, 0, 3) }},
	{"the next batch", func(c *kafkaClient) string { return c.produce(0, 3, 2) }},
	{"a gap", func(c *kafkaClient) string { return c.produce(0, 10, 1) }},
	{"an overlap", func(c *kafkaClient) string { return c.produce(0, 4, 3) }},
	{"five more batches", func(c *kafkaClient) string {
		return c.produce(0, 5, 1) + ", " + c.produce(0, 6, 1) + ", " + c.produce(0, 7, 1) + ", " + c.produce(0, 8, 1) + ", " + c.produce(0, 9, 1)
	}},
	{"a repeat of the fifth batch from the end", func(c *kafkaClient) string { return c.produce(0, 5, 1) }},
	{"a repeat of an older one", func(c *kafkaClient) string { return c.produce(0, 3, 2) }},
	{"EndTxn without a transaction", func(c *kafkaClient) string { return c.end() }},
	{"a later session", func(c *kafkaClient) string { return c.init() }},
	{"InitProducerID alone stops nobody", func(c *kafkaClient) string { return c.with(0, func() string { return c.produce(0, 10, 1) }) }},
	{"but at the coordinator", func(c *kafkaClient) string {
		return c.with(0, func() string { return c.add(0) + ", " + c.end() })
	}},
	{"a topic that is unknown fails the others", func(c *kafkaClient) string { return c.add(0, -1) }},
	{"a transaction without data", func(c *kafkaClient) string { return c.add(0) + ", " + c.end() + ", " + c.awaitMarker(0) }},
	{"a second EndTxn", func(c *kafkaClient) string { return c.end() }},
	{"the marker stops the older epoch", func(c *kafkaClient) string { return c.with(0, func() string { return c.produce(0, 11, 1) }) }},
	{"an epoch that a marker has begun begins at 0", func(c *kafkaClient) string { return c.produce(0, 5, 1) + ", " + c.produce(0, 0, 2) }},
	{"a marker of the same epoch lets sequences go on", func(c *kafkaClient) string {
		return c.add(0) + ", " + c.produce(0, 2, 1) + ", " + c.end() + ", " + c.awaitMarker(0) + ", " + c.produce(0, 3, 1) + ", " + c.produce(0, 2, 1)
	}},
	{"a partition without memory takes any first sequence", func(c *kafkaClient) string { return c.produce(1, 77, 2) + ", " + c.produce(1, 90, 1) }},
	{"a newer epoch must begin at 0, marker or not", func(c *kafkaClient) string {
		return c.init() + ", " + c.produce(1, 79, 1) + ", " + c.produce(1, 0, 1) + ", " + c.with(1, func() string { return c.produce(1, 79, 1) })
	}},
	{"a takeover of an open transaction ends it, two epochs on", func(c *kafkaClient) string {
		return c.add(0) + ", " + c.init() + ", " + c.add(0) + ", " + c.end() + ", " + c.awaitMarker(0)
	}},
	{"a producer id that is not the transactional id's", func(c *kafkaClient) string {
		c.producer += 1000
		defer func() { c.producer -= 1000 }()
		return c.add(0) + ", " + c.end()
	}},
	{"a producer is forgotten by its batches' own stamps", func(c *kafkaClient) string {
		c.stamp = time.Now().Add(-48 * time.Hour)
		defer func() { c.stamp = time.Time{} }()
		return c.produce(2, 0, 2) + ", " + c.forgotten(2, 0, 2)
	}},
	{"a read beyond the end", func(c *kafkaClient) string { return c.fetch(0, 1000) }},
	{"a topic that does not exist", func(c *kafkaClient) string { return c.produce(-1, 0, 1) }},
	{"the logs", func(c *kafkaClient) string { return c.fetch(0, 0) + "; " + c.fetch(1, 0) + "; " + c.fetch(2, 0) }},
}

// kafkaClient asks one broker, over one connection.
type kafkaClient struct {
	t        *testing.T
	conn     net.Conn
	topic    string
	sent     int32
	producer int64
	epoch    int16
	stamp    time.Time // of what is produced; zero: now
}

// ask sends a request and returns the answer.
func (c *kafkaClient) ask(req kmsg.Request) kmsg.Response {
	c.t.Helper()
	c.sent++
	req.SetVersion(spoken[kmsg.Key(req.Key())][1])
	wire := kmsg.NewRequestFormatter(kmsg.FormatterClientID("script")).AppendRequest(nil, req, c.sent)
	if _, err := c.conn.Write(wire); err != nil {
		c.t.Fatalf("ask for %s: %v", kmsg.Key(req.Key()).Name(), err)
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(c.conn, head); err != nil {
		c.t.Fatalf("answer to %s: %v", kmsg.Key(req.Key()).Name(), err)
	}
	body := make([]byte, binary.BigEndian.Uint32(head))
	if _, err := io.ReadFull(c.conn, body); err != nil {
		c.t.Fatalf("answer to %s: %v", kmsg.Key(req.Key()).Name(), err)
	}
	body = body[4:]
	answer := req.ResponseKind()
	if answer.IsFlexible() {
		body = body[1:]
	}
	if err := answer.ReadFrom(body); err != nil {
		c.t.Fatalf("answer to %s: %v", kmsg.Key(req.Key()).Name(), err)
	}
	return answer
}

// patiently asks again while the coordinator loads, or ends the transaction before.
func (c *kafkaClient) patiently(ask func() int16) int16 {
	c.t.Helper()
	var code int16
	harness.Eventually(c.t, 20*time.Second, "the coordinator", func() error {
		switch code = ask(); code {
		case coordinatorLoading, coordinatorAway, notCoordinator, concurrentTransactions:
			return fmt.Errorf("code %d", code)
		}
		return nil
	})
	return code
}

// find has a broker make the coordinator's topic, the first time.
func (c *kafkaClient) find() string {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey, req.CoordinatorType = c.topic, 1
	return fmt.Sprint(c.patiently(func() int16 { return c.ask(req).(*kmsg.FindCoordinatorResponse).ErrorCode }))
}

func (c *kafkaClient) init() string {
	req := kmsg.NewPtrInitProducerIDRequest()
	id := c.topic
	req.TransactionalID, req.TransactionTimeoutMillis, req.ProducerID, req.ProducerEpoch = &id, 60_000, -1, -1
	same := "another producer"
	code := c.patiently(func() int16 {
		answer := c.ask(req).(*kmsg.InitProducerIDResponse)
		if answer.ErrorCode == none {
			if answer.ProducerID == c.producer {
				same = "the same producer"
			}
			c.producer, c.epoch = answer.ProducerID, answer.ProducerEpoch
		}
		return answer.ErrorCode
	})
	return fmt.Sprintf("%d %s, epoch %d", code, same, c.epoch)
}

// with does something under an older epoch.
func (c *kafkaClient) with(epoch int16, do func() string) string {
	defer func(e int16) { c.epoch = e }(c.epoch)
	c.epoch = epoch
	return do()
}

// name is the topic's; partition -1 stands for a topic that does not exist.
func (c *kafkaClient) name(partition int32) (string, int32) {
	if partition < 0 {
		return c.topic + "-unknown", 0
	}
	return c.topic, partition
}

func (c *kafkaClient) produce(partition, seq int32, records int) string {
	stamp := c.stamp
	if stamp.IsZero() {
		stamp = time.Now()
	}
	bodies := make([][]byte, records)
	for i := range bodies {
		bodies[i] = encodeRecord(int64(i), []byte("key"), fmt.Appendf(nil, "%d", seq+int32(i)))
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10_000
	t, p := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	t.Topic, p.Partition = c.name(partition)
	p.Records = encodeBatch(0, c.producer, c.epoch, seq, stamp.UnixMilli(), bodies...)
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	answer := c.ask(req).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	if answer.ErrorCode != none {
		return fmt.Sprint(answer.ErrorCode)
	}
	return fmt.Sprintf("at %d", answer.BaseOffset)
}

// forgotten repeats a batch until the broker appends it again, as it does with one that it does not know any more.
func (c *kafkaClient) forgotten(partition, seq int32, records int) string {
	answer := ""
	for began := time.Now(); time.Since(began) < 5*time.Second; time.Sleep(100 * time.Millisecond) {
		if answer = c.produce(partition, seq, records); answer != "at 0" {
			break
		}
	}
	return answer
}

func (c *kafkaClient) add(partitions ...int32) string {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = c.topic, c.producer, c.epoch
	for _, id := range partitions {
		t := kmsg.NewAddPartitionsToTxnRequestTopic()
		var p int32
		t.Topic, p = c.name(id)
		t.Partitions = []int32{p}
		req.Topics = append(req.Topics, t)
	}
	codes := make([]int16, len(partitions))
	c.patiently(func() (code int16) {
		for _, t := range c.ask(req).(*kmsg.AddPartitionsToTxnResponse).Topics {
			i := 0
			if t.Topic != c.topic {
				i = len(codes) - 1
			}
			codes[i] = t.Partitions[0].ErrorCode
			code = max(code, codes[i])
		}
		return code
	})
	return fmt.Sprintf("added %v", codes)
}

func (c *kafkaClient) end() string {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = c.topic, c.producer, c.epoch
	return fmt.Sprintf("ended %d", c.patiently(func() int16 { return c.ask(req).(*kmsg.EndTxnResponse).ErrorCode }))
}

// awaitMarker reads until the last batch of a partition is a marker of this epoch.
func (c *kafkaClient) awaitMarker(partition int32) string {
	last := ""
	harness.Eventually(c.t, 10*time.Second, "a marker", func() error {
		log := strings.Split(c.fetch(partition, 0), " ")
		if last = log[len(log)-1]; !strings.HasSuffix(last, fmt.Sprintf("marker/epoch%d", c.epoch)) {
			return fmt.Errorf("the last batch is %s", last)
		}
		return nil
	})
	return last
}

// fetch reads a log: of each batch its offset, the number of its records and what the brokers know it by.
func (c *kafkaClient) fetch(partition int32, offset int64) string {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MaxBytes, req.SessionEpoch = 0, 1<<20, -1
	t, p := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	t.Topic, p.Partition, p.FetchOffset, p.PartitionMaxBytes = c.topic, partition, offset, 1<<20
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	answer := c.ask(req).(*kmsg.FetchResponse).Topics[0].Partitions[0]
	if answer.ErrorCode != none {
		return fmt.Sprint(answer.ErrorCode)
	}
	var log []string
	for rest := answer.RecordBatches; len(rest) > 0; {
		size := 12 + int(binary.BigEndian.Uint32(rest[lengthAt:]))
		b, ok := readBatch(rest[:size])
		if !ok {
			c.t.Fatalf("a damaged batch at %d", binary.BigEndian.Uint64(rest))
		}
		line := fmt.Sprintf("%d+%d/", binary.BigEndian.Uint64(rest), b.count)
		if b.control {
			line += fmt.Sprintf("marker/epoch%d", b.epoch)
		} else {
			line += fmt.Sprintf("seq%d/epoch%d", b.seq, b.epoch)
		}
		log, rest = append(log, line), rest[size:]
	}
	return strings.Join(log, " ")
}
