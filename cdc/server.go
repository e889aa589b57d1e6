package cdc

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// serverID tells one running server from any other: a restart, a promotion, a clone and another host all differ.
type serverID struct {
	systemID string // as pg_control_system prints it
	timeline uint32 // 0 for a standby
	started  string // of the postmaster, in seconds since 1970
}

// sameServer refuses a session whose connections do not all reach one server. With several hosts in the URL, or an
// address that moves, a checkpoint could otherwise be stored on one server for WAL that another one streams.
func sameServer(a, b serverID) error {
	if a != b {
		return fmt.Errorf("the session's connections reach different servers: system %s, timeline %d, started at %s, and system %s, timeline %d, started at %s",
			a.systemID, a.timeline, a.started, b.systemID, b.timeline, b.started)
	}
	return nil
}

// The timeline is that of the WAL being written: pg_control_checkpoint still shows the old one for a while after a promotion.
const selectServerID = `
select
	(select system_identifier::text from pg_control_system()),
	case when pg_is_in_recovery() then 0
	     else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint end,
	extract(epoch from pg_postmaster_start_time())::text`

// identifyServer is replConn.identify for a control connection.
func identifyServer(ctx context.Context, conn *pgx.Conn) (serverID, error) {
	var id serverID
	var timeline int64
	if err := conn.QueryRow(ctx, selectServerID).Scan(&id.systemID, &timeline, &id.started); err != nil {
		return serverID{}, fmt.Errorf("identify the server: %w", err)
	}
	id.timeline = uint32(timeline)
	return id, nil
}

// listen waits until the connection ends, and returns why; nil when ctx ended. It is how a shutdown of the server
// (57P01) is seen at once, which a walsender does not tell: it waits for us instead.
func listen(ctx context.Context, conn *pgx.Conn) error {
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("listening connection: %w", err)
		}
	}
}
