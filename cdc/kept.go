package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/outrider-relay/outrider/checkpoint"
	"github.com/outrider-relay/outrider/migrations"
)

// Below the checkpoint everything that the stream brought is in Kafka. What it did not bring is not: rows from before the slot was
// made, those that a decision has passed over, those that were written while they were not published. Such a row was written before
// the first start, before the decision was taken, or before what is published was changed for the last time; and so it has a
// transaction that began before that is noted, in checkpoint.Kept.

// keepRows notes that the rows written so far are not to be deleted, before anything is done by which one could be taken for
// delivered.
func (s *session) keepRows(ctx context.Context, why string) error {
	published, err := readPublished(ctx, s.control, &s.cfg.Postgres)
	if err != nil {
		return err
	}
	return checkpoint.Keep(ctx, s.control, s.cfg.Name, s.generation, why, published)
}

// keepPassedOver does so, once a session and before it sends anything, where what a person has decided leaves rows out of the stream,
// or says that some have been lost after it.
func (s *session) keepPassedOver(ctx context.Context) error {
	decided := s.events // of which some were decided about otherwise, after they had been taken up
	if s.decision != nil {
		decided = append(slices.Clone(decided), *s.decision)
	}
	i := slices.IndexFunc(decided, func(d checkpoint.Decision) bool {
		return d.Action != checkpoint.AcceptRepeats && d.Action != checkpoint.DeadLetterEvent
	})
	if i < 0 || s.kept {
		return nil
	}
	err := s.keepRows(ctx, decided[i].String()+", decided by "+decided[i].By)
	s.kept = err == nil
	return err
}

// errUnnoted says that it is not known which rows have been read since they are published as they are.
var errUnnoted = errors.New("publication or outbox.tables are not what they were when it was last noted which rows are on Kafka: give the settings of the relay; or say that all are by now, with --passed-over")

// keptRows gives the rows that are not to be deleted.
func keptRows(ctx context.Context, conn *pgx.Conn, cfg *Config) (checkpoint.Kept, error) {
	kept, _, possible, err := checkpoint.ReadKept(ctx, conn, cfg.Name)
	if err == nil && !possible {
		err = findings{{
			"table outrider.checkpoint was made by an older version, and has no column kept", "which rows are on Kafka is noted there",
			"outrider init, as the table's owner; or: " + strings.Join(strings.Fields(migrations.LaterSQL()), " "),
		}}
	}
	if err != nil {
		return checkpoint.Kept{}, err
	}
	// This is asked first: what has changed since is younger than any mark.
	if err := checkPublished(ctx, conn, &cfg.Postgres); err != nil {
		return checkpoint.Kept{}, err
	}
	published, err := readPublished(ctx, conn, &cfg.Postgres)
	if err == nil && (kept == nil || kept.Published != published) {
		err = errUnnoted
	}
	if err != nil {
		return checkpoint.Kept{}, err
	}
	return *kept, nil
}

// checkPublished is a findings where a table is not in the stream as it is published now: its rows are no more read after the last
// change than before it.
func checkPublished(ctx context.Context, conn *pgx.Conn, pg *Postgres) error {
	publication, err := readPublication(ctx, conn, pg.Publication)
	if err != nil {
		return err
	}
	if publication == nil {
		return missingPublication(pg)
	}
	tables, err := readTables(ctx, conn, pg.Tables)
	if err != nil {
		return err
	}
	if bad, _ := publication.findings(pg, tables); len(bad) > 0 {
		return bad
	}
	return nil
}

// renewKept is keptRows for the relay itself, which notes what has changed: all that was written before may not be on Kafka.
func (s *session) renewKept(ctx context.Context, conn *pgx.Conn) (checkpoint.Kept, error) {
	kept, err := keptRows(ctx, conn, s.cfg)
	if !errors.Is(err, errUnnoted) {
		return kept, err
	}
	published, err := readPublished(ctx, conn, &s.cfg.Postgres)
	if err == nil {
		err = checkpoint.Keep(ctx, conn, s.cfg.Name, s.store.Generation(), "publication or outbox.tables were changed, or an older version left no note", published)
	}
	if err != nil {
		return kept, err
	}
	return keptRows(ctx, conn, s.cfg)
}

// letGoOfKept keeps nothing any more.
func letGoOfKept(ctx context.Context, conn *pgx.Conn, cfg *Config, by string) error {
	published, err := readPublished(ctx, conn, &cfg.Postgres)
	if err != nil {
		return err
	}
	_, stands, _, err := checkpoint.ReadKept(ctx, conn, cfg.Name)
	if err != nil {
		return err
	}
	return checkpoint.LetGo(ctx, conn, cfg.Name, stands, "outrider prune --passed-over by "+by, published)
}

// A row of these catalogs has another xmin when it was changed, and another oid when it was made anew; a name has another oid when
// it was given to another table.
const selectPublished = `
select md5(concat_ws(' ', array_to_string($2::text[], ' '),
	(select string_agg(c.oid::text, ' ' order by c.oid) from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname || '.' || c.relname = any ($2)),
	(select string_agg(concat_ws(':', p.oid, p.xmin), ' ' order by p.oid) from pg_publication p where p.pubname = $1),
	(select string_agg(concat_ws(':', r.oid, r.xmin, r.prrelid), ' ' order by r.oid) from pg_publication_rel r join pg_publication p on p.oid = r.prpubid where p.pubname = $1)%s))`

// schemaPublications is PostgreSQL 15, the first that publishes schemas.
const schemaPublications = 15

const publishedSchemas = `,
	(select string_agg(concat_ws(':', s.oid, s.xmin), ' ' order by s.oid) from pg_publication_namespace s join pg_publication p on p.oid = s.pnpubid where p.pubname = $1)`

// readPublished stands for what is published and taken for events: it is another text when that was changed in between.
func readPublished(ctx context.Context, conn *pgx.Conn, pg *Postgres) (digest string, err error) {
	var major int
	if _, err := fmt.Sscan(strings.Split(conn.PgConn().ParameterStatus("server_version"), ".")[0], &major); err != nil {
		return "", fmt.Errorf("read the server's version: %w", err)
	}
	schemas := ""
	if major >= schemaPublications {
		schemas = publishedSchemas
	}
	if err := conn.QueryRow(ctx, fmt.Sprintf(selectPublished, schemas), pg.Publication, pg.Tables).Scan(&digest); err != nil {
		return "", fmt.Errorf("read what is published: %w", err)
	}
	return digest, nil
}
