package harness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// standbySlot is the physical slot of a standby on its primary.
const standbySlot = "standby"

// NewStandby starts a server that follows p through addr, which leads to p. p is restarted for it. There may be one standby
// of a server.
func (p *Postgres) NewStandby(t testing.TB, addr string) *Postgres {
	t.Helper()
	Exec(t, p.Connect(t), `select pg_create_physical_replication_slot($1, true)`, standbySlot)
	if _, err := p.Stop(Fast, time.Minute); err != nil {
		t.Fatalf("stop the primary: %v", err)
	}
	s, err := p.copyStopped(addr)
	if err != nil {
		t.Fatalf("copy the primary: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("stop the standby: %v", err)
		}
	})
	for _, server := range []*Postgres{p, s} {
		if err := server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// copyStopped makes a server that has not been started, with a copy of the data folder.
func (p *Postgres) copyStopped(addr string) (*Postgres, error) {
	s := &Postgres{Major: p.Major, binaries: p.binaries, settings: maps.Clone(p.settings), account: p.account, temp: true}
	var err error
	if s.Dir, err = folder("/tmp", "pg"); err != nil {
		return nil, err
	}
	if s.Port, err = freePort(); err != nil {
		return nil, err
	}
	host, port, _ := strings.Cut(addr, ":")
	for k, v := range map[string]string{
		"port": fmt.Sprint(s.Port), "unix_socket_directories": s.Dir, "hot_standby_feedback": "on", "primary_slot_name": standbySlot,
		"primary_conninfo": fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres application_name=%s", host, port, standbySlot),
		// A connection that was cut is made again at once.
		"wal_retrieve_retry_interval": "100ms",
	} {
		s.settings[k] = v
	}
	delete(s.settings, "synchronized_standby_slots") // is about standbys of the standby, once it is promoted
	if out, err := exec.Command("cp", "-a", p.data(), s.data()).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	signal := filepath.Join(s.data(), "standby.signal")
	err = errors.Join(os.Chmod(s.Dir, 0o755), os.WriteFile(signal, nil, 0o600), s.removeSlots())
	if err == nil && s.account != nil {
		err = errors.Join(os.Chown(s.Dir, int(s.account.Uid), int(s.account.Gid)), os.Chown(signal, int(s.account.Uid), int(s.account.Gid)))
	}
	return s, err
}

// removeSlots removes the slots that were copied with the data.
func (p *Postgres) removeSlots() error {
	slots, err := fs.Glob(os.DirFS(p.data()), "pg_replslot/*")
	for _, slot := range slots {
		err = errors.Join(err, os.RemoveAll(filepath.Join(p.data(), slot)))
	}
	return err
}

// SyncSlots makes a standby (17 and later) keep copies of its primary's failover slots. It is asked for once there are some:
// a standby that finds none looks less and less often.
func (p *Postgres) SyncSlots(t testing.TB) {
	t.Helper()
	conn := p.Connect(t)
	Exec(t, conn, `alter system set sync_replication_slots = on`)
	Exec(t, conn, `select pg_reload_conf()`)
}

// Promote makes a standby a primary.
func (p *Postgres) Promote(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var promoted bool
	if err := p.Connect(t).QueryRow(ctx, `select pg_promote(true, 60)`).Scan(&promoted); err != nil || !promoted {
		t.Fatalf("promote: %t, %v\n%s", promoted, err, p.Log())
	}
}
