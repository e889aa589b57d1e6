package cdc

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// The messages are in whatever language the server speaks; codes and routines are not.
func TestErrorsOfPostgresAreClassedByCodeAndRoutine(t *testing.T) {
	_, badURL := pgconn.ParseConfig("postgres://%zz")
	for _, c := range []struct {
		name          string
		code, routine string
		err           error
		want          pgClass
		advice        string
	}{
		{name: "slot dropped", code: "42704", routine: "ReplicationSlotAcquire", want: pgSlotMissing},
		{name: "publication dropped", code: "42704", routine: "get_publication_oid", want: pgPublicationMissing, advice: `create publication "outrider"`},
		{name: "publication dropped, 18", code: "55000", routine: "LoadPublications", want: pgPublicationMissing, advice: "create publication"},
		{name: "anything else undefined", code: "42704", routine: "get_role_oid", want: pgConfig},
		{name: "slot busy", code: "55006", routine: "ReplicationSlotAcquire", want: pgSlotBusy, advice: "pg_terminate_backend(4711)"},
		{name: "slot invalidated", code: "55000", routine: "CreateDecodingContext", want: pgSlotLost},
		{name: "slot invalidated, 18", code: "55000", routine: "RaiseSlotInvalidationError", want: pgSlotLost},
		{name: "WAL removed", code: "58P01", routine: "XLogReaderAllocate", want: pgSlotLost},
		{name: "wal_level", code: "55000", routine: "CheckLogicalDecodingRequirements", want: pgConfig, advice: "wal_level"},
		{name: "wrong password", code: "28P01", want: pgConfig, advice: "pg_hba.conf"},
		{name: "no pg_hba.conf line", code: "28000", want: pgConfig, advice: "pg_hba.conf"},
		{name: "no such database", code: "3D000", want: pgConfig, advice: "postgres.url"},
		{name: "no right to an object", code: "42501", routine: "aclcheck_error", want: pgConfig, advice: `create schema outrider authorization "relay"`},
		{name: "no right to replicate", code: "42501", routine: "InitPostgres", want: pgConfig, advice: `alter role "relay" replication`},
		{name: "walsenders used up", code: "53300", want: pgRetry, advice: "max_wal_senders"},
		{name: "slots used up", code: "53400", want: pgConfig, advice: "max_replication_slots"},
		{name: "pooler refuses a parameter", code: "08P01", want: pgConfig, advice: "PgBouncer"},
		{name: "shutting down", code: "57P01", want: pgGoingDown},
		{name: "crashed", code: "57P02", want: pgGoingDown},
		{name: "starting up", code: "57P03", want: pgGoingDown},
		{name: "idle session timeout", code: "57P05", want: pgGoingDown, advice: "idle_session_timeout"},
		{name: "disk full", code: "53100", want: pgRetry},
		{name: "internal error", code: "XX000", want: pgRetry},
		{name: "connection cut", err: io.ErrUnexpectedEOF, want: pgRetry},
		{name: "unreadable URL", err: badURL, want: pgConfig, advice: "postgres.url"},
		{name: "unknown authority", err: x509.UnknownAuthorityError{}, want: pgConfig, advice: "certificates"},
		{name: "certificate refused", err: &net.OpError{Op: "remote error", Err: errors.New("tls: expired certificate")}, want: pgConfig, advice: "certificates"},
		{name: "no error", err: nil, want: pgRetry},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.err
			if c.code != "" {
				err = fmt.Errorf("connect: %w", errors.Join(io.EOF, &pgconn.PgError{Code: c.code, Routine: c.routine, Message: `Slot »o1« ist aktiv für PID 4711`}))
			}
			if got := classifyPg(err); got != c.want {
				t.Errorf("class %d, want %d", got, c.want)
			}
			advice := advisePg(err, &Postgres{URL: "postgres://relay@db/shop", Publication: "outrider"})
			if c.advice == "" && advice != "" || !strings.Contains(advice, c.advice) {
				t.Errorf("advice %q, want something about %q", advice, c.advice)
			}
		})
	}
}

func TestBusyPIDIsTheLastNumber(t *testing.T) {
	for message, want := range map[string]int{
		`replication slot "o1" is active for PID 42`:      42,
		`el slot de replicación «o1» está activo (PID 7)`: 7,
		`replication slot is active`:                      0,
		`PID 99999999999999999999`:                        0,
	} {
		if got := busyPID(&pgconn.PgError{Code: "55006", Message: message}); got != want {
			t.Errorf("%q: %d, want %d", message, got, want)
		}
	}
	if got := busyPID(&pgconn.PgError{Code: "55000", Message: "PID 42"}); got != 0 {
		t.Errorf("another error has pid %d", got)
	}
}
