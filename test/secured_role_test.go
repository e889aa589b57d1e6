package test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// roleRights are all rights of the relay's role, besides those to connect to the database and to log in.
var roleRights = []struct {
	name, grant, revoke string // the role is $role
	// missing is what the relay says without it: as it ends or, where that shows in a session only, as the reason of its state.
	// Empty: it relays without.
	missing string
	later   bool
}{
	{"replication", `alter role $role replication`, `alter role $role noreplication`, `alter role $role replication`, false},
	{"usage of schema outrider", `grant usage on schema outrider to $role`, `revoke usage on schema outrider from $role`, "permission denied for schema outrider", false},
	{"select on checkpoint", `grant select on outrider.checkpoint to $role`, `revoke select on outrider.checkpoint from $role`, "permission denied for table checkpoint", false},
	{"insert on checkpoint", `grant insert on outrider.checkpoint to $role`, `revoke insert on outrider.checkpoint from $role`, "permission denied for table checkpoint", false},
	{"update on checkpoint", `grant update on outrider.checkpoint to $role`, `revoke update on outrider.checkpoint from $role`, "permission denied for table checkpoint", false},
	{"delete on checkpoint", `grant delete on outrider.checkpoint to $role`, `revoke delete on outrider.checkpoint from $role`, "", false},
	{"select on partition", `grant select on outrider.partition to $role`, `revoke select on outrider.partition from $role`, "permission denied for table partition", false},
	{"insert on partition", `grant insert on outrider.partition to $role`, `revoke insert on outrider.partition from $role`, "permission denied for table partition", true},
	{"update on partition", `grant update on outrider.partition to $role`, `revoke update on outrider.partition from $role`, "permission denied for table partition", true},
	{"delete on partition", `grant delete on outrider.partition to $role`, `revoke delete on outrider.partition from $role`, "", false},
	{"select on the outbox", `grant select on public.outbox to $role`, `revoke select on public.outbox from $role`, "", false},
	{"usage of the outbox's schema", `grant usage on schema public to $role`, `revoke usage on schema public from $role`, "", false},
}

func TestRelayRunsAsARoleWithTheseRightsAndNoOthers(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	relay := s.relaying(t) // makes publication, slot and tables, as init does
	rows := 0
	write := func(t *testing.T) {
		t.Helper()
		harness.WriteRows(t, s.conn, s.kind, rows+1, rows+100, 10)
		rows += 100
	}
	write(t)
	s.awaitDelivered(t, harness.NoRepeats)
	if code := relay.Stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	role := pgx.Identifier{"minimal_" + s.name[len(s.name)-16:]}
	do := func(sql string) {
		t.Helper()
		harness.Exec(t, s.conn, strings.ReplaceAll(sql, "$role", role.Sanitize()))
	}
	// Whoever has no rights has none by these either.
	database := pgx.Identifier{s.conn.Config().Database}.Sanitize()
	do(`revoke all on schema public from public`)
	do(`revoke all on database ` + database + ` from public`)
	do(`create role $role login`)
	do(`grant connect on database ` + database + ` to $role`)
	for _, right := range roleRights {
		do(right.grant)
	}
	s.url = as(t, s.url, role[0], "")
	relays := func(t *testing.T) {
		relay := s.relaying(t)
		write(t)
		s.awaitDelivered(t, harness.NoRepeats)
		if code := relay.Stop(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
	t.Run("with all of them", relays)
	for _, right := range roleRights {
		t.Run("without "+right.name, func(t *testing.T) {
			do(right.revoke)
			defer do(right.grant)
			missing := strings.ReplaceAll(right.missing, "$role", role.Sanitize())
			switch {
			case missing == "":
				relays(t)
			case right.later:
				relay := s.launch(t)
				awaitDegraded(t, relay, missing, patience)
				do(right.grant)
				relay.AwaitState(t, cdc.Relaying, patience)
				if code := relay.Stop(t); code != 0 {
					t.Errorf("exit code %d", code)
				}
			default:
				relay := s.launch(t)
				if code := relay.ExitCode(t, patience); code != 10 {
					t.Errorf("exit code %d", code)
				}
				if last := lastLine(t, relay); !strings.Contains(last, missing) || !strings.Contains(last, role.Sanitize()) {
					t.Errorf("the last line does not say %q and for which role: %s", missing, last)
				}
			}
		})
	}
}
