package simulation

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// weather says how often, in a thousand, brokers do what clients fear. The nemesis changes it; zero is fair weather.
type weather struct {
	lostRequest, lostAnswer  int // the connection ends before a produce request is handled, after it
	notEnough, notEnoughLate int // NOT_ENOUGH_REPLICAS, before and after a batch was appended
	timedOut                 int // REQUEST_TIMED_OUT after a batch was appended
	loading                  int // the coordinator is loading
	slow                     int // a request takes up to a second
	throttled                int // a produce request is answered, and asks for a pause
}

// cluster is a Kafka cluster: brokers, partitions, and one coordinator of transactions.
type cluster struct {
	id         string
	expiration time.Duration // producer.id.expiration.ms
	tells      bool          // who asks is told of it
	sluggish   bool          // every produce request takes up to a second
	names      bool          // a record that is refused is named
	// took is told of each batch that is appended.
	took func(p *partition, b batch)
	// produces is told of each producer id that is given to a session.
	produces func(id int64)
	// reached is told how far processes come.
	reached func(process string, s stage)

	mu         sync.Mutex
	rng        *rand.Rand
	up         []bool // by broker id, from 1
	partitions map[place]*partition
	topics     map[string]int32 // partition counts
	txns       coordinator
	weather    weather
	seat       int32  // where the coordinator lives, while that broker is up
	forbidden  string // a topic that nobody has a right to just now
	conns      map[int32][]conn
	waiting    int           // fetches that wait
	changed    chan struct{} // closed, and made anew, when there may be something for them
}

func newCluster(seed uint64, brokers int) *cluster {
	k := &cluster{
		id: "model", expiration: 24 * time.Hour, rng: random(seed, "cluster"), up: make([]bool, brokers+1),
		partitions: make(map[place]*partition), topics: make(map[string]int32), conns: make(map[int32][]conn),
		took: func(*partition, batch) {}, produces: func(int64) {}, reached: func(string, stage) {}, changed: make(chan struct{}),
	}
	for i := range brokers {
		k.up[i+1] = true
	}
	k.txns = coordinator{partitions: k.partitions, ids: make(map[string]*transaction), rng: random(seed, "coordinator"), locked: k.locked}
	return k
}

func (k *cluster) locked(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
	k.tell()
}

// tell wakes the fetches that wait. The cluster's lock is held.
func (k *cluster) tell() {
	if k.waiting > 0 {
		close(k.changed)
		k.changed = make(chan struct{})
	}
}

// create makes a topic. The cluster's lock is held.
func (k *cluster) create(topic string, partitions int32) {
	k.topics[topic] = 0
	k.grow(topic, partitions)
}

// grow gives a topic more partitions. The cluster's lock is held.
func (k *cluster) grow(topic string, partitions int32) {
	for i := k.topics[topic]; i < partitions; i++ {
		k.partitions[place{topic, i}] = &partition{topic: topic, id: i, leader: k.pick(), producers: make(map[int64]*producer)}
	}
	k.topics[topic] = max(k.topics[topic], partitions)
}

// intrude appends a batch of a producer that is not the relay's to some partition: a record of its own, or a copy of the
// last batch there, as a consumer makes that forwards headers. The cluster's lock is held.
func (k *cluster) intrude(copies bool) {
	const stranger = 7
	all := k.sorted()
	p := all[k.rng.IntN(len(all))]
	wire := encodeBatch(0, stranger, 0, 0, time.Now().UnixMilli(), encodeRecord(0, []byte("key"), []byte("of another")))
	if n := len(p.batches); copies && n > 0 && !p.batches[n-1].control {
		wire = slices.Clone(p.batches[n-1].wire)
		binary.BigEndian.PutUint64(wire[producerAt:], stranger)
		binary.BigEndian.PutUint32(wire[crcAt:], crc32.Checksum(wire[attributesAt:], castagnoli))
	}
	b, _ := readBatch(wire)
	p.write(b)
}

// pick gives a broker that is up; -1 when none is.
func (k *cluster) pick() int32 {
	var up []int32
	for id := int32(1); int(id) < len(k.up); id++ {
		if k.up[id] {
			up = append(up, id)
		}
	}
	if len(up) == 0 {
		return -1
	}
	return up[k.rng.IntN(len(up))]
}

// sorted gives all partitions, in an order that does not change.
func (k *cluster) sorted() []*partition {
	all := make([]*partition, 0, len(k.partitions))
	for _, p := range k.partitions {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *partition) int {
		if a.topic != b.topic {
			return slices.Compare([]byte(a.topic), []byte(b.topic))
		}
		return int(a.id - b.id)
	})
	return all
}

// stop takes a broker away; its partitions have no leader until they are elected elsewhere.
func (k *cluster) stop(id int32) {
	k.mu.Lock()
	k.up[id] = false
	conns := k.conns[id]
	delete(k.conns, id)
	for _, p := range k.sorted() {
		if p.leader == id {
			p.leader = -1
			p.restart()
		}
	}
	k.tell()
	k.mu.Unlock()
	for _, c := range conns {
		c.cut([2]bool{true, true})
	}
}

// start brings a broker back.
func (k *cluster) start(id int32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.up[id] = true
}

// elect gives leaders to partitions that have none.
func (k *cluster) elect() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.sorted() {
		if p.leader < 0 {
			p.leader = k.pick()
			p.epoch++
		}
	}
	k.tell()
}

// move gives a partition another leader, or none for the moment.
func (k *cluster) move(to func(p *partition) int32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := k.sorted()
	p := all[k.rng.IntN(len(all))]
	p.leader = to(p)
	p.epoch++
	k.tell()
}

// home is the broker that the coordinator lives in.
func (k *cluster) home() int32 {
	if k.seat > 0 && k.up[k.seat] {
		return k.seat
	}
	for id := int32(1); int(id) < len(k.up); id++ {
		if k.up[id] {
			return id
		}
	}
	return -1
}

func brokerAddr(id int32) string { return fmt.Sprintf("broker%d:9092", id) }

// accept takes a connection to a broker.
func (k *cluster) accept(c conn, id int32) (serve func(), up bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.up[id] {
		return nil, false
	}
	k.conns[id] = append(slices.DeleteFunc(k.conns[id], func(c conn) bool { return c.dead() }), c)
	b := &brokerConn{k: k, id: id, conn: c}
	return b.serve, true
}

// chance is true so many times in a thousand. The cluster's lock is held.
func (k *cluster) chance(n int) bool { return k.rng.IntN(1000) < n }

// records reads the records of a batch that is not compressed.
func (b *batch) records() ([]kmsg.Record, error) {
	var all []kmsg.Record
	rest := b.wire[recordsAt:]
	for range b.count {
		length, n := binary.Varint(rest)
		if n <= 0 || length < 0 || int(length) > len(rest)-n {
			return nil, fmt.Errorf("a record of %d bytes in a batch that has %d left", length, len(rest))
		}
		var r kmsg.Record
		if err := r.ReadFrom(rest[:n+int(length)]); err != nil {
			return nil, err
		}
		all, rest = append(all, r), rest[n+int(length):]
	}
	return all, nil
}
