package cdc

import (
	"context"
	"strings"
	"testing"
)

func TestAllConnectionsSeeTheSameServer(t *testing.T) {
	pg := database(t, "")
	theirs, err := identifyServer(t.Context(), control(t, pg))
	if err != nil {
		t.Fatal(err)
	}
	ours, end, err := replication(t, pg).identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := sameServer(ours, theirs); err != nil || end == 0 {
		t.Errorf("%v, WAL ends at %s", err, end)
	}
	for name, change := range map[string]func(*serverID){
		"another cluster":  func(s *serverID) { s.systemID = "7" },
		"promoted":         func(s *serverID) { s.timeline++ },
		"restarted, clone": func(s *serverID) { s.started += "1" },
	} {
		other := theirs
		change(&other)
		if sameServer(ours, other) == nil {
			t.Errorf("%s: taken for the same server", name)
		}
	}
}

func TestListenerSeesTheEndOfItsConnection(t *testing.T) {
	pg := database(t, "")
	ears := control(t, pg)
	heard := make(chan error)
	go func() { heard <- listen(context.Background(), ears) }()
	run(t, control(t, pg), "select pg_terminate_backend($1)", ears.PgConn().PID())
	if err := <-heard; classifyPg(err) != pgGoingDown || !strings.Contains(err.Error(), "57P01") {
		t.Error(err)
	}

	ears = control(t, pg)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { heard <- listen(ctx, ears) }()
	cancel()
	if err := <-heard; err != nil {
		t.Errorf("told to stop: %v", err)
	}
}

// Defaults of the database or the role must not change what is relayed.
func TestSessionParametersDecideTheTextOfValues(t *testing.T) {
	pg := database(t, `create table outbox (id int, at timestamptz, span interval, raw bytea, f float8);
		create publication outrider for table outbox with (publish = 'insert');
		do $$ begin
			execute format('alter database %I set datestyle = german', current_database());
			execute format('alter database %I set timezone = ''Asia/Tokyo''', current_database());
			execute format('alter database %I set intervalstyle = sql_standard', current_database());
			execute format('alter database %I set bytea_output = escape', current_database());
			execute format('alter database %I set extra_float_digits = -10', current_database());
			execute format('alter database %I set synchronous_commit = off', current_database());
		end $$`)
	conn, repl := control(t, pg), replication(t, pg)
	run(t, conn, "select pg_create_logical_replication_slot($1, 'pgoutput')", pg.Slot)
	run(t, conn, `insert into outbox values (1, '2024-02-03 04:05:06.789+00', '1 day 02:03:04', '\x00ff', 0.1::float8 + 0.2)`)
	if err := repl.start(t.Context(), pg.Slot, 0, pg.pluginArgs()); err != nil {
		t.Fatal(err)
	}
	row := firstRow(t, repl)
	for _, want := range []string{"2024-02-03 04:05:06.789+00", "1 day 02:03:04", `\x00ff`, "0.30000000000000004"} {
		if !strings.Contains(row, want) {
			t.Errorf("%q has no %q", row, want)
		}
	}
	var commit string
	if err := conn.QueryRow(t.Context(), "show synchronous_commit").Scan(&commit); err != nil || commit != "on" {
		t.Errorf("synchronous_commit of the control connection is %q, %v", commit, err)
	}
}

func TestPasswordIsAskedAtEveryDial(t *testing.T) {
	pg := database(t, "")
	asked := 0
	pg.Password = func() (string, error) { asked++; return "x", nil }
	control(t, pg)
	replication(t, pg)
	if asked != 2 {
		t.Errorf("asked %d times in two dials", asked)
	}
}

func TestWALSenderTimeoutIsThatOfOurOwnSession(t *testing.T) {
	pg := database(t, "")
	t.Setenv("PGOPTIONS", "-c wal_sender_timeout=7s")
	if d, err := replication(t, pg).walSenderTimeout(t.Context()); err != nil || d.Seconds() != 7 {
		t.Errorf("%v %v", d, err)
	}
}
