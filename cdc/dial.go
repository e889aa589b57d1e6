package cdc

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// sessionParameters decide the text of the values that are relayed, whatever the defaults of the database and the role
// are. They are those that Postgres' own subscriber sends (src/backend/replication/libpqwalreceiver).
var sessionParameters = map[string]string{
	"DateStyle":          "ISO",
	"IntervalStyle":      "postgres",
	"extra_float_digits": "3",
	"TimeZone":           "UTC",
	"bytea_output":       "hex",
	"client_encoding":    "UTF8",
}

// Connect opens an ordinary connection to the database of a relay, with the session parameters that the relay itself uses.
func Connect(ctx context.Context, pg *Postgres) (*pgx.Conn, error) { return dialControl(ctx, pg) }

// dialControl opens an ordinary connection, for checkpoints or for listening.
func dialControl(ctx context.Context, pg *Postgres) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(pg.URL)
	if err != nil {
		return nil, fmt.Errorf("postgres url: %w", err)
	}
	if err := pg.session(&cfg.Config); err != nil {
		return nil, err
	}
	// A checkpoint that a crash of the server takes back would let Postgres forget WAL that is needed again.
	cfg.RuntimeParams["synchronous_commit"] = "on"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to postgres: %w", err)
	}
	return conn, nil
}

// session completes a configuration that has just been parsed: URL, environment, service and password files are read
// again at every dial, since passwords rotate.
func (pg *Postgres) session(cfg *pgconn.Config) error {
	maps.Copy(cfg.RuntimeParams, sessionParameters)
	cfg.RuntimeParams["application_name"] = cmp.Or(cfg.RuntimeParams["application_name"], pg.applicationName())
	if pg.Dial != nil {
		cfg.DialFunc = pg.Dial
	}
	if pg.Password != nil {
		password, err := pg.Password()
		if err != nil {
			return fmt.Errorf("postgres password: %w", err)
		}
		cfg.Password = password
	}
	return nil
}

// applicationName is what an operator sees in pg_stat_activity: outrider/orders for the slot outrider_orders.
func (pg *Postgres) applicationName() string {
	return "outrider/" + strings.TrimPrefix(pg.Slot, "outrider_")
}
