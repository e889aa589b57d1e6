package simulation

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/test/harness"
)

// database is the model, or a real server.
type database interface {
	// config says how to connect.
	config() *pgx.ConnConfig
	// insert writes a row in the transaction of that name, which it begins; commit ends it.
	insert(transaction string)
	commit(transaction string)
	// end is the end of WAL.
	end() lsn
	// restart crashes the server and starts it again.
	restart()
}

// modelDatabase is the model behind the interface.
type modelDatabase struct {
	t    *testing.T
	s    *server
	net  *network
	open map[string]*[]change
}

func (m *modelDatabase) config() *pgx.ConnConfig {
	cfg, err := pgx.ParseConfig("host=127.0.0.1 port=5432 user=relay dbname=model sslmode=disable")
	if err != nil {
		m.t.Fatal(err)
	}
	cfg.DialFunc = m.net.dialler("script", func() bool { return false })
	cfg.RuntimeParams["synchronous_commit"] = "on"
	return cfg
}

func (m *modelDatabase) insert(name string) {
	if m.open[name] == nil {
		m.open[name] = new([]change)
	}
	m.s.insert(m.open[name], event{id: "00000000-0000-0000-0000-000000000001", kind: "order", key: name})
}

func (m *modelDatabase) commit(name string) { m.s.commit(*m.open[name]) }

func (m *modelDatabase) end() lsn {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	return m.s.end
}

func (m *modelDatabase) restart() {
	m.s.crash()
	m.s.start()
}

// realDatabase is a server of the harness.
type realDatabase struct {
	t    *testing.T
	pg   *harness.Postgres
	open map[string]*pgx.Conn
}

func (r *realDatabase) config() *pgx.ConnConfig {
	cfg, err := pgx.ParseConfig(r.pg.URL())
	if err != nil {
		r.t.Fatal(err)
	}
	return cfg
}

func (r *realDatabase) insert(name string) {
	if r.open[name] == nil {
		r.open[name] = harness.Connect(r.t, r.pg.URL())
		harness.Exec(r.t, r.open[name], "begin")
	}
	harness.Exec(r.t, r.open[name], "insert into public.outbox (aggregate_type, aggregate_id, event_type) values ('order', $1, 'Changed')", name)
}

func (r *realDatabase) commit(name string) {
	harness.Exec(r.t, r.open[name], "commit")
	_ = r.open[name].Close(r.t.Context())
}

func (r *realDatabase) end() (at lsn) {
	conn := harness.Connect(r.t, r.pg.URL())
	defer func() { _ = conn.Close(r.t.Context()) }()
	var text string
	if err := conn.QueryRow(r.t.Context(), "select pg_current_wal_flush_lsn()::text").Scan(&text); err != nil {
		r.t.Fatal(err)
	}
	at, err := parseLSN(text)
	if err != nil {
		r.t.Fatal(err)
	}
	return at
}

func (r *realDatabase) restart() {
	if _, err := r.pg.Stop(harness.Immediate, 20*time.Second); err != nil {
		r.t.Fatal(err)
	}
	if err := r.pg.Start(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}
