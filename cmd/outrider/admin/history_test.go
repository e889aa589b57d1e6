package admin

import (
	"context"
	"encoding/json"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/outrider-relay/outrider/cdc"
)

// busy is a relay that has delivered more, and has less room, each time that it is asked.
type busy struct {
	relay
	mu    sync.Mutex
	calls int64
	room  int64 // lost from one call to the next
}

func (b *busy) Status() cdc.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	safe := 1000_000 - b.calls*b.room
	return cdc.Status{
		State: cdc.Relaying, LagSeconds: float64(b.calls), Records: cdc.RecordsStatus{Relayed: 100 * b.calls},
		Topics:   map[string]cdc.TopicStat{"a": {Bytes: 1000 * b.calls}, "b": {Bytes: 500 * b.calls}},
		Postgres: cdc.PostgresStatus{SafeBytes: &safe},
	}
}

// sampled runs a historian for d, and gives all that it remembers.
func sampled(t *testing.T, h *historian, d time.Duration) History {
	t.Helper()
	if h.metrics == nil {
		h.metrics = prometheus.NewRegistry()
	}
	h.sample(time.Now())
	ctx, stop := context.WithTimeout(t.Context(), d)
	defer stop()
	h.run(ctx)
	return h.after(0)
}

func TestHistoryKeepsTheLastHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &historian{relay: &busy{}}
		got := sampled(t, h, 90*time.Minute+time.Second)
		first, last := got.Samples[0], got.Samples[len(got.Samples)-1]
		if len(got.Samples) != 720 || last.Number != 90*12+1 || first.Number != last.Number-719 {
			t.Errorf("%d samples, from %d to %d", len(got.Samples), first.Number, last.Number)
		}
		if last.State != cdc.Relaying || last.LagSeconds != float64(last.Number) || last.EventsPerSecond != 20 || last.BytesPerSecond != 300 || last.CommitToAck != nil {
			t.Errorf("%+v", last)
		}
		if span := last.At.Sub(first.At); span != time.Hour-5*time.Second || got.IntervalSeconds != 5 {
			t.Errorf("it spans %s", span)
		}
		if newer := h.after(last.Number - 2).Samples; len(newer) != 2 || newer[0].Number != last.Number-1 {
			t.Errorf("after the third last: %+v", newer)
		}
		if newer := h.after(last.Number).Samples; newer == nil || len(newer) != 0 {
			t.Errorf("after the last: %+v", newer)
		}
	})
}

func TestFirstSampleHasNoRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := sampled(t, &historian{relay: &busy{}}, time.Second).Samples
		if len(got) != 1 || got[0].Number != 1 || got[0].EventsPerSecond != 0 || got[0].BytesPerSecond != 0 {
			t.Errorf("%+v", got)
		}
	})
}

func TestTimeUntilFullFollowsTheTrend(t *testing.T) {
	for _, c := range []struct {
		about string
		room  int64 // lost each 5 s
		after time.Duration
		want  float64 // 0: not in sight
	}{
		{"too early to say", 1000, 29 * time.Second, 0},
		{"shrinking", 1000, 31 * time.Second, (1000_000 - 7*1000) / 200.},
		{"after a while", 1000, 10*time.Minute + time.Second, (1000_000 - 121*1000) / 200.},
		{"all used up", 100_000, time.Minute + time.Second, 0.0001},
		{"growing", -1000, 10 * time.Minute, 0},
		{"at rest", 0, 10 * time.Minute, 0},
	} {
		t.Run(c.about, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := sampled(t, &historian{relay: &busy{room: c.room}}, c.after).SlotFullSeconds
				switch {
				case got == nil && c.want == 0:
				case got == nil || c.want == 0 || math.Abs(*got-c.want) > 0.001:
					t.Errorf("%v, want %v", got, c.want)
				}
			})
		})
	}
	var rested []Sample
	for i, safe := range []int64{2000, 1000, 1000} { // what was before the window is no matter
		rested = append(rested, Sample{At: time.Unix(int64(i)*200, 0), SafeBytes: &safe})
	}
	if got := slotFull(rested); got != nil {
		t.Errorf("at rest again it is full in %f s", *got)
	}
	unlimited := []Sample{{At: time.Now().Add(-time.Minute)}, {At: time.Now()}}
	if got := slotFull(unlimited); got != nil {
		t.Errorf("without a limit it is full in %f s", *got)
	}
}

func TestLatencyIsThatSinceTheSampleBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		latency := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "outrider_commit_to_ack_seconds", Buckets: []float64{1, 2, 4, 8}})
		registry := prometheus.NewRegistry()
		registry.MustRegister(latency)
		h := &historian{relay: &relay{}, metrics: registry}
		for range 1000 {
			latency.Observe(7) // before anybody looked
		}
		go func() {
			time.Sleep(7 * time.Second)
			for range 98 {
				latency.Observe(1.5)
			}
			latency.Observe(3)
			latency.Observe(3)
		}()
		got := sampled(t, h, 16*time.Second).Samples
		for i, want := range []*Latency{nil, nil, {P50: 1 + 50./98, P99: 2 + 2*1./2}, nil} {
			is := got[i].CommitToAck
			if (is == nil) != (want == nil) || is != nil && (math.Abs(is.P50-want.P50) > 1e-9 || math.Abs(is.P99-want.P99) > 1e-9) {
				t.Errorf("sample %d: %+v, want %+v", i, is, want)
			}
		}
	})
}

func TestHistoryIsServedFromANumberOn(t *testing.T) {
	base := serve(t, &Server{Relay: &busy{}}, "127.0.0.1:0")
	for path, want := range map[string]int{"/history": 1, "/history?after=0": 1, "/history?after=1": 0} {
		var got History
		code, body, header := do(t, "GET", base+path, nil)
		if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 || len(got.Samples) != want || got.IntervalSeconds != 5 || header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v %s", path, code, err, body)
		}
	}
	if code, body, _ := do(t, "GET", base+"/history?after=yesterday", nil); code != 400 {
		t.Errorf("%d %s", code, body)
	}
}
