package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outrider-relay/outrider/migrations"
	"github.com/outrider-relay/outrider/test/harness"
)

// Names on the server. All else that the demo makes lies in its database, and goes with it; a slot belongs to the server.
const (
	databaseName = "outrider_demo"
	slotName     = "outrider_demo"
)

const createOrders = `
create table orders (
    id     bigint        generated always as identity primary key,
    status text          not null,
    total  numeric(10,2) not null
)`

// database is the demo's own database, on its own server or another.
type database struct {
	url    string            // of the database
	shown  string            // url without its password
	admin  string            // of the database that it is made and dropped from
	server *harness.Postgres // nil: the server is somebody else's
}

// openDatabase makes the demo's database, with the application's table and the outbox.
func openDatabase(ctx context.Context, o options, s *screen) (*database, error) {
	db := &database{admin: o.postgres}
	if o.postgres == "" {
		s.note("postgres", "starts (the first time it is downloaded, which takes a while)")
		dir, err := dataDir(o.dataDir)
		if err != nil {
			return nil, fmt.Errorf("--data-dir: %w", err)
		}
		if db.server, err = harness.StartPostgres(ctx, harness.PostgresOptions{Dir: dir}); err != nil {
			return nil, fmt.Errorf("start Postgres: %w", err)
		}
		db.admin = db.server.URL()
	}
	db.url = inDatabase(db.admin, databaseName)
	db.shown = withoutPassword(db.url)
	if err := execute(ctx, db.admin, "create database "+databaseName); err != nil {
		err = fmt.Errorf("create database %s: %w", databaseName, err)
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code == "42P04" { // duplicate_database
			err = fmt.Errorf("%w: another demo uses this server, or one was killed; then drop replication slot %s and the database", err, slotName)
		}
		return nil, errors.Join(err, db.stop())
	}
	if err := db.fill(ctx); err != nil {
		return nil, errors.Join(err, db.close(ctx))
	}
	return db, nil
}

// dataDir makes a folder for the embedded server, or leaves that to it where none is wanted.
func dataDir(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	dir, err := filepath.Abs(dir) // Postgres changes its working directory
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	inside, err := os.ReadDir(dir)
	if err == nil && len(inside) > 0 {
		err = fmt.Errorf("%s is not empty", dir)
	}
	return dir, err
}

func (db *database) fill(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, db.url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, createOrders); err != nil {
		return fmt.Errorf("create table orders: %w", err)
	}
	return migrations.Outbox{Table: "public.outbox"}.Create(ctx, conn)
}

// close removes the database: with its server, or from it. The relay has stopped before. A slot left behind would keep
// the server from ever removing WAL.
func (db *database) close(ctx context.Context) error {
	if db.server != nil {
		return db.stop()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), teardown)
	defer cancel()
	if err := db.dropSlot(ctx); err != nil {
		return err
	}
	if err := execute(ctx, db.admin, "drop database "+databaseName+" with (force)"); err != nil {
		return fmt.Errorf("drop database %s, which stays behind: %w", databaseName, err)
	}
	return nil
}

func (db *database) stop() error {
	if db.server == nil {
		return nil
	}
	return db.server.Close()
}

// dropSlot drops the slot, if there is one, as soon as the server has noticed that its relay is gone.
func (db *database) dropSlot(ctx context.Context) error {
	for {
		err := execute(ctx, db.admin, "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '"+slotName+"'")
		var refused *pgconn.PgError
		if err == nil || !errors.As(err, &refused) || refused.Code != pgObjectInUse {
			return annotate(err)
		}
		select {
		case <-ctx.Done():
			return annotate(err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// pgObjectInUse is SQLSTATE object_in_use: a connection streams from the slot.
const pgObjectInUse = "55006"

func annotate(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("drop replication slot %s, which stays behind and retains WAL until it is dropped: %w", slotName, err)
}

// execute runs one statement on a connection of its own.
func execute(ctx context.Context, url, sql string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

// inDatabase is the URL or DSN of another database on the same server.
func inDatabase(server, name string) string {
	if u, err := url.Parse(server); err == nil && u.Scheme != "" {
		u.Path = "/" + name
		return u.String()
	}
	return strings.TrimSpace(server + " dbname=" + name) // of a keyword given twice, the last one counts
}

// withoutPassword is what may be shown of a URL or DSN.
func withoutPassword(server string) string {
	if u, err := url.Parse(server); err == nil && u.Scheme != "" {
		return u.Redacted()
	}
	var kept []string
	for _, word := range strings.Fields(server) {
		if !strings.HasPrefix(word, "password=") {
			kept = append(kept, word)
		}
	}
	return strings.Join(kept, " ")
}
