package sink

import (
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/initproducerid"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/protocol/produce"
)

// discarder is a broker that acks what it does not look at, so that a benchmark measures this side. It leads all
// partitions of one topic.
type discarder struct {
	net.Listener
	topic      string
	partitions int32
	conns      sync.WaitGroup
}

func newDiscarder(b *testing.B, topic string, partitions int32) *discarder {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	d := &discarder{Listener: l, topic: topic, partitions: partitions}
	d.conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			d.conns.Go(func() { d.serve(conn) })
		}
	})
	b.Cleanup(func() { _ = l.Close(); d.conns.Wait() })
	return d
}

func (d *discarder) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	offset := int64(0)
	frame := make([]byte, 1<<20)
	for {
		var size [4]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint32(size[:]))
		if n > len(frame) {
			frame = make([]byte, n)
		}
		if _, err := io.ReadFull(conn, frame[:n]); err != nil {
			return
		}
		key, version, id := protocol.ApiKey(binary.BigEndian.Uint16(frame)), int16(binary.BigEndian.Uint16(frame[2:])), int32(binary.BigEndian.Uint32(frame[4:]))
		offset++
		if err := protocol.WriteResponse(conn, version, id, d.answer(key, offset)); err != nil {
			return
		}
	}
}

func (d *discarder) answer(key protocol.ApiKey, offset int64) protocol.Message {
	switch key {
	case protocol.ApiVersions:
		return &apiversions.Response{ApiKeys: []apiversions.ApiKeyResponse{
			{ApiKey: int16(protocol.Produce), MinVersion: 3, MaxVersion: 8},
			{ApiKey: int16(protocol.Metadata), MinVersion: 0, MaxVersion: 8},
			{ApiKey: int16(protocol.ApiVersions), MinVersion: 0, MaxVersion: 2},
			{ApiKey: int16(protocol.InitProducerId), MinVersion: 0, MaxVersion: 4},
		}}
	case protocol.InitProducerId:
		return &initproducerid.Response{ProducerID: 1}
	case protocol.Metadata:
		host, port, _ := net.SplitHostPort(d.Addr().String())
		n, _ := strconv.Atoi(port)
		topic := metadata.ResponseTopic{Name: d.topic}
		for p := range d.partitions {
			topic.Partitions = append(topic.Partitions, metadata.ResponsePartition{PartitionIndex: p})
		}
		return &metadata.Response{Brokers: []metadata.ResponseBroker{{Host: host, Port: int32(n)}}, Topics: []metadata.ResponseTopic{topic}}
	default:
		// All partitions, whether the request held them or not: the relay looks for those that it sent.
		topic := produce.ResponseTopic{Topic: d.topic}
		for p := range d.partitions {
			topic.Partitions = append(topic.Partitions, produce.ResponsePartition{Partition: p, BaseOffset: offset})
		}
		return &produce.Response{Topics: []produce.ResponseTopic{topic}}
	}
}

// BenchmarkDeliver is a row's whole way through the sink, from the event to the ack: 300-byte rows, 12 partitions, to a
// broker that discards them. cpu is of the process, which includes the broker's side of the socket.
func BenchmarkDeliver(b *testing.B) {
	d := newDiscarder(b, "outbox.event.order", 12)
	k, err := New(Config{Name: "bench", Brokers: []string{d.Addr().String()}})
	if err != nil {
		b.Fatal(err)
	}
	s := &session{Kafka: k, t: b, logs: &logs{}, ended: make(chan struct{})}
	if err := s.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	s.run()
	e := plainRow()
	keys := make([][]byte, 1000)
	for i := range keys {
		keys[i] = strconv.AppendInt([]byte("order-"), int64(i), 10)
	}
	bytes := 0
	for _, v := range e.Values {
		bytes += len(v.Data)
	}
	b.SetBytes(int64(bytes))
	b.ReportAllocs()
	const block = 200 // rows of one read from Postgres
	cpu := cpuTime()
	for i := 0; b.Loop(); i++ {
		if i%block == 0 {
			if i > 0 {
				s.End()
			}
			s.Begin()
			e.CommitTime = s.now
		}
		e.Values[2].Data = keys[i%len(keys)]
		e.Position.Ordinal = uint64(i)
		if _, err := s.Append(e, uint64(i)); err != nil {
			b.Fatal(err)
		}
	}
	s.End()
	if err := s.Drain(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
