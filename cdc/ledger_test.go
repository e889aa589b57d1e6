package cdc

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// What the sink keeps beside the checkpoint is refused by Postgres, and the sink knows nothing of that.
func TestLedgerSaysWhatPostgresWants(t *testing.T) {
	s := &session{cfg: &Config{Postgres: Postgres{URL: "postgres://relay@localhost/shop"}}, storing: make(chan struct{}, 1)}
	err := (&Ledger{s: s}).ask(t.Context(), func(context.Context) error {
		return &pgconn.PgError{Code: pgNoPrivilege, Routine: "aclcheck_error", Message: "permission denied for table partition"}
	})
	if err == nil || !strings.Contains(err.Error(), `Repair: grant what is missing to "relay", as outrider init --role does`) {
		t.Error(err)
	}
	if class := classOf(asSink(err)); class != "postgres" {
		t.Errorf("it is booked as an error of %s", class)
	}
}
