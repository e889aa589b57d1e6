package harness

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// postgresVersions are the servers that are known to be had, by major.
var postgresVersions = map[int]embeddedpostgres.PostgresVersion{
	14: embeddedpostgres.V14, 15: embeddedpostgres.V15, 16: embeddedpostgres.V16, 17: embeddedpostgres.V17, 18: embeddedpostgres.V18,
}

// FetchPostgres downloads a major, unless it is there already.
func FetchPostgres(major int) error {
	_, err := postgresBinaries(major)
	return err
}

// fetching keeps two tests from extracting the same archive at once; other processes are kept apart by a lock file.
var fetching sync.Mutex

// postgresBinaries gives the folder of a major's installation, downloaded once. It lies below /var/tmp where we are root:
// the unprivileged account cannot enter root's home.
func postgresBinaries(major int) (string, error) {
	version, known := postgresVersions[major]
	if !known {
		return "", fmt.Errorf("PostgreSQL %d is not among those that can be had (14 to 18)", major)
	}
	base, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(base, "postgres-"+string(version))
	if os.Geteuid() == 0 {
		dir = filepath.Join("/var/tmp/outrider", "postgres-"+string(version))
	}
	fetching.Lock()
	defer fetching.Unlock()
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	unlock, err := lockFile(dir + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(filepath.Join(dir, ".complete")); err == nil {
		return dir, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, fetchPostgres(version, base, dir)
}

// fetchPostgres lets the library download and extract. It would start a server too, as whoever we are; that is not wanted,
// and fails for root.
func fetchPostgres(version embeddedpostgres.PostgresVersion, cache, dir string) error {
	scratch, err := folder(os.TempDir(), "fetch")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	port, err := freePort()
	if err != nil {
		return err
	}
	lib := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().Version(version).Port(uint32(port)).
		CachePath(cache).BinariesPath(dir).RuntimePath(filepath.Join(scratch, "run")).DataPath(filepath.Join(scratch, "data")).
		StartTimeout(time.Minute).Logger(io.Discard))
	startErr := lib.Start()
	if startErr == nil {
		_ = lib.Stop()
	}
	if _, err := os.Stat(filepath.Join(dir, "bin", "postgres")); err != nil {
		return fmt.Errorf("download PostgreSQL %s (it is a Maven artifact; is the network there?): %w", version, startErr)
	}
	return os.WriteFile(filepath.Join(dir, ".complete"), nil, 0o644)
}

// lockFile holds an exclusive lock that ends with us.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}
