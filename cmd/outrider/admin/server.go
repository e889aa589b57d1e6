// Package admin answers over HTTP how a relay is doing. Nothing can be changed through it.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"github.com/outrider-relay/outrider/cdc"
)

// Relay is what is asked about.
type Relay interface {
	Status() cdc.Status
	// Healthy is nil while the process's own loops turn, whatever becomes of Postgres and Kafka.
	Healthy() error
	// Ready is true while relaying, or standing by able to take over; the text says which, or why not.
	Ready() (bool, string)
}

// Server is the endpoint.
type Server struct {
	Relay   Relay
	Metrics prometheus.Gatherer
	// Token, when not nil, gives the token that the page, /status and /history ask for. It is called at every request, so that a new one holds at once.
	Token func() (string, error)
	// Insecure opens them off loopback where there is no token.
	Insecure bool
	// Log is told of requests that broke the server; those that were merely wrong are the client's to see.
	Log zerolog.Logger
}

// Answers are small and made from memory: a client that takes longer than this holds a connection for nothing.
const (
	requestTimeout  = 5 * time.Second
	responseTimeout = 30 * time.Second
	idleTimeout     = 2 * time.Minute
	maxHeaderBytes  = 16 << 10
	// shutdownTimeout lets a probe under way be answered.
	shutdownTimeout = time.Second
)

// Listen opens the endpoint's socket, so that an address that cannot be had is an error before anything is relayed.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("http.listen: %w: choose another address, or \"\" to do without the endpoint", err)
	}
	return l, nil
}

// Run serves on l until ctx ends. It closes l.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	h := &historian{relay: s.Relay, metrics: s.Metrics}
	server := &http.Server{
		Handler:           s.handler(isLoopback(l.Addr()), h),
		ReadHeaderTimeout: requestTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      responseTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(s.Log, "", 0),
	}
	h.sample(time.Now()) // nobody who asks finds it empty
	sampling, stopSampling := context.WithCancel(ctx)
	sampled := make(chan struct{})
	go func() { h.run(sampling); close(sampled) }()
	defer func() { stopSampling(); <-sampled }()
	served := make(chan error, 1)
	go func() { served <- server.Serve(limit(l)) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve http: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := server.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close() // whoever is still connected has had its time
	}
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("close http: %w", err)
	}
	return nil
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// handler routes. Only GET, and with it HEAD, exists: any other method is answered with 405.
func (s *Server) handler(loopback bool, h *historian) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.Metrics, promhttp.HandlerOpts{ErrorLog: log.New(s.Log, "", 0)}))
	mux.Handle("GET /status", s.guard(loopback, s.status))
	mux.Handle("GET /history", s.guard(loopback, h.serve))
	mux.Handle("GET /{$}", s.guard(loopback, s.page))
	mux.Handle("GET /page.css", s.guard(loopback, pageFile("text/css; charset=utf-8", pageCSS)))
	mux.Handle("GET /page.js", s.guard(loopback, pageFile("text/javascript; charset=utf-8", pageJS)))
	return mux
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	if err := s.Relay.Healthy(); err != nil {
		text(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	text(w, http.StatusOK, "ok")
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	ready, why := s.Relay.Ready()
	if !ready {
		text(w, http.StatusServiceUnavailable, why)
		return
	}
	text(w, http.StatusOK, why)
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	document(w, s.Relay.Status(), "  ") // people read it too
}

// document answers with v as JSON.
func document(w http.ResponseWriter, v any, indent string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", indent)
	_ = encoder.Encode(v) // the client has gone
}

func text(w http.ResponseWriter, code int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = fmt.Fprintln(w, line) // the client has gone
}
