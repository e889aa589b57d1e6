package test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// emptyStage is a stage without an outbox.
func emptyStage(t *testing.T, pg *harness.Postgres) *stage {
	t.Helper()
	s := &stage{url: pg.NewDatabase(t), name: uniqueName(t)}
	s.conn = harness.Connect(t, s.url)
	t.Cleanup(func() { s.dropSlot(t) })
	return s
}

// outrider runs a command for the stage's relay, and wants an exit code. It gives stdout and stderr.
func (s *stage) outrider(t *testing.T, want int, command string, args ...string) (out, log string) {
	t.Helper()
	env := []string{"OUTRIDER_KAFKA_TOPICS_REPLICATION_FACTOR=1"}
	out, log, code := harness.Command(t, env, append([]string{command, "--name", s.name, "--postgres", s.url}, args...)...)
	if code != want {
		t.Errorf("outrider %s %v: exit code %d, not %d\n%s%s", command, args, code, want, out, log)
	}
	return out, log
}

// ours counts what init makes: relations and functions in our schema, outbox tables, publications and slots of the database.
func (s *stage) ours(t *testing.T) (n int) {
	t.Helper()
	queryRow(t, s.conn, `select (select count(*) from pg_namespace where nspname = 'outrider') + (select count(*) from pg_class where relname like 'outbox%' and relkind in ('r', 'p'))
		+ (select count(*) from pg_publication) + (select count(*) from pg_replication_slots where database = current_database())`, nil, &n)
	return n
}

// The role has what init grants, and nothing else.
func TestInitMakesAllThatARelayWithAMinimalRoleNeeds(t *testing.T) {
	t.Parallel()
	onBothEnds(t, func(t *testing.T, pg *harness.Postgres) {
		s := emptyStage(t, pg)
		harness.Exec(t, s.conn, `create role relay login`)
		brokers := sharedKafka(t).Brokers()
		all := []string{"--role", "relay", "--kafka", strings.Join(brokers, ","), "--topics=" + s.topic("a")}
		_, log := s.outrider(t, 10, "init", "--role", "nobody_of_that_name")
		if !strings.Contains(log, `create role "nobody_of_that_name" login replication`) {
			t.Error(log)
		}
		out, _ := s.outrider(t, 0, "init", append(all, "--json")...)
		if strings.Count(out, `"made"`) != 5 {
			t.Error(out)
		}
		out, _ = s.outrider(t, 0, "init", all...)
		if strings.Contains(out, "made") || strings.Count(out, "there") != 5 {
			t.Errorf("the second time:\n%s", out)
		}

		owner := s.url
		s.url = as(t, s.url, "relay", "")
		s.outrider(t, 0, "check", "--kafka", strings.Join(brokers, ","))
		relay := s.startRelaying(t, brokers, exactly)
		harness.Exec(t, s.conn, `select outrider.publish($1, 'k', 'Placed', '{"n": 1}')`, s.aggregate("a"))
		harness.AwaitDelivered(t, s.conn, brokers, harness.NoRepeats, patience, s.topic("a"))
		s.url = owner

		if _, log := s.outrider(t, 1, "init", "--drop", "--yes"); !strings.Contains(log, "a relay is active") {
			t.Error(log)
		}
		if code := relay.Stop(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
		s.outrider(t, 2, "init", "--drop")
		s.outrider(t, 0, "init", "--drop", "--yes")
		if n := s.ours(t); n != 0 {
			t.Errorf("%d of our objects are left", n)
		}
		s.outrider(t, 0, "init", "--drop", "--yes") // there is nothing to do
	})
}

func TestInitSaysWhatASingleBrokerNeeds(t *testing.T) {
	t.Parallel()
	s := emptyStage(t, sharedPostgres(t))
	_, log, code := harness.Command(t, nil, "init", "--name", s.name, "--postgres", s.url, "--kafka", strings.Join(sharedKafka(t).Brokers(), ","), "--topics="+s.topic("a"))
	if code != 11 || !strings.Contains(log, "set kafka.topics.replication_factor") {
		t.Errorf("exit code %d\n%s", code, log)
	}
}

// Until it has run, a relay is known by its slot alone.
func TestDropLeavesWhatARelayThatHasNotRunYetNeeds(t *testing.T) {
	t.Parallel()
	s := emptyStage(t, sharedPostgres(t))
	s.outrider(t, 0, "init")
	other := &stage{url: s.url, name: uniqueName(t), conn: s.conn}
	t.Cleanup(func() { other.dropSlot(t) })
	other.outrider(t, 0, "init")
	if out, _ := other.outrider(t, 0, "init", "--drop", "--yes"); !strings.Contains(out, "which other relays use: slot outrider_"+s.name) {
		t.Error(out)
	}
	if out, _ := s.outrider(t, 0, "init"); strings.Contains(out, "made") {
		t.Errorf("the other relay has lost something:\n%s", out)
	}
	s.outrider(t, 0, "init", "--drop", "--yes")
	if n := s.ours(t); n != 0 {
		t.Errorf("%d objects are left after the last relay", n)
	}
}

// psql runs SQL as an administrator would who got it from somebody else.
func psql(t *testing.T, url, sql string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "psql", url, "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--file", "-")
	cmd.Stdin = strings.NewReader(sql)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("psql: %v\n%s\nof\n%s", err, out, sql)
	}
}

func TestInitPrintsWhatItWouldRun(t *testing.T) {
	t.Parallel()
	needTools(t, "psql")
	for _, flavor := range []string{"outrider", "tutorial", "debezium", "quarkus"} {
		t.Run(flavor, func(t *testing.T) {
			s := emptyStage(t, sharedPostgres(t))
			other := &stage{url: s.url, name: uniqueName(t), conn: s.conn}
			t.Cleanup(func() { other.dropSlot(t) })
			printed := func(s *stage, args ...string) string {
				t.Helper()
				sql, log, code := harness.Command(t, nil, append([]string{"init", "--name", s.name, "--flavor", flavor, "--role", "postgres", "--print-sql"}, args...)...)
				if code != 0 {
					t.Fatalf("exit code %d\n%s", code, log)
				}
				return sql
			}
			for _, relay := range []*stage{s, s, other} { // it is there the second time; and the second relay shares most of it
				psql(t, s.url, printed(relay))
				if out, _ := relay.outrider(t, 0, "init", "--flavor", flavor); strings.Contains(out, "made") {
					t.Errorf("init still had to make something:\n%s", out)
				}
			}
			var failover int
			queryRow(t, s.conn, `select count(*) from pg_replication_slots s where slot_name = any($1) and to_jsonb(s) ->> 'failover' = 'true'`, []any{[]string{s.slot(), other.slot()}}, &failover)
			if want := map[bool]int{true: 2}[sharedPostgres(t).Major >= slotSyncMajor]; failover != want {
				t.Errorf("%d slots follow a promotion, not %d", failover, want)
			}
			other.dropSlot(t)
			for range 2 {
				psql(t, s.url, printed(s, "--drop"))
			}
			if n := s.ours(t); n != 0 {
				t.Errorf("%d of our objects are left", n)
			}
		})
	}
}

// What other settings made has rows that nobody named.
func TestDropNamesWhatOtherSettingsHaveMade(t *testing.T) {
	t.Parallel()
	s := emptyStage(t, sharedPostgres(t))
	s.outrider(t, 0, "init", "--flavor", "quarkus", "--publication", "events")
	out, _ := s.outrider(t, 0, "init", "--drop", "--yes")
	for _, says := range []string{"left     publication events, which init has made: --publication events drops it", "left     outbox table public.outboxevent, which init has made: --table public.outboxevent drops it"} {
		if !strings.Contains(out, says) {
			t.Errorf("no %q in\n%s", says, out)
		}
	}
	s.outrider(t, 0, "init", "--drop", "--yes", "--publication", "events", "--table", "public.outboxevent")
	if n := s.ours(t); n != 0 {
		t.Errorf("%d of our objects are left", n)
	}
	s.outrider(t, 0, "init", "--binary")
	harness.Exec(t, s.conn, `create table outrider.notes (text text)`)
	if out, _ := s.outrider(t, 0, "init", "--drop", "--yes"); !strings.Contains(out, "left     schema outrider, in which something else is") || strings.Contains(out, "left     outbox") {
		t.Error(out)
	}
}

// Made again, publication or slot would hide that what was committed in between is missing.
func TestInitMakesNoSecondSlotForARelayThatHasRun(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	relay := s.relaying(t)
	if code := relay.Stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	dropSlot(t, nil, s)
	if _, log := s.outrider(t, 10, "init"); !strings.Contains(log, "slot "+s.slot()+" is gone") || !strings.Contains(log, "outrider resolve") {
		t.Error(log)
	}
	harness.Exec(t, s.conn, `drop publication outrider`)
	if _, log := s.outrider(t, 10, "init"); !strings.Contains(log, "publication outrider does not exist") {
		t.Error(log)
	}
	if st := s.offline(t); st.State != cdc.Halted || !strings.Contains(st.Reason, "blocked (gap)") {
		t.Errorf("offline it is %s: %s", st.State, st.Reason)
	}
}
