package inbox_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/sink/inbox"
	"github.com/outrider-relay/outrider/test/harness"
)

// An event that arrives twice is paid once.
func ExampleEnter() {
	ctx := context.Background()
	db, err := pgx.Connect(ctx, exampleURL())
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = db.Close(ctx) }()

	pay := func(id string, amount int) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			first, err := inbox.Enter(ctx, tx, "billing", id)
			if err != nil || !first {
				return err
			}
			_, err = tx.Exec(ctx, `update account set balance = balance + $1`, amount)
			return err
		})
	}
	for range 2 {
		if err := pay("7d9ecc1c-1d7c-4f0e-a0d8-6e0f5ad5f2b1", 10); err != nil {
			log.Fatal(err)
		}
	}

	var balance int
	if err := db.QueryRow(ctx, `select balance from account`).Scan(&balance); err != nil {
		log.Fatal(err)
	}
	fmt.Println(balance)
	// Output: 10
}

// The same with database/sql.
func ExampleEnterSQL() {
	ctx := context.Background()
	db, err := sql.Open("postgres", exampleURL())
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = db.Close() }()

	pay := func(id string, amount int) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		first, err := inbox.EnterSQL(ctx, tx, "billing", id)
		if err != nil || !first {
			return err
		}
		if _, err := tx.ExecContext(ctx, `update account set balance = balance + $1`, amount); err != nil {
			return err
		}
		return tx.Commit()
	}
	for range 2 {
		if err := pay("7d9ecc1c-1d7c-4f0e-a0d8-6e0f5ad5f2b1", 10); err != nil {
			log.Fatal(err)
		}
	}

	var balance int
	if err := db.QueryRowContext(ctx, `select balance from account`).Scan(&balance); err != nil {
		log.Fatal(err)
	}
	fmt.Println(balance)
	// Output: 10
}

// Once a day, or once an hour: ids of events that no topic holds any more.
func ExampleSweep() {
	ctx := context.Background()
	db, err := pgx.Connect(ctx, exampleURL())
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = db.Close(ctx) }()

	swept, err := inbox.Sweep(ctx, db, "billing", 14*24*time.Hour) // the topics keep a week
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(swept)
	// Output: 0
}

// exampleURL is a new database with an inbox and an account.
func exampleURL() string {
	p, err := harness.SharedPostgres()
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	url, err := exampleDatabase(ctx, p.URL(), p.DatabaseURL)
	if err != nil {
		log.Fatal(err)
	}
	return url
}

func exampleDatabase(ctx context.Context, admin string, at func(name string) string) (url string, err error) {
	name := fmt.Sprintf("example_%d", time.Now().UnixNano())
	for _, step := range []struct{ url, sql string }{
		{admin, `create database ` + name},
		{at(name), inbox.Schema()},
		{at(name), `create table account (balance int not null); insert into account values (0)`},
	} {
		conn, err := pgx.Connect(ctx, step.url)
		if err != nil {
			return "", err
		}
		if _, err := conn.Exec(ctx, step.sql); err != nil {
			return "", err
		}
		if err := conn.Close(ctx); err != nil {
			return "", err
		}
	}
	return at(name), nil
}
