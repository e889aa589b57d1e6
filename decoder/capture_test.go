package decoder

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// frame is one message of a captured stream. A stream file holds, for each: WAL start (8 bytes), length (4 bytes), both
// big-endian, and the message.
type frame struct {
	walStart pglogrepl.LSN
	msg      []byte
}

func appendFrame(b []byte, f frame) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(f.walStart))
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.msg)))
	return append(b, f.msg...)
}

// cutFrames cuts a stream into its frames. A frame whose length goes beyond the stream ends with it.
func cutFrames(b []byte) []frame {
	var frames []frame
	for len(b) >= 12 {
		f := frame{walStart: pglogrepl.LSN(binary.BigEndian.Uint64(b))}
		n := min(uint64(binary.BigEndian.Uint32(b[8:])), uint64(len(b)-12))
		f.msg = b[12 : 12+n : 12+n]
		frames = append(frames, f)
		b = b[12+n:]
	}
	return frames
}

func readStream(tb testing.TB, path string) []frame {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return cutFrames(b)
}

// streams lists the captured streams: by Postgres version, with column values as text and in binary.
func streams(tb testing.TB) []string {
	tb.Helper()
	paths, err := filepath.Glob("testdata/*.stream")
	if err != nil || len(paths) == 0 {
		tb.Fatalf("no captured streams: %v", err)
	}
	return paths
}

// TestCapture writes testdata/pg<major>.stream and testdata/pg<major>-binary.stream anew; see testdata/README.md.
func TestCapture(t *testing.T) {
	dsn := os.Getenv("OUTRIDER_CAPTURE_DSN")
	if dsn == "" {
		t.Skip("captures from a real Postgres, on demand: OUTRIDER_CAPTURE_DSN is not set")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	sessions := [2]*pgconn.PgConn{connect(ctx, t, dsn, ""), connect(ctx, t, dsn, "")}
	for _, sql := range workloadSetup {
		exec(ctx, t, sessions[0], sql)
	}
	asText, asBinary := connect(ctx, t, dsn, "database"), connect(ctx, t, dsn, "database")
	createSlot(ctx, t, asText, "capture_text")
	createSlot(ctx, t, asBinary, "capture_binary")
	for _, step := range workload {
		exec(ctx, t, sessions[step.connection], step.sql)
	}
	exec(ctx, t, sessions[0], `select pg_replication_origin_drop('elsewhere')`)
	major, _, _ := strings.Cut(sessions[0].ParameterStatus("server_version"), ".")
	capture(ctx, t, asText, "capture_text", "testdata/pg"+major+".stream")
	capture(ctx, t, asBinary, "capture_binary", "testdata/pg"+major+"-binary.stream", "binary 'true'")
}

func createSlot(ctx context.Context, t *testing.T, conn *pgconn.PgConn, name string) {
	t.Helper()
	if _, err := pglogrepl.CreateReplicationSlot(ctx, conn, name, "pgoutput", pglogrepl.CreateReplicationSlotOptions{Temporary: true}); err != nil {
		t.Fatal(err)
	}
}

func connect(ctx context.Context, t *testing.T, dsn, replication string) *pgconn.PgConn {
	t.Helper()
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	if replication != "" {
		config.RuntimeParams["replication"] = replication
	}
	config.RuntimeParams["TimeZone"] = "UTC"
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func exec(ctx context.Context, t *testing.T, conn *pgconn.PgConn, sql string) {
	t.Helper()
	var err error
	if sql == copyOutbox {
		_, err = conn.CopyFrom(ctx, strings.NewReader(copyData()), sql)
	} else {
		_, err = conn.Exec(ctx, sql).ReadAll()
	}
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// capture writes what the slot sends, up to the last message of the workload, into a file.
func capture(ctx context.Context, t *testing.T, conn *pgconn.PgConn, slot, path string, options ...string) {
	t.Helper()
	options = append(options, "proto_version '1'", "publication_names 'capture'", "messages 'true'")
	if err := pglogrepl.StartReplication(ctx, conn, slot, 0, pglogrepl.StartReplicationOptions{PluginArgs: options}); err != nil {
		t.Fatal(err)
	}
	var stream []byte
	for {
		f, err := receive(ctx, conn)
		if err != nil {
			t.Fatal(err)
		}
		stream = appendFrame(stream, f)
		if bytes.HasPrefix(f.msg, []byte("M")) && bytes.Contains(f.msg, []byte(endPrefix)) {
			break
		}
	}
	if err := os.WriteFile(path, stream, 0o644); err != nil {
		t.Fatal(err)
	}
}

// receive gives the next message of the plugin, passing keepalives over.
func receive(ctx context.Context, conn *pgconn.PgConn) (frame, error) {
	for {
		raw, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return frame{}, err
		}
		switch m := raw.(type) {
		case *pgproto3.CopyData:
			if m.Data[0] != pglogrepl.XLogDataByteID {
				continue
			}
			x, err := pglogrepl.ParseXLogData(m.Data[1:])
			if err != nil {
				return frame{}, err
			}
			return frame{x.WALStart, bytes.Clone(x.WALData)}, nil
		case *pgproto3.ErrorResponse:
			return frame{}, errors.New(m.Message)
		default:
			return frame{}, fmt.Errorf("unexpected %T", m)
		}
	}
}
