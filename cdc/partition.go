package cdc

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// A partition is old when its upper bound is. The bound is a literal of the column's type, as the server prints it.
const selectOldPartitions = `
select name, pending, old, comment from (
	select n.nspname || '.' || c.relname, i.inhdetachpending, coalesce(obj_description(c.oid, 'pg_class'), ''),
		coalesce(substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''([^'']+)''\)$')::%s <= %s, false)
	from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_namespace n on n.oid = c.relnamespace
	join pg_class r on r.oid = i.inhparent join pg_namespace rn on rn.oid = r.relnamespace
	where rn.nspname = $2 and r.relname = $3 and c.relkind = 'r'
) as partitions (name, pending, comment, old)
where old or comment like '` + prunedComment + `%%'
order by 1`

// prunedComment begins the comment on a partition that is being detached, or was and cannot be dropped yet; what it said before
// follows. It is there before the partition is detached, which no transaction can hold together: a relay that is killed in between
// leaves a table which the next round knows for its own. Where it did not come to that, the comment is taken back, for somebody
// who detaches a partition to keep it must not lose it.
const prunedComment = "Outrider: pruned."

// dropPartitions takes partitions that are old as a whole out of the table and drops them. Not every one can be had that way: a
// table with a default partition lets go of none, and it takes the tables' owner. What stays is left to deleteRows.
func (p *Pruned) dropPartitions(ctx context.Context, conn *pgx.Conn, t *agedTable, m mark, age time.Duration) error {
	var owns, open bool
	err := conn.QueryRow(ctx, `select pg_has_role(c.relowner, 'usage'), not exists (select from pg_partitioned_table where partrelid = c.oid and partdefid <> 0)
		from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2`, t.Schema, t.Name).Scan(&owns, &open)
	if err != nil {
		return fmt.Errorf("look at the partitions of %s: %w", t, err)
	}
	if !owns {
		return nil
	}
	if open {
		if err := detachOld(ctx, conn, t, m, age); err != nil {
			return err
		}
	}
	return p.dropDetached(ctx, conn, t, m)
}

// detachOld takes old partitions out of the table. It waits for nobody's transaction with a lock that others would queue behind.
func detachOld(ctx context.Context, conn *pgx.Conn, t *agedTable, m mark, age time.Duration) error {
	typ, cutoff := "timestamptz", "now() - make_interval(secs => $1)"
	if !t.Zoned {
		typ, cutoff = "timestamp", "("+cutoff+") at time zone 'UTC'"
	}
	rows, err := conn.Query(ctx, fmt.Sprintf(selectOldPartitions, typ, cutoff), age.Seconds(), t.Schema, t.Name)
	if err != nil {
		return fmt.Errorf("look at the partitions of %s: %w", t, err)
	}
	old, err := pgx.CollectRows(rows, pgx.RowToStructByPos[agedPartition])
	if err != nil {
		return fmt.Errorf("look at the partitions of %s: %w", t, err)
	}
	for _, o := range old {
		if err := o.detach(ctx, conn, t, m); err != nil {
			return err
		}
	}
	return nil
}

// agedPartition is a partition that is old, or that an attempt before has marked.
type agedPartition struct {
	Name    string
	Pending bool // an attempt before was cut off while it was being detached
	Old     bool
	Comment string
}

// detach takes the partition out of the table, unless a row in it may have to be delivered yet.
func (o *agedPartition) detach(ctx context.Context, conn *pgx.Conn, t *agedTable, m mark) error {
	marked := strings.HasPrefix(o.Comment, prunedComment)
	if o.Pending && !marked {
		return nil // somebody else was cut off, who may want to keep it
	}
	whole := o.Pending
	if o.Old && !whole {
		var err error
		if whole, err = t.isDelivered(ctx, conn, o.Name, m); err != nil {
			return err
		}
	}
	switch {
	case !whole && marked:
		return o.comment(ctx, conn, strings.TrimPrefix(strings.TrimPrefix(o.Comment, prunedComment), " "))
	case !whole:
		return nil
	case !marked:
		if err := o.comment(ctx, conn, strings.TrimSpace(prunedComment+" "+o.Comment)); err != nil {
			return err
		}
	}
	how := "concurrently"
	if o.Pending {
		how = "finalize"
	}
	if _, err := conn.Exec(ctx, "alter table "+t.quoted()+" detach partition "+quoteTable(o.Name)+" "+how); err != nil {
		return fmt.Errorf("detach partition %s: %w", o.Name, err)
	}
	return nil
}

func (o *agedPartition) comment(ctx context.Context, conn *pgx.Conn, text string) error {
	if _, err := conn.Exec(ctx, "comment on table "+quoteTable(o.Name)+" is "+quoteLiteral(text)); err != nil {
		return fmt.Errorf("mark partition %s: %w", o.Name, err)
	}
	return nil
}

// isDelivered says whether a partition, of before or of now, has no row that is not delivered or is kept.
func (t *agedTable) isDelivered(ctx context.Context, conn *pgx.Conn, partition string, m mark) (whole bool, err error) {
	sql := "select not exists (select from " + quoteTable(partition) + " where (" + t.delivered(1) + ") is not true)"
	if err := conn.QueryRow(ctx, sql, m.xmin, m.kept.XID, m.kept.At).Scan(&whole); err != nil {
		return false, fmt.Errorf("look into partition %s: %w", partition, err)
	}
	return whole, nil
}

const selectDetached = `
select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relkind = 'r' and not c.relispartition
	and exists (select from pg_attribute where attrelid = c.oid and attname = $2 and not attisdropped) and obj_description(c.oid, 'pg_class') like '` + prunedComment + `%'
order by 1`

// dropDetached drops what was detached from a table of the schema, in this pass or an earlier one. A row that came into it in
// the last moment may have to be delivered yet, and keeps it until then.
func (p *Pruned) dropDetached(ctx context.Context, conn *pgx.Conn, t *agedTable, m mark) error {
	rows, err := conn.Query(ctx, selectDetached, t.Schema, t.Column)
	if err != nil {
		return fmt.Errorf("look for detached partitions: %w", err)
	}
	detached, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for detached partitions: %w", err)
	}
	for _, name := range detached {
		whole, err := t.isDelivered(ctx, conn, name, m)
		if err != nil {
			return err
		}
		if !whole {
			continue
		}
		if _, err := conn.Exec(ctx, "drop table "+quoteTable(name)); err != nil {
			return fmt.Errorf("drop partition %s: %w", name, err)
		}
		p.Partitions = append(p.Partitions, name)
	}
	return nil
}
