package admin

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/outrider-relay/outrider/cdc"
)

// History is the document that /history serves: how the relay was doing over the last hour, so that a page which is opened
// after something happened still shows it. It lives in memory, and begins anew with the process.
type History struct {
	IntervalSeconds float64 `json:"interval_seconds"` // between two samples
	// SlotFullSeconds is the time until the server gives the slot up, if WAL is written and freed as in the last minutes; nil
	// where the room does not shrink, or has no limit.
	SlotFullSeconds *float64 `json:"slot_full_seconds"`
	Samples         []Sample `json:"samples"` // the oldest first
}

// Sample is one look at the relay. Rates are means since the sample before.
type Sample struct {
	Number          int64     `json:"number"` // counts from 1
	At              time.Time `json:"at"`
	State           cdc.State `json:"state"`
	LagSeconds      float64   `json:"lag_seconds"`
	LagBytes        int64     `json:"lag_bytes"`
	EventsPerSecond float64   `json:"events_per_second"`
	BytesPerSecond  float64   `json:"bytes_per_second"`
	CommitToAck     *Latency  `json:"commit_to_ack_seconds"` // nil: nothing was acked
	RetainedBytes   int64     `json:"retained_bytes"`
	SafeBytes       *int64    `json:"safe_bytes"` // nil: unlimited, or not known
}

// Latency is a distribution, in seconds: half of the batches took at most P50, all but one in a hundred at most P99.
type Latency struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

const (
	sampleInterval = 5 * time.Second
	samplesKept    = int(time.Hour / sampleInterval)
	// roomWindow is how far back the room in the slot is compared: over several segments of WAL, by which it moves in steps.
	roomWindow = 5 * time.Minute
	// roomLeast is the least time that says anything about its trend.
	roomLeast = 30 * time.Second
)

// historian takes the samples.
type historian struct {
	relay   Relay
	metrics prometheus.Gatherer

	mu      sync.Mutex
	samples []Sample // at most samplesKept; written by run, read by requests

	// What the sample before saw; run's alone.
	last struct {
		at             time.Time
		records, bytes int64
		latency        []bucket
	}
}

// run takes a sample every sampleInterval, until ctx ends.
func (h *historian) run(ctx context.Context) {
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			h.sample(now)
		}
	}
}

func (h *historian) sample(now time.Time) {
	st := h.relay.Status()
	s := Sample{
		At: now.UTC(), State: st.State, LagSeconds: st.LagSeconds, LagBytes: st.Postgres.LagBytes,
		RetainedBytes: st.Postgres.RetainedBytes, SafeBytes: st.Postgres.SafeBytes,
	}
	records := st.Records.Relayed
	var bytes int64
	for _, topic := range st.Topics {
		bytes += topic.Bytes
	}
	latency := h.latency()
	if !h.last.at.IsZero() {
		elapsed := now.Sub(h.last.at).Seconds()
		s.EventsPerSecond = float64(records-h.last.records) / elapsed
		s.BytesPerSecond = float64(bytes-h.last.bytes) / elapsed
		s.CommitToAck = between(h.last.latency, latency)
	}
	h.last.at, h.last.records, h.last.bytes, h.last.latency = now, records, bytes, latency

	h.mu.Lock()
	defer h.mu.Unlock()
	s.Number = 1
	if n := len(h.samples); n > 0 {
		s.Number = h.samples[n-1].Number + 1
	}
	h.samples = append(h.samples, s)
	if len(h.samples) > samplesKept {
		h.samples = slices.Delete(h.samples, 0, 1)
	}
}

// bucket is one of a histogram: how many observations were at most upper seconds.
type bucket struct {
	upper float64
	count uint64
}

// latency reads the histogram that /metrics shows; nil where there is none.
func (h *historian) latency() []bucket {
	families, _ := h.metrics.Gather() // what another collector cannot tell is no matter of ours
	for _, family := range families {
		if family.GetName() != "outrider_commit_to_ack_seconds" {
			continue
		}
		var buckets []bucket
		for _, b := range family.GetMetric()[0].GetHistogram().GetBucket() {
			buckets = append(buckets, bucket{b.GetUpperBound(), b.GetCumulativeCount()})
		}
		return buckets
	}
	return nil
}

// between gives the distribution of what was observed from one reading of a histogram to the next; nil when that is nothing.
func between(before, after []bucket) *Latency {
	added := slices.Clone(after)
	for i := range min(len(before), len(added)) {
		added[i].count -= before[i].count
	}
	if len(added) == 0 || added[len(added)-1].count == 0 {
		return nil
	}
	return &Latency{P50: quantile(added, 0.50), P99: quantile(added, 0.99)}
}

// quantile takes observations as spread evenly over their bucket, as Prometheus's histogram_quantile does.
func quantile(buckets []bucket, q float64) float64 {
	rank := q * float64(buckets[len(buckets)-1].count)
	var lower bucket
	for _, b := range buckets {
		if float64(b.count) >= rank && b.count > lower.count {
			return lower.upper + (b.upper-lower.upper)*(rank-float64(lower.count))/float64(b.count-lower.count)
		}
		lower = b
	}
	return lower.upper
}

// after gives the samples with a higher number, and what can be foretold from all of them.
func (h *historian) after(number int64) History {
	h.mu.Lock()
	defer h.mu.Unlock()
	first := len(h.samples)
	for first > 0 && h.samples[first-1].Number > number {
		first--
	}
	return History{
		IntervalSeconds: sampleInterval.Seconds(),
		SlotFullSeconds: slotFull(h.samples),
		Samples:         append([]Sample{}, h.samples[first:]...),
	}
}

// slotFull extends the trend of the room in the slot.
func slotFull(samples []Sample) *float64 {
	if len(samples) == 0 {
		return nil
	}
	last := samples[len(samples)-1]
	first := last
	for _, s := range slices.Backward(samples) {
		if s.SafeBytes == nil || last.At.Sub(s.At) > roomWindow {
			break
		}
		first = s
	}
	span := last.At.Sub(first.At)
	if span < roomLeast || *last.SafeBytes >= *first.SafeBytes {
		return nil
	}
	seconds := span.Seconds() * max(0, float64(*last.SafeBytes)) / float64(*first.SafeBytes-*last.SafeBytes)
	return &seconds
}

// serve answers with the last hour, or with what is newer than sample ?after=.
func (h *historian) serve(w http.ResponseWriter, r *http.Request) {
	var after int64
	if text := r.URL.Query().Get("after"); text != "" {
		var err error
		if after, err = strconv.ParseInt(text, 10, 64); err != nil {
			http.Error(w, "after: the number of a sample", http.StatusBadRequest)
			return
		}
	}
	document(w, h.after(after), "")
}
