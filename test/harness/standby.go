package harness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// standbySlot is the physical slot of a standby on its primary.
const standbySlot = "standby"

// NewStandby starts a server that follows p through addr, which leads to p. There may be one standby of a server.
func (p *Postgres) NewStandby(t testing.TB, addr string) *Postgres {
	t.Helper()
	s, err := p.StartStandby(t.Context(), addr)
	if err != nil {
		t.Fatalf("start the standby: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("stop the standby: %v", err)
		}
	})
	return s
}

// StartStandby is NewStandby for those who close it themselves. It is made of a backup that is taken while p serves.
func (p *Postgres) StartStandby(ctx context.Context, addr string) (*Postgres, error) {
	s, err := p.prepareStandby(addr)
	if err != nil {
		return nil, err
	}
	if err := p.backUp(ctx, s); err != nil {
		return nil, errors.Join(fmt.Errorf("copy the primary: %w", err), s.Close())
	}
	if err := s.Start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// prepareStandby makes a server without data.
func (p *Postgres) prepareStandby(addr string) (*Postgres, error) {
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
	if err := os.Chmod(s.Dir, 0o755); err != nil {
		return nil, err
	}
	return s, s.own(s.Dir)
}

// backUp gives s a copy of the data, which reaches back to where the slot of the standby begins to hold the WAL.
func (p *Postgres) backUp(ctx context.Context, s *Postgres) (err error) {
	conn, err := pgx.Connect(ctx, p.URL())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }() // which also ends a backup that is not complete
	if _, err := conn.Exec(ctx, `select pg_create_physical_replication_slot($1, true)`, standbySlot); err != nil {
		return err
	}
	begin, end := `select pg_backup_start('standby', true)`, `select labelfile from pg_backup_stop(false)`
	if p.Major < 15 {
		begin, end = `select pg_start_backup('standby', true, false)`, `select labelfile from pg_stop_backup(false, false)`
	}
	if _, err := conn.Exec(ctx, begin); err != nil {
		return err
	}
	if err := p.copyData(s); err != nil {
		return err
	}
	var label string
	if err := conn.QueryRow(ctx, end).Scan(&label); err != nil {
		return err
	}
	for name, content := range map[string]string{"backup_label": label, "standby.signal": ""} {
		path := filepath.Join(s.data(), name)
		if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), s.own(path)); err != nil {
			return err
		}
	}
	return nil
}

// controlFile is copied last: PostgreSQL docs, "Backing Up the Data Directory".
const controlFile = "global/pg_control"

// copyData copies the data folder of a server that may run.
func (p *Postgres) copyData(s *Postgres) error {
	from := os.DirFS(p.data())
	err := fs.WalkDir(from, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() && strings.Contains(name, "/") && ofThisServer(name):
			return fs.SkipDir
		case d.IsDir():
			return s.makeFolder(name)
		case name == controlFile || ofThisServer(name):
			return nil
		}
		return s.writeCopy(from, name)
	})
	if err != nil {
		return err
	}
	return s.writeCopy(from, controlFile)
}

// ofThisServer says whether a file belongs to the running server alone. Of its WAL a standby needs only the history: the rest
// comes by its slot.
func ofThisServer(name string) bool {
	folder, _, _ := strings.Cut(name, "/")
	switch folder {
	case "postmaster.pid", "postmaster.opts", "pg_replslot", "pg_notify", "pg_snapshots", "pg_dynshmem":
		return true
	case "pg_wal":
		return !strings.HasSuffix(name, ".history")
	}
	return false
}

func (p *Postgres) makeFolder(name string) error {
	path := filepath.Join(p.data(), name)
	return errors.Join(os.Mkdir(path, 0o700), p.own(path))
}

// writeCopy copies a file, unless it has gone meanwhile.
func (p *Postgres) writeCopy(from fs.FS, name string) error {
	content, err := fs.ReadFile(from, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	path := filepath.Join(p.data(), name)
	return errors.Join(os.WriteFile(path, content, 0o600), p.own(path))
}

// own gives a file to the server's account.
func (p *Postgres) own(path string) error {
	if p.account == nil {
		return nil
	}
	return os.Chown(path, int(p.account.Uid), int(p.account.Gid))
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
