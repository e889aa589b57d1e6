package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"

	"github.com/outrider-relay/outrider/cdc"
)

// relay is a relay in a state that the test chooses.
type relay struct {
	status  cdc.Status
	healthy error
	ready   bool
	why     string
}

func (r *relay) Status() cdc.Status    { return r.status }
func (r *relay) Healthy() error        { return r.healthy }
func (r *relay) Ready() (bool, string) { return r.ready, r.why }

// serve runs s on an address and gives the base of its URLs.
func serve(t *testing.T, s *Server, address string) string {
	t.Helper()
	if s.Metrics == nil {
		s.Metrics = prometheus.NewRegistry()
	}
	s.Log = zerolog.Nop()
	l, err := Listen(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return "http://127.0.0.1:" + port
}

// do sends a request and gives the code, the body and the header.
func do(t *testing.T, method, url string, auth func(*http.Request)) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if auth != nil {
		auth(r)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, strings.TrimSpace(string(b)), answer.Header
}

func TestHealthAndReadinessAreTheRelaysOwn(t *testing.T) {
	r := &relay{}
	base := serve(t, &Server{Relay: r}, "127.0.0.1:0")
	for _, c := range []struct {
		path string
		set  func()
		code int
		body string
	}{
		{"/healthz", func() { r.healthy = nil }, 200, "ok"},
		{"/healthz", func() { r.healthy = errors.New("the read loop is stuck") }, 503, "the read loop is stuck"},
		{"/readyz", func() { r.ready, r.why = true, "standby" }, 200, "standby"},
		{"/readyz", func() { r.ready, r.why = false, "blocked: gap" }, 503, "blocked: gap"},
	} {
		c.set()
		if code, body, _ := do(t, "GET", base+c.path, nil); code != c.code || body != c.body {
			t.Errorf("%s answers %d %q, want %d %q", c.path, code, body, c.code, c.body)
		}
	}
}

func TestStatusIsTheRelaysDocument(t *testing.T) {
	r := &relay{status: cdc.Status{Name: "orders", State: cdc.Relaying, Topics: map[string]cdc.TopicStat{"t": {Records: 3}}}}
	base := serve(t, &Server{Relay: r}, "127.0.0.1:0")
	code, body, header := do(t, "GET", base+"/status", nil)
	var got cdc.Status
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 || header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v %v %s", code, err, header, body)
	}
	if got.Name != "orders" || got.State != cdc.Relaying || got.Topics["t"].Records != 3 {
		t.Errorf("%+v", got)
	}
}

func TestPageShowsStateAndLinksTheRest(t *testing.T) {
	r := &relay{status: cdc.Status{Name: "orders", State: cdc.Halted, Reason: "<b>gap</b>"}}
	base := serve(t, &Server{Relay: r}, "127.0.0.1:0")
	code, body, _ := do(t, "GET", base+"/", nil)
	for _, want := range []string{`data-state="blocked"`, "<title>orders: blocked</title>", "&lt;b&gt;gap", `href="status"`, `href="metrics"`, `href="readyz"`, `href="healthz"`} {
		if code != 200 || !strings.Contains(body, want) {
			t.Errorf("%d, no %q in %s", code, want, body)
		}
	}
	if code, _, _ := do(t, "GET", base+"/nothing", nil); code != 404 {
		t.Errorf("an unknown path answers %d", code)
	}
}

func TestNoMethodChangesAnything(t *testing.T) {
	base := serve(t, &Server{Relay: &relay{}}, "127.0.0.1:0")
	for _, path := range []string{"/", "/page.css", "/page.js", "/status", "/history", "/metrics", "/healthz", "/readyz"} {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
			if code, _, header := do(t, method, base+path, nil); code != 405 || !strings.Contains(header.Get("Allow"), "GET") {
				t.Errorf("%s %s answers %d, allows %q", method, path, code, header.Get("Allow"))
			}
		}
	}
}

func TestTokenIsAskedForWhereItMatters(t *testing.T) {
	token := func() (string, error) { return "right", nil }
	bearer := func(s string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+s) }
	}
	basic := func(s string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth("anyone", s) }
	}
	named := func(host string) func(*http.Request) { return func(r *http.Request) { r.Host = host } }
	for _, c := range []struct {
		about   string
		address string
		server  Server
		ask     func(*http.Request)
		code    int // of the page, its files, /status and /history; the others are open always
	}{
		{"loopback, no token", "127.0.0.1:0", Server{}, nil, 200},
		{"loopback, by its name", "127.0.0.1:0", Server{}, named("localhost"), 200},
		{"loopback, by a name that is always its own", "127.0.0.1:0", Server{}, named("orders.localhost:9187"), 200},
		{"loopback, by its address of version 6", "127.0.0.1:0", Server{}, named("[::1]:9187"), 200},
		{"loopback, by a tunnel's address", "127.0.0.1:0", Server{}, named("192.0.2.1"), 200},
		{"loopback, by a name that somebody else gave it", "127.0.0.1:0", Server{}, named("localhost.example:9187"), 403},
		{"loopback, by such a name, insecure", "127.0.0.1:0", Server{Insecure: true}, named("relay.example"), 200},
		{"loopback, by such a name, with a token", "127.0.0.1:0", Server{Token: token}, func(r *http.Request) { r.Host = "relay.example"; bearer("right")(r) }, 200},
		{"everywhere, no token", "0.0.0.0:0", Server{}, nil, 403},
		{"everywhere, insecure", "0.0.0.0:0", Server{Insecure: true}, nil, 200},
		{"everywhere, none presented", "0.0.0.0:0", Server{Token: token}, nil, 401},
		{"everywhere, wrong", "0.0.0.0:0", Server{Token: token}, bearer("wrong"), 401},
		{"everywhere, empty", "0.0.0.0:0", Server{Token: token}, bearer(""), 401},
		{"everywhere, bearer", "0.0.0.0:0", Server{Token: token}, bearer("right"), 200},
		{"everywhere, a browser's password", "0.0.0.0:0", Server{Token: token}, basic("right"), 200},
		{"everywhere, a browser's wrong password", "0.0.0.0:0", Server{Token: token}, basic("wrong"), 401},
		{"a token holds on loopback too", "127.0.0.1:0", Server{Token: token}, nil, 401},
		{"a token wins over insecure", "0.0.0.0:0", Server{Token: token, Insecure: true}, nil, 401},
		{"unreadable", "0.0.0.0:0", Server{Token: func() (string, error) { return "", errors.New("gone") }}, bearer(""), 503},
	} {
		t.Run(c.about, func(t *testing.T) {
			s := c.server
			s.Relay = &relay{ready: true}
			base := serve(t, &s, c.address)
			for path, want := range map[string]int{
				"/": c.code, "/page.css": c.code, "/page.js": c.code, "/status": c.code, "/history": c.code,
				"/metrics": 200, "/healthz": 200, "/readyz": 200,
			} {
				if code, body, _ := do(t, "GET", base+path, c.ask); code != want {
					t.Errorf("%s answers %d %q, want %d", path, code, body, want)
				}
			}
		})
	}
}

func TestTakenAddressIsAnErrorAtOnce(t *testing.T) {
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, err = Listen(t.Context(), l.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "address already in use") || !strings.Contains(err.Error(), "http.listen") {
		t.Errorf("%v", err)
	}
}

func TestRunEndsWhileAClientStays(t *testing.T) {
	s := &Server{Relay: &relay{}, Metrics: prometheus.NewRegistry(), Log: zerolog.Nop()}
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\n"); err != nil { // and never the rest
		t.Fatal(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the socket is still open")
	}
}

func TestMetricsFollowTheStatus(t *testing.T) {
	safe := int64(500)
	r := &relay{status: cdc.Status{
		State: cdc.Degraded, LagSeconds: 1.5, Sessions: map[string]int64{"kafka": 2},
		Postgres: cdc.PostgresStatus{SlotStatus: "reserved", SlotActive: true, RetainedBytes: 400, SafeBytes: &safe, LagBytes: 300},
		LSN:      cdc.LSNStatus{Received: "1/10", Acked: "1/9", Stored: "1/8", Confirmed: "1/7", Server: "1/11"},
		InFlight: cdc.InFlightStatus{Records: 7, Bytes: 700, OldestSeconds: 1.25},
		Records:  cdc.RecordsStatus{SkippedDuplicates: 9},
		Ignored:  cdc.IgnoredStatus{Inserts: 5, Updates: 1, Deletes: 2, Truncates: 3, Messages: 4},
	}}
	want := `
# HELP outrider_ignored_total What the stream brought and is no event: inserts into other tables, updates, deletes, truncates, and logical messages that are not transactional.
# TYPE outrider_ignored_total counter
outrider_ignored_total{kind="delete"} 2
outrider_ignored_total{kind="insert"} 5
outrider_ignored_total{kind="message"} 4
outrider_ignored_total{kind="truncate"} 3
outrider_ignored_total{kind="update"} 1
# HELP outrider_in_flight_bytes Bytes of records appended and not yet acked.
# TYPE outrider_in_flight_bytes gauge
outrider_in_flight_bytes 700
# HELP outrider_in_flight_records Records appended and not yet acked.
# TYPE outrider_in_flight_records gauge
outrider_in_flight_records 7
# HELP outrider_lag_bytes WAL between what is acked and the server's end.
# TYPE outrider_lag_bytes gauge
outrider_lag_bytes 300
# HELP outrider_lag_seconds Age of the oldest commit not yet acked, also while it is still unread; 0 when drained.
# TYPE outrider_lag_seconds gauge
outrider_lag_seconds 1.5
# HELP outrider_lsn Position in the WAL, as a number: confirmed <= stored <= acked <= received <= server.
# TYPE outrider_lsn gauge
outrider_lsn{kind="acked"} 4.294967305e+09
outrider_lsn{kind="confirmed"} 4.294967303e+09
outrider_lsn{kind="received"} 4.294967312e+09
outrider_lsn{kind="server"} 4.294967313e+09
outrider_lsn{kind="stored"} 4.294967304e+09
# HELP outrider_oldest_unacked_seconds Time since the oldest unacked event was committed; 0 when there is none.
# TYPE outrider_oldest_unacked_seconds gauge
outrider_oldest_unacked_seconds 1.25
# HELP outrider_sessions_total Ended sessions, by how they ended.
# TYPE outrider_sessions_total counter
outrider_sessions_total{end="kafka"} 2
# HELP outrider_skipped_duplicates_total Events that were sent again by Postgres and had been delivered before.
# TYPE outrider_skipped_duplicates_total counter
outrider_skipped_duplicates_total 9
# HELP outrider_slot_active 1 while a connection streams from the slot.
# TYPE outrider_slot_active gauge
outrider_slot_active 1
# HELP outrider_slot_retained_bytes WAL that the slot holds back.
# TYPE outrider_slot_retained_bytes gauge
outrider_slot_retained_bytes 400
# HELP outrider_slot_safe_bytes WAL that may still be written before the server gives the slot up; absent when unlimited.
# TYPE outrider_slot_safe_bytes gauge
outrider_slot_safe_bytes 500
# HELP outrider_slot_wal_status 1 for the slot's present wal_status, 0 for the others; unreserved is lost at the next checkpoint of Postgres.
# TYPE outrider_slot_wal_status gauge
outrider_slot_wal_status{status="extended"} 0
outrider_slot_wal_status{status="lost"} 0
outrider_slot_wal_status{status="reserved"} 1
outrider_slot_wal_status{status="unreserved"} 0
# HELP outrider_state 1 for the present state, 0 for the others.
# TYPE outrider_state gauge
outrider_state{state="blocked"} 0
outrider_state{state="degraded"} 1
outrider_state{state="draining"} 0
outrider_state{state="relaying"} 0
outrider_state{state="standby"} 0
outrider_state{state="starting"} 0
`
	if err := testutil.CollectAndCompare(statusCollector{r}, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(statusCollector{r}); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

func TestWhatIsUnknownIsNoMetric(t *testing.T) {
	r := &relay{status: cdc.Status{State: cdc.Starting, LSN: cdc.LSNStatus{Received: "0/0", Server: "0/0"}}}
	for _, name := range []string{"outrider_lsn", "outrider_lag_bytes", "outrider_slot_retained_bytes", "outrider_slot_safe_bytes", "outrider_slot_active"} {
		if n := testutil.CollectAndCount(statusCollector{r}, name); n != 0 {
			t.Errorf("%s is there before anything is known", name)
		}
	}
	r.status.State, r.status.LSN.Server = cdc.Standby, "1/11"
	for _, name := range []string{"outrider_lag_seconds", "outrider_lag_bytes"} {
		if n := testutil.CollectAndCount(statusCollector{r}, name); n != 0 {
			t.Errorf("a standby tells %s, which only the other relay knows", name)
		}
	}
}

func TestStandbyTellsNothingOfTheSlot(t *testing.T) {
	r := &relay{status: cdc.Status{State: cdc.Standby, Postgres: cdc.PostgresStatus{SlotStatus: "reserved", SlotActive: true, RetainedBytes: 1}}}
	for _, name := range []string{"outrider_slot_retained_bytes", "outrider_slot_active", "outrider_slot_wal_status"} {
		if n := testutil.CollectAndCount(statusCollector{r}, name); n != 0 {
			t.Errorf("%s is there, as it was long ago", name)
		}
	}
}

func TestMetricsEndpointShowsBuildProcessAndOthers(t *testing.T) {
	other := prometheus.NewCounter(prometheus.CounterOpts{Name: "outrider_other_total", Help: "Other."})
	r := &relay{}
	registry := Registry(r, prometheus.Labels{"version": "v1.2.3"}, other)
	base := serve(t, &Server{Relay: r, Metrics: registry}, "127.0.0.1:0")
	code, body, _ := do(t, "GET", base+"/metrics", nil)
	for _, want := range []string{`outrider_build_info{version="v1.2.3"} 1`, "outrider_other_total 0", "go_goroutines", "process_resident_memory_bytes", `outrider_state{state="standby"} 0`} {
		if code != 200 || !strings.Contains(body, want) {
			t.Errorf("%d, no %q", code, want)
		}
	}
}
