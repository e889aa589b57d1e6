package broker

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"
)

// BenchmarkProduce measures round trips of produce requests, five in flight, to a peer that throws them away.
func BenchmarkProduce(b *testing.B) {
	for name, size := range map[string]int{"1KiB": 1 << 10, "64KiB": 64 << 10, "1MiB": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			addr := listen(b, nil, func(p played) {
				p.greet()
				var answer []byte // all are alike, but for the correlation id
				for {
					r, ok := p.next()
					if !ok {
						return
					}
					if answer == nil {
						var out bytes.Buffer
						_ = protocol.WriteResponse(&out, r.version, r.id, &produce.Response{Topics: []produce.ResponseTopic{
							{Topic: "t", Partitions: []produce.ResponsePartition{{}}},
						}})
						answer = out.Bytes()
					}
					binary.BigEndian.PutUint32(answer[4:], uint32(r.id))
					_, _ = p.Write(answer)
				}
			})
			c := dial(b, addr, Config{})
			set := binary.BigEndian.AppendUint32(nil, uint32(size))
			set = append(set, make([]byte, size)...)
			slots := make(chan struct{}, 5)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				slots <- struct{}{}
				c.Send(wire(set), func(_ protocol.Message, err error) {
					if err != nil {
						b.Error(err)
					}
					<-slots
				})
			}
			for range cap(slots) {
				slots <- struct{}{}
			}
		})
	}
}
