package harness

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Backup gives a copy of the server's data. The server is stopped for it, and started again.
func (p *Postgres) Backup(t testing.TB) string {
	t.Helper()
	backup := filepath.Join(p.Dir, "backup")
	if _, err := p.Stop(Fast, time.Minute); err != nil {
		t.Fatalf("stop the server: %v", err)
	}
	if out, err := exec.Command("cp", "-a", p.data(), backup).CombinedOutput(); err != nil {
		t.Fatalf("copy the data: %v\n%s", err, out)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return backup
}

// Restore starts the server from a backup, without slots: pg_basebackup leaves them out.
func (p *Postgres) Restore(t testing.TB, backup string) {
	t.Helper()
	if _, err := p.Stop(Immediate, time.Minute); err != nil {
		t.Fatalf("stop the server: %v", err)
	}
	err := os.RemoveAll(p.data())
	if err == nil {
		err = os.Rename(backup, p.data())
	}
	slots, globErr := filepath.Glob(filepath.Join(p.data(), "pg_replslot", "*"))
	err = errors.Join(err, globErr)
	for _, slot := range slots {
		err = errors.Join(err, os.RemoveAll(slot))
	}
	if err == nil {
		err = p.Start(t.Context())
	}
	if err != nil {
		t.Fatalf("restore: %v", err)
	}
}
