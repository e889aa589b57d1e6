package checkpoint

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Partition is a Kafka partition that a relay may have written: a row of outrider.partition.
type Partition struct {
	Topic    string
	ID       int32
	ScanFrom int64 // an offset at or below every record whose event lies above the checkpoint's LSN
	Owned    bool  // the batch at ScanFrom is our own
}

// The row of the relay is locked first: a newer session waits for us, or we find that it has been here.
const registerSQL = `with mine as (
		select name from outrider.checkpoint where name = $1 and generation = $2 for no key update
	)
	insert into outrider.partition (name, topic, partition, scan_from, owned)
	select mine.name, p.topic, p.partition, p.scan_from, p.owned
	from mine, unnest($3::text[], $4::int[], $5::bigint[], $6::boolean[]) as p (topic, partition, scan_from, owned)
	on conflict (name, topic, partition) do update set scan_from = excluded.scan_from, owned = excluded.owned`

// Register makes the partitions durable, all or none: new ones before their first record, and known ones with the place
// from which the next restart may begin to scan. Each partition is named once.
func (s *Store) Register(ctx context.Context, partitions []Partition) error {
	if len(partitions) == 0 {
		return nil
	}
	var (
		topics = make([]string, len(partitions))
		ids    = make([]int32, len(partitions))
		scans  = make([]int64, len(partitions))
		owned  = make([]bool, len(partitions))
	)
	for i, p := range partitions {
		topics[i], ids[i], scans[i], owned[i] = p.Topic, p.ID, p.ScanFrom, p.Owned
	}
	if err := s.write(ctx, registerSQL, topics, ids, scans, owned); err != nil {
		return fmt.Errorf("register %d partitions of %s: %w", len(partitions), s.name, err)
	}
	return nil
}

const partitionsSQL = `select topic, partition, scan_from, owned from outrider.partition
	where name = $1 order by topic, partition`

// Partitions returns what is registered, by topic and number. Since the session has taken the row, no older one adds to it.
func (s *Store) Partitions(ctx context.Context) ([]Partition, error) {
	return ReadPartitions(ctx, s.conn, s.name)
}

// ReadPartitions is Partitions for whoever has taken no row.
func ReadPartitions(ctx context.Context, conn *pgx.Conn, name string) ([]Partition, error) {
	rows, err := conn.Query(ctx, partitionsSQL, name)
	if err != nil {
		return nil, fmt.Errorf("read the partitions of %s: %w", name, err)
	}
	partitions, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Partition])
	if err != nil {
		return nil, fmt.Errorf("read the partitions of %s: %w", name, err)
	}
	return partitions, nil
}
