package cdc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// pgClass is what an error of Postgres means for the relay.
type pgClass int

const (
	// pgRetry passes by itself: the network, a server that is overloaded or away. It is retried for ever.
	pgRetry pgClass = iota
	// pgGoingDown is a server that stops, starts, or has ended our connection. It is retried for ever.
	pgGoingDown
	// pgConfig is for a person to mend: it stops the relay at its start, and is retried slowly later, since it may be mended live.
	pgConfig
	// pgSlotBusy is a slot that another connection reads: stand by.
	pgSlotBusy
	// pgSlotMissing is a slot that does not exist: what it means depends on the checkpoint.
	pgSlotMissing
	// pgSlotLost is a slot whose WAL is gone.
	pgSlotLost
	// pgPublicationMissing is a publication that does not exist, or did not when the WAL in question was written.
	pgPublicationMissing
)

// The SQLSTATEs that the relay knows by name (PostgreSQL docs, appendix "PostgreSQL Error Codes").
const (
	pgProtocolViolation  = "08P01"
	pgInvalidParameter   = "22023"
	pgUnknownDatabase    = "3D000"
	pgNoPrivilege        = "42501"
	pgSyntaxError        = "42601"
	pgInvalidName        = "42602"
	pgUndefinedObject    = "42704"
	pgDuplicateObject    = "42710"
	pgTooManyConnections = "53300"
	pgLimitExceeded      = "53400"
	pgNotInState         = "55000"
	pgObjectInUse        = "55006"
	pgAdminShutdown      = "57P01"
	pgCrashShutdown      = "57P02"
	pgCannotConnectNow   = "57P03"
	pgDatabaseDropped    = "57P04"
	pgIdleSessionTimeout = "57P05"
	pgUndefinedFile      = "58P01"
	pgFeatureUnsupported = "0A000"
)

// classifyPg says what err means. It goes by SQLSTATE, and where that is not enough by the name of the server's
// function: messages are translated, functions are not.
func classifyPg(err error) pgClass {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return classifyDial(err)
	}
	switch pg.Code {
	case pgUndefinedObject:
		switch {
		case strings.Contains(pg.Routine, "ReplicationSlot"):
			return pgSlotMissing
		case strings.Contains(strings.ToLower(pg.Routine), "publication"):
			return pgPublicationMissing
		}
		return pgConfig
	case pgObjectInUse:
		return pgSlotBusy
	case pgNotInState:
		switch pg.Routine {
		case "LoadPublications": // PostgreSQL 18 warns that it skips the publication, where older servers stop with 42704
			return pgPublicationMissing
		case "CheckLogicalDecodingRequirements", "CheckSlotRequirements": // wal_level, or a standby
			return pgConfig
		}
		return pgSlotLost // what remains of this code are refusals of a slot that was invalidated
	case pgUndefinedFile:
		return pgSlotLost
	case pgAdminShutdown, pgCrashShutdown, pgCannotConnectNow, pgIdleSessionTimeout:
		return pgGoingDown
	case pgUnknownDatabase, pgDatabaseDropped, pgNoPrivilege, pgSyntaxError, pgInvalidName, pgLimitExceeded,
		pgProtocolViolation, pgInvalidParameter, pgFeatureUnsupported:
		return pgConfig
	}
	if strings.HasPrefix(pg.Code, "28") {
		return pgConfig
	}
	return pgRetry
}

// classifyDial judges an error that did not come from the server.
func classifyDial(err error) pgClass {
	var parse *pgconn.ParseConfigError
	var cert *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	if errors.As(err, &parse) || errors.As(err, &cert) || errors.As(err, &authority) || errors.As(err, &host) {
		return pgConfig
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return pgConfig // a TLS alert: the server does not take our certificate
	}
	return pgRetry
}

// advisePg is what an operator can do about err; empty where there is nothing but to wait.
func advisePg(err error, pg *Postgres) string {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		if classifyDial(err) == pgConfig {
			return "check postgres.url and the certificates that it names"
		}
		return ""
	}
	switch {
	case strings.HasPrefix(e.Code, "28"):
		return "check user, password and pg_hba.conf: the relay needs a line for its database, which on PostgreSQL covers replication=database too"
	case e.Code == pgNoPrivilege && e.Routine == "aclcheck_error": // about an object, which the message names; the others are about replication
		return fmt.Sprintf("grant what is missing to %s, as outrider init --role does; the schema that it keeps its checkpoint in can be made for it by the database's owner: create schema outrider authorization %s", roleOf(pg), roleOf(pg))
	case e.Code == pgNoPrivilege:
		return fmt.Sprintf("grant what is missing; for the replication connection: alter role %s replication (Amazon RDS: grant rds_replication to %s)", roleOf(pg), roleOf(pg))
	case e.Code == pgUnknownDatabase, e.Code == pgDatabaseDropped:
		return "name an existing database in postgres.url"
	case e.Code == pgTooManyConnections:
		return "raise max_wal_senders (needs a restart), max_connections or the connection limit of the role, or stop what uses them: select pid, application_name, client_addr from pg_stat_replication"
	case e.Code == pgLimitExceeded:
		return "raise max_replication_slots (needs a restart), or drop a slot that nobody reads: select slot_name, active from pg_replication_slots"
	case e.Code == pgProtocolViolation, e.Code == pgSyntaxError, e.Code == pgFeatureUnsupported:
		return "connect to the server itself: a pooler such as PgBouncer does not carry a replication connection"
	case e.Code == pgObjectInUse:
		if pid := busyPID(e); pid != 0 {
			return fmt.Sprintf("pid %d reads it: select application_name, client_addr, backend_start from pg_stat_replication where pid = %d; if that is a relay which is gone, select pg_terminate_backend(%d)", pid, pid, pid)
		}
	case e.Code == pgIdleSessionTimeout:
		return fmt.Sprintf("alter role %s set idle_session_timeout = 0", roleOf(pg))
	}
	switch classifyPg(err) {
	case pgPublicationMissing:
		return fmt.Sprintf("create publication %s for table ... with (publish = 'insert'); if it exists now, it did not when the WAL that is being read was written", quoteName(pg.Publication))
	case pgConfig:
		if e.Code == pgNotInState {
			return "on the primary: alter system set wal_level = logical, then restart the server (Amazon RDS: rds.logical_replication = 1; Cloud SQL: cloudsql.logical_decoding = on; Azure: wal_level = logical)"
		}
	}
	return ""
}

// lastNumber finds the pid in "replication slot "x" is active for PID 42", in any language.
var lastNumber = regexp.MustCompile(`(\d+)\D*$`)

// busyPID is the process that holds the slot; 0 when the error does not say.
func busyPID(e *pgconn.PgError) int {
	m := lastNumber.FindStringSubmatch(e.Message)
	if e.Code != pgObjectInUse || m == nil {
		return 0
	}
	pid, err := strconv.Atoi(m[1])
	if err != nil {
		return 0
	}
	return pid
}

// roleOf is the role that the relay connects as, for a command that an operator can paste.
func roleOf(pg *Postgres) string {
	cfg, err := pgconn.ParseConfig(pg.URL)
	if err != nil {
		return "the relay's role"
	}
	return quoteName(cfg.User)
}
