package test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// The old leader's connection for saves lives on. It is the generation that keeps it from storing anything.
func TestLeaderWhoseSlotWasTakenStoresNothingAndStandsBy(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedPostgres(t), sharedKafka(t), exactly)
	proxy := harness.NewProxy(t, sharedPostgres(t).Addr())
	direct := s.url
	s.url = strings.Replace(direct, sharedPostgres(t).Addr(), proxy.Addr(), 1)
	leader := s.relaying(t)
	s.url = direct
	standby := s.launch(t)
	standby.AwaitState(t, cdc.Standby, patience)
	// Who writes to the checkpoint, in what order.
	execute(t, s, `create table writes (n serial, pid int);
		create function note_write() returns trigger language plpgsql as $$ begin insert into public.writes (pid) values (pg_backend_pid()); return new; end $$;
		create trigger note_write before update on outrider.checkpoint for each row execute function public.note_write()`)
	load := startLoad(t, s, 2, 10*time.Millisecond)
	load.awaitRows(t, 300)
	var old int
	harness.Eventually(t, patience, "the leader has saved", func() error {
		return s.conn.QueryRow(t.Context(), `select pid from writes order by n limit 1`).Scan(&old)
	})

	proxy.FreezeIf(func(hello []byte) bool { return bytes.Contains(hello, []byte("replication")) })
	harness.Exec(t, s.conn, `select pg_terminate_backend($1)`, s.walsender(t))
	standby.AwaitState(t, cdc.Relaying, patience)
	leader.AwaitState(t, cdc.Standby, patience)
	load.awaitRows(t, 300)
	load.finish(t)
	s.awaitDelivered(t, harness.NoRepeats)
	var late int
	queryRow(t, s.conn, `select count(*) from writes where pid = $1 and n > (select min(n) from writes where pid <> $1)`, []any{old}, &late)
	if late > 0 {
		t.Errorf("the old leader has written to the checkpoint %d times after it was taken", late)
	}
}
