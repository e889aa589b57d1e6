package test

import (
	"context"
	"encoding/json"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/checkpoint"
	"github.com/outrider-relay/outrider/cmd/outrider/admin"
)

// scriptedRelay is a relay that does what a test says, for states of the page that take an hour, or an accident.
type scriptedRelay struct {
	rate float64 // events a second that it delivers, from when it is first asked

	mu     sync.Mutex
	status cdc.Status
	began  time.Time
}

func (r *scriptedRelay) Status() cdc.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.began.IsZero() {
		r.began = time.Now()
	}
	st := r.status
	st.Records.Relayed += int64(r.rate * time.Since(r.began).Seconds())
	return st
}

func (r *scriptedRelay) Healthy() error        { return nil }
func (r *scriptedRelay) Ready() (bool, string) { return true, "" }

func (r *scriptedRelay) set(change func(*cdc.Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.status)
}

// servePage serves the endpoint of a relay, and gives its address. The past is history's, where that is not nil.
func servePage(t *testing.T, relay admin.Relay, token func() (string, error), history *admin.History) *url.URL {
	t.Helper()
	l, err := admin.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	server := &admin.Server{Relay: relay, Metrics: prometheus.NewRegistry(), Token: token, Log: zerolog.Nop()}
	go func() { done <- server.Run(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	endpoint := &url.URL{Scheme: "http", Host: l.Addr().(*net.TCPAddr).String(), Path: "/"}
	if history == nil {
		return endpoint
	}
	forward := httputil.NewSingleHostReverseProxy(endpoint)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/history" {
			forward.ServeHTTP(w, r)
			return
		}
		answer := *history
		if r.URL.Query().Get("after") != "0" {
			answer.Samples = []admin.Sample{}
		}
		_ = json.NewEncoder(w).Encode(answer) // the browser has gone
	}))
	t.Cleanup(front.Close)
	endpoint, err = url.Parse(front.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	return endpoint
}

// pageScene is a relay in one of its states, after an hour that led there.
type pageScene struct {
	name    string
	rate    float64 // events a second
	status  cdc.Status
	history admin.History
}

func (s *pageScene) relay() *scriptedRelay { return &scriptedRelay{status: s.status, rate: s.rate} }

// pageScenes are the states that the page has to show well. Each begins as a relay that does well.
func pageScenes(now time.Time) []pageScene {
	scene := func(name string, since time.Duration, change func(*cdc.Status)) pageScene {
		s := pageScene{name: name, status: wellStatus(now)}
		s.status.Since = now.Add(-since)
		change(&s.status)
		s.history = pastHour(now, s.status)
		s.rate = s.history.Samples[len(s.history.Samples)-1].EventsPerSecond
		return s
	}
	return []pageScene{
		scene("relaying", 11*24*time.Hour, func(*cdc.Status) {}),
		scene("degraded", 14*time.Minute, func(st *cdc.Status) {
			st.State, st.Reason = cdc.Degraded, "produce to outbox.event.customer_notification_preferences_changed/3: no in-sync replicas (19): the leader kafka-2:9092 has 1 of the 2 that min.insync.replicas asks for; it is tried again"
			st.LagSeconds, st.Postgres.LagBytes, st.Postgres.RetainedBytes = 847, 3<<30, 13<<30
			safe := int64(3) << 30
			st.Postgres.SafeBytes, st.Postgres.SlotStatus = &safe, "extended"
			st.LSN.Server = "16/F374D848"
			st.Topics["outbox.event.customer_notification_preferences_changed"] = cdc.TopicStat{Records: 41_202, Bytes: 12 << 20}
			st.InFlight = cdc.InFlightStatus{Records: 3120, Bytes: 16 << 20, OldestSeconds: 847}
			at := now.Add(-14 * time.Minute)
			st.Errors = []cdc.ErrorStatus{
				{At: at, Times: 1, Class: "kafka", Message: "produce to outbox.event.customer_notification_preferences_changed/3: no in-sync replicas (19)"},
				{At: at.Add(-3 * time.Second), Times: 4, Class: "kafka", Message: "dial b-3.shop-production-cluster.a1b2c3.c4.kafka.eu-central-1.amazonaws.com:9098: connection refused"},
			}
		}),
		scene("blocked", 38*time.Minute, func(st *cdc.Status) {
			st.State, st.Verdict = cdc.Halted, &cdc.VerdictStatus{
				Case:    "gap",
				Reason:  "slot outrider_orders was confirmed up to 16/B4A1F2C8 by somebody else, the checkpoint is 16/B374D848: what was committed in between was never relayed",
				Advice:  "Publish again what is missing, and go on where the slot stands: outrider resolve --name orders --accept-loss",
				Options: []checkpoint.Action{checkpoint.AcceptLoss},
			}
			st.Reason = "blocked (gap): " + st.Verdict.Reason + ". " + st.Verdict.Advice
			st.LagSeconds, st.Postgres.LagBytes = 38*60, 1<<30
			st.Postgres.SlotActive, st.LSN.Server = false, "16/F374D848"
			st.InFlight = cdc.InFlightStatus{}
			st.Errors = []cdc.ErrorStatus{{At: st.Since, Times: 1, Class: "blocked", Message: st.Reason}}
			st.Sessions["blocked"] = 1
		}),
		scene("standby", 5*24*time.Hour, func(st *cdc.Status) {
			st.State, st.Reason = cdc.Standby, "slot outrider_orders is read by pid 4711 (outrider/orders, from 10.1.4.22/32, since 2026-11-20T08:02:11Z)"
			st.Instance = "orders-5d8b7-1-q8w3"
			st.Topics, st.Records, st.Sessions = nil, cdc.RecordsStatus{}, map[string]int64{}
			st.LagSeconds, st.Postgres.LagBytes, st.InFlight, st.Errors = 0, 0, cdc.InFlightStatus{}, nil
			st.LSN = cdc.LSNStatus{Received: "0/0", Acked: "0/0", Stored: "0/0", Confirmed: "0/0", Server: st.LSN.Server}
		}),
	}
}

// wellStatus is the status of a relay that is well and has work.
func wellStatus(now time.Time) cdc.Status {
	safe := int64(15) << 30
	return cdc.Status{
		Name: "orders", Version: "v1.0.0", Instance: "orders-7f9c4-1-x2k9", State: cdc.Relaying, Delivery: cdc.ExactlyOnce,
		Postgres: cdc.PostgresStatus{
			Version: "18.1", SystemID: "7561234567890123456", Timeline: 3, Slot: "outrider_orders", SlotStatus: "reserved", SlotActive: true,
			RetainedBytes: 412 << 20, SafeBytes: &safe, LagBytes: 18 << 10,
		},
		LSN:        cdc.LSNStatus{Received: "16/B374D848", Acked: "16/B3749210", Stored: "16/B3700A18", Confirmed: "16/B3700A18", Server: "16/B374D9A0"},
		LagSeconds: 0.02,
		InFlight:   cdc.InFlightStatus{Records: 38, Bytes: 21 << 10, OldestSeconds: 0.02},
		Records:    cdc.RecordsStatus{Relayed: 1_948_213_407, SkippedDuplicates: 112},
		Topics: map[string]cdc.TopicStat{
			"outbox.event.order":   {Records: 1_402_118_904, Bytes: 812 << 30},
			"outbox.event.invoice": {Records: 401_772_310, Bytes: 190 << 30},
			"outbox.event.payment": {Records: 144_322_193, Bytes: 61 << 30},
		},
		Sessions: map[string]int64{"kafka": 2, "postgres": 1},
		Errors:   []cdc.ErrorStatus{{At: now.Add(-11 * 24 * time.Hour), Times: 3, Class: "postgres", Message: "read the stream: server closed the connection unexpectedly (57P01)"}},
	}
}

// pastHour makes up an hour that ends in st. Work comes in waves; what is wrong in the end has been so since st.Since.
func pastHour(now time.Time, st cdc.Status) admin.History {
	const interval, count = 5 * time.Second, 720
	h := admin.History{IntervalSeconds: interval.Seconds()}
	for i := range count {
		at := now.Add(time.Duration(i+1-count) * interval)
		x := float64(i)
		wave := 1 + 0.35*math.Sin(x/97) + 0.12*math.Sin(x/5.3) + 0.08*math.Sin(x*1.7)
		s := admin.Sample{
			Number: int64(i + 1), At: at, State: cdc.Relaying, RetainedBytes: 400 << 20, SafeBytes: st.Postgres.SafeBytes,
			LagSeconds: 0.03 * wave, EventsPerSecond: 2150 * wave, BytesPerSecond: 1.2e6 * wave,
			CommitToAck: &admin.Latency{P50: 0.003 * wave, P99: 0.011 * wave * wave},
		}
		wrong := at.Sub(st.Since)
		switch {
		case st.State == cdc.Standby:
			s = admin.Sample{Number: s.Number, At: at, State: cdc.Standby}
		case st.State != cdc.Relaying && wrong >= 0:
			s.State, s.LagSeconds, s.EventsPerSecond, s.CommitToAck = st.State, wrong.Seconds(), 0, nil
			if st.State == cdc.Degraded { // other partitions go on
				s.EventsPerSecond, s.CommitToAck = 1400*wave, &admin.Latency{P50: 0.004 * wave, P99: 0.02 * wave}
			}
		}
		h.Samples = append(h.Samples, s)
	}
	if st.State == cdc.Degraded {
		left := 11 * time.Minute.Seconds()
		h.SlotFullSeconds = &left
	}
	return h
}

// scriptedToken is a token that changes when a test says so, and counts how often it was asked for.
type scriptedToken struct {
	mu      sync.Mutex
	changed bool
	asks    int
}

const firstToken = "the first token"

func (k *scriptedToken) get() (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asks++
	if k.changed {
		return "another token", nil
	}
	return firstToken, nil
}

func (k *scriptedToken) user() *url.Userinfo { return url.UserPassword("anyone", firstToken) }

func (k *scriptedToken) change() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.changed = true
}

func (k *scriptedToken) asked() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.asks
}
