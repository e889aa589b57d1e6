package cdc

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// capacity is what the server has left for a relay, and how it is set.
type capacity struct {
	slots, maxSlots, senders, maxSenders int
	fsync, readOnly                      bool
	idleSession, idleSlot                int64 // milliseconds, seconds; 0: never
	connections                          int   // that the role may have; negative: any number
	standbySlots                         string
	standbys                             int    // physical walsenders
	provider                             string // its administrator's role
}

const selectCapacity = `
select
	(select count(*) from pg_replication_slots), current_setting('max_replication_slots')::int,
	(select count(*) from pg_stat_replication), current_setting('max_wal_senders')::int,
	current_setting('fsync')::bool, current_setting('default_transaction_read_only')::bool,
	coalesce((select setting::bigint from pg_settings where name = 'idle_session_timeout'), 0),
	coalesce((select setting::bigint from pg_settings where name = 'idle_replication_slot_timeout'), 0),
	(select case when rolsuper then -1 else rolconnlimit end from pg_roles where rolname = current_user),
	coalesce(current_setting('synchronized_standby_slots', true), ''),
	(select count(*) from pg_replication_slots where slot_type = 'physical' and active),
	coalesce((select min(rolname) from pg_roles
		where rolname in ('rds_superuser', 'cloudsqlsuperuser', 'azure_pg_admin', 'alloydbsuperuser', 'supabase_admin', 'neon_superuser')), '')`

// providers are known by the role of their administrators.
var providers = map[string]struct{ name, parameters string }{
	"rds_superuser":     {"Amazon RDS or Aurora", "in the parameter group"},
	"cloudsqlsuperuser": {"Google Cloud SQL", "as a database flag (gcloud sql instances patch --database-flags)"},
	"alloydbsuperuser":  {"Google AlloyDB", "as a database flag (gcloud alloydb instances update --database-flags)"},
	"azure_pg_admin":    {"Azure Database for PostgreSQL", "as a server parameter (az postgres flexible-server parameter set)"},
	"supabase_admin":    {"Supabase", "with supabase postgres-config update"},
	"neon_superuser":    {"Neon", "in the project's settings (logical replication) or by its support"},
}

// set says how a setting of the server is changed there.
func (in *Inspection) set(name, value string, restart bool) string {
	then := "; then select pg_reload_conf()"
	if restart {
		then = "; then restart the server"
	}
	if p, managed := providers[in.provider]; managed {
		return name + " = " + value + " " + p.parameters + map[bool]string{true: "; then restart the server"}[restart]
	}
	return "alter system set " + name + " = " + value + then
}

// lookAtSettings finds what the server is short of, and settings that harm a relay later.
func (in *Inspection) lookAtSettings(ctx context.Context) error {
	var c capacity
	err := in.conn.QueryRow(ctx, selectCapacity).Scan(&c.slots, &c.maxSlots, &c.senders, &c.maxSenders, &c.fsync, &c.readOnly,
		&c.idleSession, &c.idleSlot, &c.connections, &c.standbySlots, &c.standbys, &c.provider)
	if err != nil {
		return fmt.Errorf("read the server's settings: %w", err)
	}
	in.provider = c.provider
	if p, managed := providers[c.provider]; managed {
		in.ok("the server is managed: %s; its settings are changed %s", p.name, p.parameters)
	}
	in.checkRoom(&c)
	if in.facts.slot == nil {
		if err := in.lookForWaits(ctx, waitWorthTelling); err != nil {
			return err
		}
	}
	if !c.fsync {
		in.add(Warn, "fsync is off", "a crash of the server's machine loses what Kafka has and Postgres has confirmed", in.set("fsync", "on", false))
	}
	if c.readOnly {
		in.add(Fail, "default_transaction_read_only is on", "the relay stores its checkpoint in this database", "alter role "+roleOf(&in.cfg.Postgres)+" set default_transaction_read_only = off")
	}
	if c.idleSession > 0 {
		in.add(Warn, fmt.Sprintf("idle_session_timeout is %s for this role", time.Duration(c.idleSession)*time.Millisecond),
			"the relay's listening connection is idle by design; each time it is ended a session ends", "alter role "+roleOf(&in.cfg.Postgres)+" set idle_session_timeout = 0")
	}
	in.checkTimeouts(&c)
	in.checkFailover(&c)
	return nil
}

// checkRoom looks for a free slot and a free walsender.
func (in *Inspection) checkRoom(c *capacity) {
	if in.facts.slot == nil && c.slots >= c.maxSlots {
		in.add(Fail, fmt.Sprintf("all %d replication slots are in use (max_replication_slots)", c.maxSlots), "the relay reads from one of its own",
			"drop one that nobody reads (select slot_name, active from pg_replication_slots), or "+in.set("max_replication_slots", fmt.Sprint(c.maxSlots+5), true))
	}
	streaming := in.facts.slot != nil && in.facts.slot.Active
	if !streaming && c.senders >= c.maxSenders {
		in.add(Fail, fmt.Sprintf("all %d walsenders are in use (max_wal_senders)", c.maxSenders), "the relay streams from one",
			in.set("max_wal_senders", fmt.Sprint(c.maxSenders+5), true))
	}
	in.ok("replication slots: %d of %d in use; walsenders: %d of %d", c.slots, c.maxSlots, c.senders, c.maxSenders)
	needs := 3 // saves, the listener, the stream
	if in.cfg.Retention > 0 {
		needs++
	}
	repair := "alter role " + roleOf(&in.cfg.Postgres) + " connection limit -1"
	switch {
	case c.connections >= 0 && c.connections < needs:
		in.add(Fail, fmt.Sprintf("the role may have no more than %d connections", c.connections), fmt.Sprintf("a relay takes %d", needs), repair)
	case c.connections >= 0 && c.connections < 2*needs:
		in.add(Warn, fmt.Sprintf("the role may have no more than %d connections", c.connections), fmt.Sprintf("a relay takes %d, and one that stands by as many", needs), repair)
	}
}

// The bounds within which a wal_sender_timeout is unremarkable.
const (
	shortSenderTimeout = 5 * time.Second
	longSenderTimeout  = 5 * time.Minute
)

func (in *Inspection) checkTimeouts(c *capacity) {
	switch timeout := in.facts.walSenderTimeout; {
	case timeout == 0:
		in.add(Warn, "wal_sender_timeout is 0", "the slot of a relay whose host has vanished is never free again, and no standby relay can take over", in.set("wal_sender_timeout", "'60s'", false))
	case timeout < shortSenderTimeout:
		in.add(Warn, "wal_sender_timeout is "+timeout.String(), "a short pause of the network or of the relay's machine ends a session", in.set("wal_sender_timeout", "'60s'", false))
	case timeout > longSenderTimeout:
		in.add(Warn, "wal_sender_timeout is "+timeout.String(), "a standby relay waits as long before it can take over from one whose host has vanished", in.set("wal_sender_timeout", "'60s'", false))
	}
	if c.idleSlot > 0 {
		in.add(Warn, fmt.Sprintf("idle_replication_slot_timeout is %s", time.Duration(c.idleSlot)*time.Second),
			"a relay that is stopped for longer finds its slot invalidated: a gap", in.set("idle_replication_slot_timeout", "0", false))
	}
	switch keep := in.facts.maxSlotWAL; {
	case keep >= 0:
		in.ok("max_slot_wal_keep_size is %d MiB: a relay that is stopped for longer than that lasts finds its slot lost, rather than the disk full", keep>>20)
	case in.cfg.Postgres.MaxRetainedWAL > 0:
		in.ok("max_slot_wal_keep_size is unlimited; the relay raises an alarm from %d MiB on (postgres.max_retained_wal)", in.cfg.Postgres.MaxRetainedWAL>>20)
	default:
		in.add(Warn, "max_slot_wal_keep_size is unlimited, and postgres.max_retained_wal is not set", "the slot of a stopped relay holds back WAL until the primary's disk is full",
			in.set("max_slot_wal_keep_size", "'50GB'", false)+" (beyond it the slot is lost, and the disk is safe); or set postgres.max_retained_wal (an alarm, and nothing is lost)")
	}
}

// checkFailover looks at what becomes of the slot when a standby is promoted (PostgreSQL 17 and later).
func (in *Inspection) checkFailover(c *capacity) {
	slot := in.facts.slot
	switch {
	case c.standbys == 0 || slot == nil || in.facts.version < failoverVersion:
		return
	case !slot.Failover:
		in.add(Warn, "there are standbys, and the slot does not follow a promotion", "after one the relay finds no slot: a gap",
			"stop the relay, then, on a replication connection (psql 'replication=database'): ALTER_REPLICATION_SLOT "+in.cfg.Postgres.Slot+" (FAILOVER true); and on the standbys sync_replication_slots = on")
	case c.standbySlots == "":
		in.add(Warn, "synchronized_standby_slots is empty", "the relay may publish what a standby has not received yet; were that one promoted, Kafka would hold events that the database never had", in.set("synchronized_standby_slots", "'<the standbys'' physical slots>'", false))
	}
}

// waitWorthTelling is how old a transaction is that is going to keep a new slot waiting.
const waitWorthTelling = 10 * time.Second

const selectWaits = `
select 'pid ' || pid || coalesce(' (user ' || usename || ', ' || application_name || ', ' || state || ')', ''), xact_start, 'select pg_terminate_backend(' || pid || ')'
from pg_stat_activity where backend_xid is not null and xact_start is not null and pid <> pg_backend_pid()
union all
select 'the prepared transaction ' || quote_literal(gid), prepared, 'commit prepared ' || quote_literal(gid) || ' or rollback prepared ' || quote_literal(gid) || ', in database ' || database
from pg_prepared_xacts order by 2`

// lookForWaits finds transactions older than age that a new slot would wait for.
func (in *Inspection) lookForWaits(ctx context.Context, age time.Duration) error {
	rows, err := in.conn.Query(ctx, selectWaits)
	if err != nil {
		return fmt.Errorf("read the open transactions: %w", err)
	}
	var who, end string
	var since time.Time
	_, err = pgx.ForEachRow(rows, []any{&who, &since, &end}, func() error {
		if time.Since(since) > age {
			in.add(Warn, fmt.Sprintf("%s has been open since %s", who, since.UTC().Format(time.RFC3339)), "the new slot waits for every transaction that writes to end, in all databases of the server", end)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the open transactions: %w", err)
	}
	return nil
}

// lowRoom is the part of max_slot_wal_keep_size from which on little is left.
const lowRoom = 5

// lookAtSlot says how the slot stands.
func (in *Inspection) lookAtSlot(ctx context.Context) error {
	slot := in.facts.slot
	if slot == nil || slot.lost() != "" || slot.Plugin != "pgoutput" {
		return nil // said already
	}
	held := int64(in.facts.walEnd - min(in.facts.walEnd, slot.Restart))
	reader := "nobody reads it"
	if slot.Active {
		who, err := slot.holder(ctx, in.conn)
		if err != nil {
			return err
		}
		reader = "read by " + who
	}
	switch limit := in.cfg.Postgres.MaxRetainedWAL; {
	case slot.WALStatus == "unreserved":
		in.add(Fail, fmt.Sprintf("slot %s is about to be lost (wal_status unreserved); %s", in.cfg.Postgres.Slot, reader),
			"it has outgrown max_slot_wal_keep_size, and the next checkpoint of the server removes its WAL", "start the relay now, or "+in.set("max_slot_wal_keep_size", "-1", false))
	case slot.SafeBytes != nil && in.facts.maxSlotWAL > 0 && *slot.SafeBytes < in.facts.maxSlotWAL/lowRoom:
		in.add(Warn, fmt.Sprintf("slot %s holds back %d MiB of WAL, and %d MiB more make it lost; %s", in.cfg.Postgres.Slot, held>>20, *slot.SafeBytes>>20, reader),
			"max_slot_wal_keep_size is nearly used up", "see why the relay is behind: outrider status; or raise the limit: "+in.set("max_slot_wal_keep_size", "...", false))
	case limit > 0 && held > limit:
		in.add(Warn, fmt.Sprintf("slot %s holds back %d MiB of WAL, more than postgres.max_retained_wal; %s", in.cfg.Postgres.Slot, held>>20, reader),
			"the primary's disk fills", "see why the relay is behind: outrider status")
	default:
		in.ok("slot %s holds back %d MiB of WAL (wal_status %s); %s", in.cfg.Postgres.Slot, held>>20, slot.WALStatus, reader)
	}
	var spilled, bytes int64
	err := in.conn.QueryRow(ctx, `select coalesce(sum(spill_txns), 0), coalesce(sum(spill_bytes), 0) from pg_stat_replication_slots where slot_name = $1`, in.cfg.Postgres.Slot).Scan(&spilled, &bytes)
	if err != nil {
		return fmt.Errorf("read what decoding has spilled: %w", err)
	}
	if spilled > 0 {
		in.ok("transactions that were too large for logical_decoding_work_mem, and went over the server's disk: %d, %d MiB", spilled, bytes>>20)
	}
	return nil
}
