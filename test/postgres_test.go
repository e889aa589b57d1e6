package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// stopStart makes a fault of a server's stop and next start.
func stopStart(how harness.Shutdown) func(*testing.T, *harness.Postgres, *scene) {
	return func(t *testing.T, pg *harness.Postgres, s *scene) {
		if took, err := pg.Stop(how, patience); err != nil {
			t.Fatalf("after %s: %v", took, err)
		}
		if err := pg.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.reconnect(t)
	}
}

func TestFaultsOfPostgresLoseAndRepeatNothing(t *testing.T) {
	t.Parallel()
	faults := []struct {
		name   string
		happen func(*testing.T, *harness.Postgres, *scene)
	}{
		{"Crash", stopStart(harness.Immediate)},
		{"Kill", stopStart(harness.Killed)},
		{"Restart", stopStart(harness.Fast)},
		{"WalsenderTerminated", func(t *testing.T, _ *harness.Postgres, s *scene) {
			harness.Exec(t, s.conn, `select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1`, s.slot())
		}},
		{"AllConnectionsTerminated", func(t *testing.T, _ *harness.Postgres, s *scene) {
			harness.Exec(t, s.conn, `select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'outrider%'`)
		}},
	}
	onBothEnds(t, func(t *testing.T, pg *harness.Postgres) {
		for _, fault := range faults {
			t.Run(fault.name, func(t *testing.T) {
				s := newScene(t, pg, sharedKafka(t), exactly)
				relay := s.relaying(t)
				load := startLoad(t, s, 4, 5*time.Millisecond)
				for range 3 {
					load.awaitRows(t, 300)
					pid := s.walsender(t)
					fault.happen(t, pg, s)
					harness.Eventually(t, patience, "the slot is read again", func() error {
						if now := s.walsender(t); now == 0 || now == pid {
							return fmt.Errorf("it is read by pid %d", now)
						}
						return nil
					})
					relay.AwaitState(t, cdc.Relaying, patience)
				}
				load.finish(t)
				s.awaitDelivered(t, harness.NoRepeats)
				relay.Stop(t)
			})
		}
	})
}

// A fast shutdown waits until every walsender's client has confirmed all there is. The relay must not be what it waits for.
func TestRelayNeverHoldsUpAFastShutdown(t *testing.T) {
	const bound = 2 * time.Second
	kafka := harness.NewKafka(t, harness.KafkaOptions{})
	pg := harness.NewPostgres(t, harness.PostgresOptions{})
	cycle := func(t *testing.T, s *scene) {
		t.Helper()
		took, err := pg.Stop(harness.Fast, patience)
		if err != nil || took > bound {
			t.Errorf("the shutdown took %s, more than %s (%v)", took, bound, err)
		}
		if err := pg.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.reconnect(t)
	}
	// Saves are rare, so that it is not a save which finds that the server is going.
	s := newScene(t, pg, kafka, exactly+"checkpoint: { interval: 1m }\n")
	relay := s.relaying(t)
	load := startLoad(t, s, 4, 5*time.Millisecond)
	t.Run("WhileRelaying", func(t *testing.T) {
		load.awaitRows(t, 1000)
		cycle(t, s)
		relay.AwaitState(t, cdc.Relaying, patience)
	})
	t.Run("WhileKafkaIsAway", func(t *testing.T) {
		load.awaitRows(t, 500)
		kafka.Nodes[0].Pause()
		load.awaitRows(t, 500)
		cycle(t, s)
	})
	s.reconnect(t) // the subtest's ended with it
	t.Run("WhileTheSessionWaitsForKafka", func(t *testing.T) {
		harness.Eventually(t, patience, "the relay owns the slot again", func() error {
			if pid := s.walsender(t); pid == 0 {
				return fmt.Errorf("nobody does")
			}
			return nil
		})
		load.awaitRows(t, 500)
		cycle(t, s)
	})
	kafka.Nodes[0].Resume()
	load.finish(t)
	s.reconnect(t)
	s.awaitDelivered(t, harness.NoRepeats)
}

func TestHalfOpenConnectionIsNoticed(t *testing.T) {
	t.Parallel()
	pg := harness.NewPostgres(t, harness.PostgresOptions{Settings: map[string]string{"wal_sender_timeout": "2s"}})
	s := newScene(t, pg, sharedKafka(t), exactly)
	proxy := harness.NewProxy(t, pg.Addr())
	direct := s.url
	s.url = strings.Replace(direct, pg.Addr(), proxy.Addr(), 1)
	relay := s.relaying(t)
	s.url = direct
	load := startLoad(t, s, 2, 10*time.Millisecond)
	for range 2 {
		load.awaitRows(t, 300)
		pid := s.walsender(t)
		proxy.Freeze()
		harness.Eventually(t, 20*time.Second, "the slot is read over another connection", func() error {
			if now := s.walsender(t); now == 0 || now == pid {
				return fmt.Errorf("it is read by pid %d", now)
			}
			return nil
		})
		relay.AwaitState(t, cdc.Relaying, patience)
	}
	load.finish(t)
	s.awaitDelivered(t, harness.NoRepeats)
}

// A relay whose sink takes no more must still report before the server gives it up, however soon that is.
func TestStallOutlivesAWALSenderTimeoutOfASecond(t *testing.T) {
	t.Parallel()
	stage := newStage(t, sharedPostgres(t))
	harness.Exec(t, stage.conn, `alter database `+stage.conn.Config().Database+` set wal_sender_timeout = '1s'`)
	relay := stage.startRelaying(t, sharedKafka(t).Brokers(), "kafka: { delivery: exactly-once, max_in_flight_bytes: 1MiB }\n")
	harness.WriteRows(t, stage.conn, stage.aggregate("a"), 1, 3000, 1000) // their topic is missing
	awaitDegraded(t, relay, stage.topic("a"), patience)
	pid := stage.walsender(t)
	harness.Throughout(t, 4*time.Second, "one walsender streams", func() error {
		if now := stage.walsender(t); now != pid {
			return fmt.Errorf("pid %d follows pid %d", now, pid)
		}
		return nil
	})
	sharedKafka(t).CreateTopic(t, stage.topic("a"), 3, 1, nil)
	harness.AwaitDelivered(t, stage.conn, sharedKafka(t).Brokers(), harness.NoRepeats, patience, stage.topic("a"))
	if st := relay.AwaitState(t, cdc.Relaying, patience); len(st.Sessions) > 0 {
		t.Errorf("sessions ended: %v", st.Sessions)
	}
}

// Behind one address there may be two servers. Saving the progress through one in the other's checkpoint would be a loss.
func TestConnectionsThatReachTwoServersAreRefused(t *testing.T) {
	t.Parallel()
	one, two := sharedPostgres(t), harness.NewPostgres(t, harness.PostgresOptions{})
	s := newScene(t, one, sharedKafka(t), exactly)
	other := two.Connect(t)
	harness.Exec(t, other, `create database `+s.conn.Config().Database)
	other = harness.Connect(t, two.DatabaseURL(s.conn.Config().Database))
	harness.CreateOutbox(t, other)

	proxy := harness.NewProxy(t, one.Addr())
	proxy.SetTarget(one.Addr(), two.Addr())
	direct := s.url
	s.url = strings.Replace(direct, one.Addr(), proxy.Addr(), 1)
	relay := s.launch(t)
	s.url = direct
	relay.AwaitLog(t, "the session's connections reach different servers", patience)
	if st := relay.AwaitState(t, cdc.Degraded, patience); !strings.Contains(st.Reason, "different servers") {
		t.Errorf("reason %q", st.Reason)
	}
	for server, conn := range map[string]*pgx.Conn{"the first": s.conn, "the second": other} {
		var touched bool
		queryRow(t, conn, `select to_regnamespace('outrider') is not null or exists (select from pg_replication_slots where slot_name = $1)`, []any{s.slot()}, &touched)
		if touched {
			t.Errorf("%s server holds a slot or a checkpoint", server)
		}
	}
	proxy.SetTarget(one.Addr())
	relay.AwaitState(t, cdc.Relaying, patience)
	harness.WriteRows(t, s.conn, s.kind, 1, 100, 10)
	s.awaitDelivered(t, harness.NoRepeats)
}
