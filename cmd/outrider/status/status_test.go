package status

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
)

func TestStateAndAdviceComeInWords(t *testing.T) {
	since := time.Date(2026, 11, 25, 17, 0, 0, 0, time.UTC)
	safe := int64(3 << 30)
	for _, c := range []struct {
		st   cdc.Status
		says []string
	}{
		{
			cdc.Status{Name: "orders", Version: "v1", State: cdc.Halted, Reason: "blocked (gap): slot gone", Since: since, Delivery: "exactly-once"},
			[]string{"relay    orders (exactly-once)", "state    blocked, since 2026-11-25T17:00:00Z", "reason   blocked (gap): slot gone", "outrider resolve --name orders"},
		},
		{
			cdc.Status{
				Name: "orders", Version: "v1", State: cdc.Degraded, Reason: "one\ntwo", LagSeconds: 12.34, Postgres: cdc.PostgresStatus{Slot: "s", SlotStatus: "extended", RetainedBytes: 5 << 20, SafeBytes: &safe, LagBytes: 1536},
				LSN: cdc.LSNStatus{Confirmed: "0/1", Server: "0/2"}, Topics: map[string]cdc.TopicStat{"b": {Records: 2, Bytes: 10}, "a": {Records: 1}},
				LastError: &cdc.ErrorStatus{At: since, Class: "kafka", Message: "away"},
			},
			[]string{"one\n", "1.5 KiB of WAL, 12.3s", "s: extended, holds back 5.0 MiB of WAL; lost after 3.0 GiB more", "confirmed 0/1, server 0/2", "a: 1 record,", "b: 2 records, 10 B", "(kafka): away", "outrider check"},
		},
		{
			cdc.Status{Name: "orders", Version: "v1", State: cdc.Standby, LSN: cdc.LSNStatus{Confirmed: "0/0", Stored: "0/0", Acked: "0/0", Received: "0/0", Server: "0/2"}},
			[]string{"behind   the one that reads the slot knows\n", "LSNs     server 0/2\n"},
		},
		{cdc.Status{Name: "orders", State: cdc.Stopped, Reason: "it has never run"}, []string{"state   stopped\n", "outrider run"}},
	} {
		var b strings.Builder
		if err := Print(&b, &c.st); err != nil {
			t.Fatal(err)
		}
		for _, want := range c.says {
			if !strings.Contains(b.String(), want) {
				t.Errorf("no %q in\n%s", want, b.String())
			}
		}
	}
}

func TestEndpointIsAskedAsItsOwnMachineReachesIt(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:9187": "http://127.0.0.1:9187", ":9187": "http://localhost:9187", "0.0.0.0:1": "http://localhost:1", "[::]:1": "http://localhost:1", "[::1]:1": "http://[::1]:1", "": "",
	} {
		if got, err := Endpoint(address); got != want || (err == nil) != (want != "") {
			t.Errorf("%q gives %q, %v", address, got, err)
		}
	}
}

func TestTokenIsShownAndAnswersAreJudged(t *testing.T) {
	answer := func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer secret":
			http.Error(w, "the token of http.token_file is needed", http.StatusUnauthorized)
		case r.URL.Path == "/status":
			_ = json.NewEncoder(w).Encode(cdc.Status{Name: "orders", State: cdc.Relaying})
		default:
			_, _ = w.Write([]byte("{}"))
		}
	}
	server := httptest.NewServer(http.HandlerFunc(answer))
	defer server.Close()
	token := func() (string, error) { return "secret", nil }
	for _, c := range []struct {
		url, name string
		token     func() (string, error)
		says      string // of the error; empty: none
	}{
		{server.URL, "orders", token, ""},
		{server.URL + "/", "", token, ""},
		{server.URL, "other", token, "relay orders answers"},
		{server.URL, "orders", nil, "401 Unauthorized: the token of http.token_file is needed"},
		{server.URL + "/elsewhere", "orders", token, "is not the endpoint of a relay"},
		{"http://127.0.0.1:1", "orders", token, "--offline"},
		{"localhost:9187", "orders", token, "write http://host:port"},
	} {
		st, err := Fetch(context.Background(), c.url, c.name, c.token)
		if c.says == "" && (err != nil || st.State != cdc.Relaying) || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s for %q: %+v, %v", c.url, c.name, st, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the token is told: %v", err)
		}
	}
}
