package main

import (
	"context"
	"fmt"
)

// backlog is a scene: rows that wait in the log when a reader starts.
type backlog struct {
	Name       string `json:"backlog"`              // bulk, single or huge
	Rows       int    `json:"rows"`                 //
	Batch      int    `json:"rows_per_transaction"` //
	Payload    int    `json:"payload_bytes"`        // of each row's jsonb, about
	Partitions int    `json:"partitions"`           // of the topic
}

func (l backlog) String() string {
	return fmt.Sprintf("%s, %d B, %s", l.Name, l.Payload, counted(l.Partitions, "partition"))
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// extent is what a backlog is in the database.
type extent struct {
	end     string  // an LSN between the last row but one and the last
	payload float64 // bytes of a row's jsonb as text, on average
}

// makeNotes makes the part of the payloads that fills them up to their size: texts that no compression finds anything in, so
// that a large row costs its size in the log, and enough of them that no batch has one twice.
const makeNotes = `create table notes as select n, left(string_agg(replace(encode(sha512((n || ':' || part)::bytea), 'base64'), e'\n', ''), ''), %[1]d) as note
	from generate_series(0, %[2]d - 1) n, generate_series(0, %[1]d / 88) part group by n`

// writeRows writes rows %[1]d to %[2]d, in transactions of %[3]d. It runs in the server: a client would need minutes for a
// million commits.
const writeRows = `do $$ begin
	for n in 0..%[2]d - %[1]d by %[3]d loop
		insert into public.outbox (aggregate_type, aggregate_id, event_type, payload)
			select '` + aggregateType + `', 'k' || i %% %[4]d, 'Written', jsonb_build_object('n', i, 'customer', 'c' || i %% 977, 'items', jsonb_build_array('a', 'b'),
				'note', (select note from notes where notes.n = i %% %[5]d))
			from generate_series(%[1]d + n, least(%[1]d + n + %[3]d - 1, %[2]d)) i;
		commit;
	end loop;
end $$`

// write commits the rows. The last has a transaction of its own, whose LSN tells pg_recvlogical where to end.
func (l backlog) write(ctx context.Context, s *stage) (x extent, err error) {
	const (
		besideNote = 70      // bytes of the payload
		allNotes   = 4 << 20 // bytes
	)
	size := max(1, l.Payload-besideNote)
	notes := allNotes / size
	for _, sql := range []string{
		`set synchronous_commit = off`, // for the writing alone: it delays what walsenders see
		fmt.Sprintf(makeNotes, size, notes), `alter table notes add primary key (n)`, `analyze notes`,
		fmt.Sprintf(writeRows, 0, l.Rows-2, l.Batch, keys, notes),
	} {
		if _, err := s.conn.Exec(ctx, sql); err != nil {
			return x, err
		}
	}
	if err := s.conn.QueryRow(ctx, `select pg_current_wal_insert_lsn()::text`).Scan(&x.end); err != nil {
		return x, err
	}
	if _, err := s.conn.Exec(ctx, fmt.Sprintf(writeRows, l.Rows-1, l.Rows-1, 1, keys, notes)); err != nil {
		return x, err
	}
	if err := s.conn.QueryRow(ctx, `select avg(octet_length(payload::text)) from (select payload from public.outbox limit 1000) sample`).Scan(&x.payload); err != nil {
		return x, err
	}
	_, err = s.conn.Exec(ctx, `checkpoint`) // now, rather than while somebody is measured
	return x, err
}
