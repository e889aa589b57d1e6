package cdc

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// minVersion is PostgreSQL 14: older servers lack logical messages, and are past their end of life.
const minVersion = 140000

// facts is what the database says about itself before anything is taken or changed.
type facts struct {
	version          int    // server_version_num
	versionText      string // server_version
	server           serverID
	walEnd           lsn
	walSenderTimeout time.Duration // 0: never
	// maxSlotWAL is max_slot_wal_keep_size in bytes; negative: unlimited.
	maxSlotWAL int64

	slot        *slotFacts        // nil: there is none
	publication *publicationFacts // nil: there is none
	warnings    []finding
}

// finding is something that an operator should know: what it is, why it matters, and what repairs it.
type finding struct{ what, why, repair string }

func (f finding) String() string {
	s := f.what
	if f.why != "" {
		s += ": " + f.why
	}
	if f.repair != "" {
		s += ". Repair: " + f.repair
	}
	return s
}

// findings are those that keep the relay from running, all at once.
type findings []finding

func (f findings) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].String()
	}
	return strings.Join(lines, "\n")
}

// preflight looks at the database over a control connection and changes nothing. Its error is a findings with
// everything that keeps the relay from running, or what made the look fail. A slot or publication that is missing or
// lost is a fact, not a finding: what it means depends on the checkpoint.
func preflight(ctx context.Context, conn *pgx.Conn, pg *Postgres) (facts, error) {
	var f facts
	fatal, err := f.lookAtServer(ctx, conn, pg)
	if err != nil {
		return f, fmt.Errorf("preflight: %w", err)
	}
	if f.version < minVersion || f.server.timeline == 0 {
		return f, fatal // it says so; the rest would ask what such a server cannot answer
	}
	if f.slot, err = readSlot(ctx, conn, pg.Slot); err != nil {
		return f, fmt.Errorf("preflight: %w", err)
	}
	if f.slot != nil {
		fatal = append(fatal, f.slot.findings(conn.Config().Database)...)
	}
	if f.publication, err = readPublication(ctx, conn, pg.Publication); err != nil {
		return f, fmt.Errorf("preflight: %w", err)
	}
	tables, err := readTables(ctx, conn, pg.Tables)
	if err != nil {
		return f, fmt.Errorf("preflight: %w", err)
	}
	fatal = append(fatal, missingTables(pg.Tables, tables)...)
	if f.publication != nil {
		bad, warn := f.publication.findings(pg, tables)
		fatal = append(fatal, bad...)
		f.warnings = append(f.warnings, warn...)
	}
	if len(fatal) > 0 {
		return f, fatal
	}
	return f, nil
}

const selectServerFacts = `
select
	current_setting('server_version_num')::int,
	current_setting('server_version'),
	current_setting('wal_level'),
	pg_is_in_recovery(),
	case when pg_is_in_recovery() then 0 else pg_current_wal_lsn() - '0/0'::pg_lsn end::numeric::text,
	(select setting::bigint from pg_settings where name = 'wal_sender_timeout'),
	coalesce((select setting::bigint from pg_settings where name = 'max_slot_wal_keep_size'), -1),
	current_setting('server_encoding'),
	current_setting('synchronous_standby_names'),
	current_setting('application_name'),
	current_user::text,
	(select rolsuper or rolreplication from pg_roles where rolname = current_user),
	exists (select from pg_roles where rolname = 'rds_replication'),
	coalesce((select pg_has_role(oid, 'usage') from pg_roles where rolname = 'rds_replication'), false),
	pg_backend_pid()`

// serverRow is the answer to selectServerFacts.
type serverRow struct {
	walLevel    string
	recovery    bool
	walEnd      string
	timeout     int64 // milliseconds
	maxSlotWAL  int64 // MiB
	encoding    string
	syncNames   string
	application string
	role        string
	replication bool
	rds, rdsMay bool
	backend     uint32
}

// lookAtServer fills in what concerns the server and the role.
func (f *facts) lookAtServer(ctx context.Context, conn *pgx.Conn, pg *Postgres) (findings, error) {
	var row serverRow
	err := conn.QueryRow(ctx, selectServerFacts).Scan(&f.version, &f.versionText, &row.walLevel, &row.recovery, &row.walEnd,
		&row.timeout, &row.maxSlotWAL, &row.encoding, &row.syncNames, &row.application, &row.role, &row.replication,
		&row.rds, &row.rdsMay, &row.backend)
	if err != nil {
		return nil, err
	}
	var end uint64
	if _, err := fmt.Sscan(row.walEnd, &end); err != nil {
		return nil, fmt.Errorf("read the end of WAL: %w", err)
	}
	f.walEnd = lsn(end)
	f.walSenderTimeout = time.Duration(row.timeout) * time.Millisecond
	f.maxSlotWAL = row.maxSlotWAL << 20
	if f.server, err = identifyServer(ctx, conn); err != nil {
		return nil, err
	}
	if row.encoding == "SQL_ASCII" {
		f.warnings = append(f.warnings, finding{"the database's encoding is SQL_ASCII", "Postgres does not check its text, so that payloads may be no valid UTF-8", "use a database with encoding UTF8"})
	}
	return row.findings(f.version, f.versionText, conn.PgConn().PID()), nil
}

func (row *serverRow) findings(version int, versionText string, pid uint32) findings {
	var bad findings
	if version < minVersion {
		bad = append(bad, finding{"the server is PostgreSQL " + versionText, "the relay needs 14 or later", "upgrade the server"})
	}
	if row.backend != pid {
		bad = append(bad, finding{
			"the connection goes through a pooler (the server's process is not the one that answered)",
			"a pooler such as PgBouncer carries no replication connection, and gives each transaction another session",
			"let postgres.url name the server itself",
		})
	}
	if row.recovery {
		bad = append(bad, finding{
			"the server is a standby", "the checkpoint is stored in the database that is followed, and a standby takes no writes",
			"let postgres.url name the primary, or several hosts with target_session_attrs=read-write",
		})
	}
	if row.walLevel != "logical" {
		bad = append(bad, finding{
			"wal_level is " + row.walLevel, "logical decoding needs logical",
			"alter system set wal_level = logical; then restart the server (Amazon RDS: rds.logical_replication = 1; Cloud SQL: cloudsql.logical_decoding = on; Azure: wal_level = logical)",
		})
	}
	switch {
	case row.replication, row.rdsMay:
	case row.rds:
		bad = append(bad, finding{"role " + row.role + " may not replicate", "it streams from a slot", fmt.Sprintf("grant rds_replication to %s", quoteName(row.role))})
	default:
		bad = append(bad, finding{"role " + row.role + " may not replicate", "it streams from a slot", fmt.Sprintf("alter role %s replication", quoteName(row.role))})
	}
	if countsAsSynchronous(row.syncNames, row.application) {
		bad = append(bad, finding{
			fmt.Sprintf("synchronous_standby_names = '%s' counts the relay as a synchronous standby", row.syncNames),
			"every commit would wait until Kafka has its events",
			"alter system set synchronous_standby_names = '...' with the standbys' names instead of *; then select pg_reload_conf()",
		})
	}
	return bad
}

// countsAsSynchronous says whether a walsender with this application_name may be chosen as a synchronous standby.
// It errs on the side of yes: a name that contains ours is rare, a commit that hangs is not to be had.
func countsAsSynchronous(names, application string) bool {
	return strings.Contains(names, "*") || application != "" && strings.Contains(strings.ToLower(names), strings.ToLower(application))
}

// pid's own row is readable by its role, whatever that may see of others.
const selectSyncState = `select coalesce(sync_state, '') from pg_stat_replication where pid = $1`

// checkAsync refuses a walsender for which commits wait. It is asked once the stream has begun, for only then is it decided.
func checkAsync(ctx context.Context, conn *pgx.Conn, walsender uint32) error {
	var state string
	if err := conn.QueryRow(ctx, selectSyncState, walsender).Scan(&state); err != nil {
		return fmt.Errorf("read the walsender's sync_state: %w", err)
	}
	if state != "async" && state != "" {
		return findings{{
			"the relay counts as a synchronous standby (sync_state " + state + ")", "every commit would wait until Kafka has its events",
			"alter system set synchronous_standby_names = '...' with the standbys' names instead of *; then select pg_reload_conf()",
		}}
	}
	return nil
}
