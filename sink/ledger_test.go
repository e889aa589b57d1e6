package sink

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// memory is a Ledger, and outlives the sessions of a test as the checkpoint row does.
type memory struct {
	mu         sync.Mutex
	producers  []int64
	partitions map[place]Registration
	registers  int // calls that wrote

	checkpoint, walEnd uint64 // commit LSNs
	complete           bool
	forget             bool  // a person has decided that nothing counts that was published before
	otherCluster       error // what is said of the Kafka cluster

	gate chan struct{} // while not nil, a registration waits for it
}

func newMemory() *memory {
	return &memory{partitions: make(map[place]Registration), checkpoint: 100, walEnd: 1000}
}

func (m *memory) Owner(context.Context) error { return nil }

func (m *memory) Cluster(string) error { return m.otherCluster }

func (m *memory) Producers() []int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.producers)
}

func (m *memory) AddProducer(_ context.Context, id int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.producers = append(m.producers, id)
	return nil
}

func (m *memory) EachPartition(yield func(topic string, partition int32, scanFrom int64, owned bool)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.partitions {
		if m.forget {
			r.ScanFrom, r.Owned = forgotten, false
		}
		yield(r.Topic, r.Partition, r.ScanFrom, r.Owned)
	}
}

func (m *memory) Register(ctx context.Context, topics []string, partitions []int32, scanFrom []int64, owned []bool) error {
	m.mu.Lock()
	gate := m.gate
	m.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(topics) == 0 {
		return errors.New("nothing to register")
	}
	m.registers++
	for i := range topics {
		m.partitions[place{topics[i], partitions[i]}] = Registration{topics[i], partitions[i], scanFrom[i], owned[i]}
	}
	return nil
}

func (m *memory) Above(timeline uint32, commit uint64) (above, possible bool) {
	return commit >= m.checkpoint, timeline == 1 && commit < m.walEnd
}

func (m *memory) Complete() bool { return m.complete }

// register puts a partition on record as a session before would have.
func (m *memory) register(topic string, partition int32, scanFrom int64, owned bool) {
	m.partitions[place{topic, partition}] = Registration{topic, partition, scanFrom, owned}
}

// at is where a restart would begin to scan a partition, and whether it is registered.
func (m *memory) at(topic string, partition int32) (Registration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, known := m.partitions[place{topic, partition}]
	return r, known
}

// exactlyOnce makes sessions keep what a restart needs in m.
func exactlyOnce(m *memory) func(*Config) {
	return func(cfg *Config) {
		cfg.Ledger = m
		cfg.RenewInterval = time.Hour
	}
}
