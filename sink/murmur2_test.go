package sink

import (
	"math/rand/v2"
	"testing"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Printed by kafka-clients 4.1.0: Utils.toPositive(Utils.murmur2(key)) % n.
func TestKeyGoesWhereJavaSendsIt(t *testing.T) {
	for _, c := range []struct {
		key            string
		of3, of6, of12 int32
	}{
		{"1", 0, 3, 3},
		{`"1"`, 1, 4, 4},
		{"10711fa5", 2, 5, 11},
		{"order-42", 0, 0, 0},
		{"", 0, 3, 9},
	} {
		key := []byte(c.key)
		if a, b, d := partitionOf(key, 3), partitionOf(key, 6), partitionOf(key, 12); a != c.of3 || b != c.of6 || d != c.of12 {
			t.Errorf("key %q: partition %d/%d/%d of 3/6/12, want %d/%d/%d", c.key, a, b, d, c.of3, c.of6, c.of12)
		}
	}
}

func TestPartitionAgreesWithOtherClients(t *testing.T) {
	kafkaGo := kafka.Murmur2Balancer{}
	franz := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		key := make([]byte, r.IntN(70))
		for i := range key {
			key[i] = byte(r.Uint32())
		}
		n := 1 + r.IntN(200)
		partitions := make([]int, n)
		for i := range partitions {
			partitions[i] = i
		}
		got := int(partitionOf(key, int32(n)))
		if want := kafkaGo.Balance(kafka.Message{Key: key}, partitions...); got != want {
			t.Fatalf("key %x of %d: partition %d, kafka-go says %d", key, n, got, want)
		}
		if want := franz.Partition(&kgo.Record{Key: key}, n); got != want {
			t.Fatalf("key %x of %d: partition %d, franz-go says %d", key, n, got, want)
		}
	}
}
