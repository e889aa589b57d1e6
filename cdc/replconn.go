package cdc

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

const (
	// writeTimeout bounds a status report. A walsender takes reports whatever it is doing, so a full socket
	// means that nobody is there.
	writeTimeout = 10 * time.Second
	// cancelTimeout bounds the wait for the server to give up a command after our context has ended.
	cancelTimeout = 5 * time.Second
)

// replConn is the replication connection. It begins as a pgconn connection that takes commands; start turns it into a
// stream with two halves: fill and next belong to the reader, sendStatus and sendCopyDone to the reporter.
// The halves share nothing that either writes, so there is no lock.
type replConn struct {
	pid uint32 // of our walsender

	pg   *pgconn.PgConn // until start
	conn net.Conn       // after start, TLS included
	sock *lazyConn      // after start, below TLS

	frames // the read half

	out [statusSize]byte // the write half
}

// dialReplication opens a connection to a walsender of the database.
func dialReplication(ctx context.Context, pg *Postgres) (*replConn, error) {
	cfg, err := pgconn.ParseConfig(pg.URL)
	if err != nil {
		return nil, fmt.Errorf("postgres url: %w", err)
	}
	if err := pg.session(cfg); err != nil {
		return nil, err
	}
	cfg.RuntimeParams["replication"] = "database"
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		sock, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &lazyConn{Conn: sock}, nil
	}
	// A CREATE_REPLICATION_SLOT that waits for somebody's transaction must be cancelled, not left: it would go on
	// without us, and leave a slot behind that nobody reads.
	cfg.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelTimeout}
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open the replication connection: %w", err)
	}
	return &replConn{pid: conn.PID(), pg: conn}, nil
}

// identify asks who is at the other end, and where its WAL ends.
func (c *replConn) identify(ctx context.Context) (serverID, lsn, error) {
	sys, err := pglogrepl.IdentifySystem(ctx, c.pg)
	if err != nil {
		return serverID{}, 0, fmt.Errorf("identify the server: %w", err)
	}
	started, err := c.text(ctx, selectStartTime)
	if err != nil {
		return serverID{}, 0, fmt.Errorf("identify the server: %w", err)
	}
	return serverID{systemID: sys.SystemID, timeline: uint32(sys.Timeline), started: started}, sys.XLogPos, nil
}

// walSenderTimeout is the time after which our walsender gives up a relay that does not report; 0 is never.
func (c *replConn) walSenderTimeout(ctx context.Context) (time.Duration, error) {
	ms, err := c.text(ctx, selectWALSenderTimeout)
	if err != nil {
		return 0, fmt.Errorf("read wal_sender_timeout: %w", err)
	}
	n, err := strconv.Atoi(ms)
	if err != nil {
		return 0, fmt.Errorf("read wal_sender_timeout: %w", err)
	}
	return time.Duration(n) * time.Millisecond, nil
}

// A walsender takes only simple queries, hence the casts and no parameters.
const (
	selectStartTime        = `select extract(epoch from pg_postmaster_start_time())::text`
	selectWALSenderTimeout = `select setting from pg_settings where name = 'wal_sender_timeout'`
)

// text runs a query with one value.
func (c *replConn) text(ctx context.Context, sql string) (string, error) {
	results, err := c.pg.Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 1 {
		return "", fmt.Errorf("no answer to %q", sql)
	}
	return string(results[0].Rows[0][0]), nil
}

// history reads the past of the server's present timeline.
func (c *replConn) history(ctx context.Context, current uint32) (timelines, error) {
	if current == 1 {
		return timelines{current: 1}, nil // it has no history file
	}
	file, err := pglogrepl.TimelineHistory(ctx, c.pg, int32(current))
	if err != nil {
		return timelines{}, fmt.Errorf("read the history of timeline %d: %w", current, err)
	}
	return parseHistory(current, file.Content)
}

// createSlot makes a permanent slot and returns the LSN from which it streams. It waits for every transaction that is
// running. The server releases the slot when it is made: take it with start at once.
func (c *replConn) createSlot(ctx context.Context, slot string, failover bool) (lsn, error) {
	// The option list in parentheses came with PostgreSQL 15, FAILOVER with 17. The snapshot is for copying a table, which we do not.
	options := "NOEXPORT_SNAPSHOT"
	if failover {
		options = "(SNAPSHOT 'nothing', FAILOVER true)"
	}
	answer := c.pg.Exec(ctx, "CREATE_REPLICATION_SLOT "+quoteName(slot)+" LOGICAL pgoutput "+options)
	made, err := pglogrepl.ParseCreateReplicationSlot(answer)
	if err != nil {
		return 0, fmt.Errorf("create replication slot %s: %w", slot, err)
	}
	point, err := pglogrepl.ParseLSN(made.ConsistentPoint)
	if err != nil {
		return 0, fmt.Errorf("create replication slot %s: %w", slot, err)
	}
	return point, nil
}

// start takes the slot and begins the stream at from; 0 is the slot's own confirmed position. An error of the server
// is a *pgconn.PgError. Whatever the error, the connection is of no further use than close.
//
// The connection leaves pgconn while it is idle and before the command is sent: once CopyBoth has begun, pgconn's
// buffer may hold the first frames already, and a hijack would lose them.
func (c *replConn) start(ctx context.Context, slot string, from lsn, pluginArgs []string) error {
	if err := c.pg.SyncConn(ctx); err != nil {
		return fmt.Errorf("start replication: %w", err)
	}
	h, err := c.pg.Hijack()
	if err != nil {
		return fmt.Errorf("start replication: %w", err)
	}
	c.pg = nil
	if err := c.take(h.Conn); err != nil {
		return err
	}

	return c.begin(ctx, slot, from, pluginArgs)
}

// begin starts the stream on the raw connection.
func (c *replConn) begin(ctx context.Context, slot string, from lsn, pluginArgs []string) error {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	err := c.startReplication("START_REPLICATION SLOT " + quoteName(slot) + " LOGICAL " + from.String() + " (" + strings.Join(pluginArgs, ", ") + ")")
	if !stop() {
		return fmt.Errorf("start replication: %w", context.Cause(ctx)) // the deadline stays: the connection is dead
	}
	if err != nil {
		return fmt.Errorf("start replication on slot %s: %w", slot, err)
	}
	return nil
}

// take adopts a connection that is idle.
func (c *replConn) take(conn net.Conn) error {
	under := conn
	tlsConn, encrypted := conn.(*tls.Conn)
	if encrypted {
		under = tlsConn.NetConn()
	}
	sock, ok := under.(*lazyConn)
	if !ok {
		return fmt.Errorf("start replication: the connection is a %T, not the one that was dialled", under)
	}
	c.conn, c.sock, c.frames = conn, sock, frames{src: conn}
	if encrypted {
		sock.buf = make([]byte, blockSize)
		c.below = sock
	}
	return nil
}

// startReplication sends the command and waits for CopyBothResponse. Frames that came with it stay buffered.
func (c *replConn) startReplication(command string) error {
	query := binary.BigEndian.AppendUint32([]byte{'Q'}, uint32(4+len(command)+1))
	query = append(append(query, command...), 0)
	if _, err := c.conn.Write(query); err != nil {
		return err
	}
	for {
		if err := c.fill(); err != nil {
			return err
		}
		for {
			typ, body, ok := c.next()
			if !ok {
				break
			}
			switch typ {
			case frameCopyBoth:
				return nil
			case frameError:
				return parseServerError(body)
			case frameNotice, frameParameterStatus:
			default:
				return fmt.Errorf("unexpected message %q where CopyBothResponse belongs", typ)
			}
		}
	}
}

// setReadDeadline makes fill fail with os.ErrDeadlineExceeded when nothing has come by t; zero is never. The next
// fill may go on where it stopped. It may be called by anyone, also while fill blocks.
func (c *replConn) setReadDeadline(t time.Time) { _ = c.conn.SetReadDeadline(t) } // a closed connection says so at the read

// statusSize is that of a Standby Status Update within its CopyData frame.
const statusSize = frameHeader + 1 + 8 + 8 + 8 + 8 + 1

// sendStatus reports what has been received and what may be forgotten (PostgreSQL docs, "Streaming Replication
// Protocol", Standby status update). Only flush moves a logical slot; apply is told the same, for pg_stat_replication.
// An error ends the session: half a message may have been sent.
func (c *replConn) sendStatus(write, flush lsn, replyRequested bool) error {
	b := append(c.out[:0], frameCopyData)
	b = binary.BigEndian.AppendUint32(b, statusSize-1)
	b = append(b, 'r')
	b = binary.BigEndian.AppendUint64(b, uint64(write))
	b = binary.BigEndian.AppendUint64(b, uint64(flush))
	b = binary.BigEndian.AppendUint64(b, uint64(flush))
	b = binary.BigEndian.AppendUint64(b, uint64(pgMicros(time.Now())))
	if replyRequested {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	return c.send(b)
}

// sendCopyDone ends our side of the stream; the server answers with CopyDone and what it had already sent before it.
func (c *replConn) sendCopyDone() error {
	return c.send([]byte{frameCopyDone, 0, 0, 0, 4})
}

func (c *replConn) send(b []byte) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("send status: %w", err)
	}
	if _, err := c.conn.Write(b); err != nil {
		return fmt.Errorf("send status: %w", err)
	}
	return nil
}

// close lets go of the connection at once, whatever the halves are doing; they return an error then. It may be called
// by anyone after start, and more than once.
func (c *replConn) close() error {
	if c.pg != nil {
		ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
		defer cancel()
		return c.pg.Close(ctx)
	}
	// Not through TLS, whose goodbye waits for a peer that may be gone.
	if err := c.sock.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// quoteName makes an identifier of a name, in SQL and in replication commands.
func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
