package sink

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Stats counts what the sinks of a process have done, over all sessions. It is touched once a batch or a request, never per event.
// It is a prometheus.Collector. Safe for use by any goroutine.
type Stats struct {
	// HeadersDropped counts rows' own headers that were named outrider-*.
	HeadersDropped prometheus.Counter

	poison   *prometheus.CounterVec
	requests *prometheus.CounterVec
	retries  *prometheus.CounterVec
	latency  prometheus.Histogram
	records  prometheus.Histogram
	bytes    prometheus.Histogram

	skipped atomic.Int64 // events that Kafka held already

	mu      sync.Mutex
	topics  map[string]TopicCount
	poisons int64
}

// TopicCount is what one topic has acked.
type TopicCount struct{ Records, Bytes int64 }

// topicsNamed is how many topics have metrics under their own name; the rest are counted together, to bound the series.
const topicsNamed = 100

const otherTopics = "other"

// NewStats returns counters at zero.
func NewStats() *Stats {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "outrider_" + name, Help: help}
	}
	s := &Stats{
		HeadersDropped: prometheus.NewCounter(opts("headers_dropped_total", "Headers of rows that were dropped because their names begin with outrider-.")),
		poison:         prometheus.NewCounterVec(opts("poison_total", "Events that could not be routed, encoded or accepted, by the policy they met."), []string{"policy"}),
		requests:       prometheus.NewCounterVec(opts("produce_requests_total", "Produce requests sent, by broker id."), []string{"broker"}),
		retries:        prometheus.NewCounterVec(opts("produce_retries_total", "Batches that a broker refused and that are sent again, by Kafka error code; lost is a connection that ended first."), []string{"code"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "outrider_commit_to_ack_seconds", Help: "Time from commit in Postgres to the broker's ack, observed once a batch for its oldest event.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 20),
		}),
		records: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "outrider_batch_records", Help: "Records in an acked batch.", Buckets: prometheus.ExponentialBuckets(1, 4, 9),
		}),
		bytes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "outrider_batch_bytes", Help: "Bytes of an acked batch, as sent.", Buckets: prometheus.ExponentialBuckets(256, 4, 8),
		}),
		topics: make(map[string]TopicCount),
	}
	// An alert on an increase sees the first event only where there was a zero before it.
	for _, policy := range []Policy{Stop, Skip, DeadLetter} {
		s.poison.WithLabelValues(string(policy))
	}
	return s
}

// acked counts one batch; oldest is the commit time of its first event.
func (s *Stats) acked(topic string, records, bytes int, oldest time.Time) {
	s.latency.Observe(time.Since(oldest).Seconds())
	s.records.Observe(float64(records))
	s.bytes.Observe(float64(bytes))
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.topics[topic]; !known && len(s.topics) >= topicsNamed {
		topic = otherTopics
	}
	c := s.topics[topic]
	c.Records += int64(records)
	c.Bytes += int64(bytes)
	s.topics[topic] = c
}

func (s *Stats) poisoned(policy Policy) {
	s.poison.WithLabelValues(string(policy)).Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.poisons++
}

func (s *Stats) requested(broker int32) {
	s.requests.WithLabelValues(strconv.Itoa(int(broker))).Inc()
}

func (s *Stats) retried(code string) {
	s.retries.WithLabelValues(code).Inc()
}

// Topics gives the acked counts by topic; past 100 topics the rest is under "other".
func (s *Stats) Topics() map[string]TopicCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	topics := make(map[string]TopicCount, len(s.topics))
	for name, c := range s.topics {
		topics[name] = c
	}
	return topics
}

// SkippedDuplicates gives the number of events that a scan had found on Kafka, and that were not sent again.
func (s *Stats) SkippedDuplicates() int64 { return s.skipped.Load() }

// Poison gives the number of poison events met.
func (s *Stats) Poison() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.poisons
}

var (
	eventsDesc = prometheus.NewDesc("outrider_events_total", "Records acked, by topic; past 100 topics the rest is other.", []string{"topic"}, nil)
	bytesDesc  = prometheus.NewDesc("outrider_bytes_total", "Bytes of acked batches as sent, by topic; past 100 topics the rest is other.", []string{"topic"}, nil)
)

func (s *Stats) collectors() []prometheus.Collector {
	return []prometheus.Collector{s.HeadersDropped, s.poison, s.requests, s.retries, s.latency, s.records, s.bytes}
}

// Describe implements prometheus.Collector.
func (s *Stats) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range s.collectors() {
		c.Describe(ch)
	}
	ch <- eventsDesc
	ch <- bytesDesc
}

// Collect implements prometheus.Collector.
func (s *Stats) Collect(ch chan<- prometheus.Metric) {
	for _, c := range s.collectors() {
		c.Collect(ch)
	}
	for name, c := range s.Topics() {
		ch <- prometheus.MustNewConstMetric(eventsDesc, prometheus.CounterValue, float64(c.Records), name)
		ch <- prometheus.MustNewConstMetric(bytesDesc, prometheus.CounterValue, float64(c.Bytes), name)
	}
}
