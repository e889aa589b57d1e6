package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// NewestPostgres is the major that tests run on unless PGTEST_MAJOR says otherwise.
const NewestPostgres = 18

// PostgresOptions says which server to start. The zero value is the default major with settings for logical decoding.
type PostgresOptions struct {
	// Major is 14 to 18. Zero: PGTEST_MAJOR, else the newest.
	Major int
	// Settings are added to, and win over, the harness's own.
	Settings map[string]string
	// Dir is where the data folder and the socket lie. Empty: a temporary one, removed by Close.
	Dir string
	// HBA replaces pg_hba.conf; empty trusts every local connection.
	HBA string
}

// Postgres is a running server. It is run by an unprivileged account when we are root.
type Postgres struct {
	Major int
	Port  int
	Dir   string // data/ and the unix socket are in it

	binaries string
	settings map[string]string
	temp     bool
	account  *syscall.Credential // nil: ours
	proc     *process
}

// defaultMajor is what PGTEST_MAJOR says.
func defaultMajor() (int, error) {
	asked := os.Getenv("PGTEST_MAJOR")
	if asked == "" {
		return NewestPostgres, nil
	}
	major, err := strconv.Atoi(asked)
	if err != nil {
		return 0, fmt.Errorf("PGTEST_MAJOR is %q, not a major of PostgreSQL (14 to 18)", asked)
	}
	return major, nil
}

// StartPostgres makes a fresh server. The caller closes it.
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	p := &Postgres{Major: o.Major, Dir: o.Dir}
	var err error
	if p.Major == 0 {
		if p.Major, err = defaultMajor(); err != nil {
			return nil, err
		}
	}
	if p.account, err = unprivileged(); err != nil {
		return nil, err
	}
	if p.binaries, err = postgresBinaries(p.Major); err != nil {
		return nil, err
	}
	if p.Dir == "" {
		p.temp = true
		// Below /tmp: a unix socket's path has 107 characters at most, and the account must be able to get there.
		if p.Dir, err = folder("/tmp", "pg"); err != nil {
			return nil, err
		}
	}
	if p.Port, err = freePort(); err != nil {
		return nil, err
	}
	p.settings = map[string]string{
		"wal_level": "logical", "max_wal_senders": "50", "max_replication_slots": "50", "max_connections": "200", "max_prepared_transactions": "5",
		"fsync": "off", "full_page_writes": "off", "listen_addresses": "127.0.0.1", "port": strconv.Itoa(p.Port),
		"unix_socket_directories": p.Dir, "shared_buffers": "32MB", "log_min_messages": "warning",
	}
	for k, v := range o.Settings {
		p.settings[k] = v
	}
	if err := p.initialise(ctx, o.HBA); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if err := p.Start(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// NewPostgres starts a server for one test.
func NewPostgres(t testing.TB, o PostgresOptions) *Postgres {
	t.Helper()
	p, err := StartPostgres(t.Context(), o)
	if err != nil {
		t.Fatalf("start Postgres: %v", err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("stop Postgres: %v", err)
		}
	})
	return p
}

// unprivileged is the account that runs Postgres, which refuses root; nil where we are somebody else.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("we are root, Postgres runs as nobody else than an ordinary account, and there is neither an account postgres nor nobody")
}

// initialise makes the data folder.
func (p *Postgres) initialise(ctx context.Context, hba string) error {
	if err := os.Chmod(p.Dir, 0o755); err != nil {
		return err
	}
	if p.account != nil {
		if err := os.Chown(p.Dir, int(p.account.Uid), int(p.account.Gid)); err != nil {
			return err
		}
	}
	out, err := output(p.command(ctx, "initdb", "-D", p.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"))
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	if hba == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(p.data(), "pg_hba.conf"), []byte(hba), 0o644)
}

func (p *Postgres) data() string { return filepath.Join(p.Dir, "data") }

// command runs one of the installation's programs as the server's account.
func (p *Postgres) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.binaries, "bin", name), args...)
	cmd.Dir = p.Dir
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "LD_LIBRARY_PATH=" + filepath.Join(p.binaries, "lib"), "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.account}
	return cmd
}

// Start runs the server on its data folder and port, and returns when it answers.
func (p *Postgres) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		told := len(p.Log())
		if err := p.launch(); err != nil {
			return err
		}
		err := p.await(ctx)
		// The processes of a server that was killed hold its memory until they notice, a moment later.
		if err == nil || ctx.Err() != nil || !strings.Contains(p.Log()[told:], "pre-existing shared memory block") {
			return err
		}
	}
}

func (p *Postgres) launch() error {
	args := []string{"-D", p.data()}
	for k, v := range p.settings {
		args = append(args, "-c", k+"="+v)
	}
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := p.command(context.Background(), "postgres", args...)
	cmd.Stdout, cmd.Stderr = log, log
	p.proc, err = start(cmd)
	return err
}

// await waits until the server answers.
func (p *Postgres) await(ctx context.Context) error {
	for {
		if err := p.ping(ctx); err == nil {
			return nil
		} else if ctx.Err() != nil || !p.proc.running() {
			return fmt.Errorf("Postgres %d does not answer: %w\n%s", p.Major, err, p.Log())
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *Postgres) ping(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.URL())
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// URL reaches the server over TCP as its superuser.
func (p *Postgres) URL() string { return p.DatabaseURL("postgres") }

// DatabaseURL is URL for another database.
func (p *Postgres) DatabaseURL(database string) string {
	return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable", p.Addr(), database)
}

// SocketURL reaches it over its unix socket.
func (p *Postgres) SocketURL() string {
	return fmt.Sprintf("postgres://postgres@/postgres?host=%s&port=%d", p.Dir, p.Port)
}

// Addr is its TCP address.
func (p *Postgres) Addr() string { return loopback(p.Port) }

// Log is what the server has logged so far.
func (p *Postgres) Log() string {
	b, _ := os.ReadFile(p.logFile()) // none before the first start
	return string(b)
}

func (p *Postgres) logFile() string { return filepath.Join(p.Dir, "log") }

// PID is the postmaster's.
func (p *Postgres) PID() int { return p.proc.cmd.Process.Pid }

// Shutdown is a way to stop a server.
type Shutdown syscall.Signal

// PostgreSQL docs, "Shutting Down the Server".
const (
	Smart     = Shutdown(syscall.SIGTERM)
	Fast      = Shutdown(syscall.SIGINT)
	Immediate = Shutdown(syscall.SIGQUIT) // as after a crash
	Killed    = Shutdown(syscall.SIGKILL) // the postmaster alone; its children end when they notice
)

// Stop stops the server, and returns how long that took. It is an error when that takes longer than patience; the server is killed then.
func (p *Postgres) Stop(how Shutdown, patience time.Duration) (time.Duration, error) {
	began := time.Now()
	err := p.proc.stop(syscall.Signal(how), patience)
	return time.Since(began), err
}

// Set changes settings for the next Start.
func (p *Postgres) Set(name, value string) { p.settings[name] = value }

// Close stops the server and removes its folder if the harness made it.
func (p *Postgres) Close() error {
	if p.proc != nil && p.proc.running() {
		// Not fast: a relay that cannot confirm would hold that up.
		if err := p.proc.stop(syscall.SIGQUIT, 10*time.Second); err != nil {
			return err
		}
	}
	crashed := p.crashed()
	if p.temp {
		return errors.Join(crashed, os.RemoveAll(p.Dir))
	}
	return crashed
}

// crashed is an error where one of the server's processes has crashed by itself: what a test saw then was that.
func (p *Postgres) crashed() error {
	log := p.Log()
	at := strings.Index(log, "terminated by signal 11")
	if at < 0 {
		return nil
	}
	return fmt.Errorf("Postgres %d has crashed:\n%.2000s", p.Major, log[strings.LastIndexByte(log[:at], '\n')+1:])
}

// Connect opens a connection that the test closes.
func (p *Postgres) Connect(t testing.TB) *pgx.Conn { return Connect(t, p.URL()) }

// Connect opens a connection that ends with the test.
func Connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatalf("connect to %s: %v", url, err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// Exec runs SQL, and fails the test when that fails.
func Exec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", firstLine(sql), err)
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// NewDatabase makes a database of its own on a shared server, and returns its URL.
func (p *Postgres) NewDatabase(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("t%d", time.Now().UnixNano())
	Exec(t, p.Connect(t), "create database "+name)
	return p.DatabaseURL(name)
}
