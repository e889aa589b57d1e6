package admin

import (
	"github.com/jackc/pglogrepl"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/outrider-relay/outrider/cdc"
)

// Registry holds what /metrics shows: what the relay's status says, what others count, the process, and which build it is.
func Registry(relay Relay, build prometheus.Labels, others ...prometheus.Collector) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(statusCollector{relay}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "outrider_build_info", Help: "1; the labels say which build this is.", ConstLabels: build,
	}, func() float64 { return 1 }))
	r.MustRegister(others...)
	return r
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("outrider_"+name, help, labels, nil)
}

var (
	stateDesc         = desc("state", "1 for the present state, 0 for the others.", "state")
	sessionsDesc      = desc("sessions_total", "Ended sessions, by how they ended.", "end")
	skippedDesc       = desc("skipped_duplicates_total", "Events that were sent again by Postgres and had been delivered before.")
	ignoredDesc       = desc("ignored_total", "What the stream brought and is no event: inserts into other tables, updates, deletes, truncates, and logical messages that are not transactional.", "kind")
	lagBytesDesc      = desc("lag_bytes", "WAL between what is acked and the server's end.")
	lagSecondsDesc    = desc("lag_seconds", "Age of the oldest commit not yet acked, also while it is still unread; 0 when drained.")
	lsnDesc           = desc("lsn", "Position in the WAL, as a number: confirmed <= stored <= acked <= received <= server.", "kind")
	retainedDesc      = desc("slot_retained_bytes", "WAL that the slot holds back.")
	safeDesc          = desc("slot_safe_bytes", "WAL that may still be written before the server gives the slot up; absent when unlimited.")
	activeDesc        = desc("slot_active", "1 while a connection streams from the slot.")
	walStatusDesc     = desc("slot_wal_status", "1 for the slot's present wal_status, 0 for the others; unreserved is lost at the next checkpoint of Postgres.", "status")
	recordsDesc       = desc("in_flight_records", "Records appended and not yet acked.")
	bytesDesc         = desc("in_flight_bytes", "Bytes of records appended and not yet acked.")
	oldestUnackedDesc = desc("oldest_unacked_seconds", "Time since the oldest unacked event was committed; 0 when there is none.")
)

// states are all that a relay can be in; each has a series, so that an alert on one that never was is no error.
var states = []cdc.State{cdc.Starting, cdc.Standby, cdc.Relaying, cdc.Degraded, cdc.Halted, cdc.Draining}

// walStatuses are those of pg_replication_slots.
var walStatuses = []string{"reserved", "extended", "unreserved", "lost"}

// statusCollector gives a relay's status as metrics. What is not known yet is left out: a zero would look like a fact.
type statusCollector struct{ relay Relay }

func (c statusCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		stateDesc, sessionsDesc, skippedDesc, ignoredDesc, lagBytesDesc, lagSecondsDesc, lsnDesc,
		retainedDesc, safeDesc, activeDesc, walStatusDesc, recordsDesc, bytesDesc, oldestUnackedDesc,
	} {
		ch <- d
	}
}

func (c statusCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.relay.Status()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	for _, s := range states {
		gauge(stateDesc, one(s == st.State), string(s))
	}
	for end, n := range st.Sessions {
		counter(sessionsDesc, n, end)
	}
	counter(skippedDesc, st.Records.SkippedDuplicates)
	for kind, n := range map[string]int64{
		"insert": st.Ignored.Inserts, "update": st.Ignored.Updates, "delete": st.Ignored.Deletes, "truncate": st.Ignored.Truncates, "message": st.Ignored.Messages,
	} {
		counter(ignoredDesc, n, kind)
	}
	leads := st.State != cdc.Standby // which knows nothing of the lag
	if leads {
		gauge(lagSecondsDesc, st.LagSeconds)
	}
	gauge(recordsDesc, float64(st.InFlight.Records))
	gauge(bytesDesc, float64(st.InFlight.Bytes))
	gauge(oldestUnackedDesc, st.InFlight.OldestSeconds)

	for kind, text := range map[string]string{
		"received": st.LSN.Received, "acked": st.LSN.Acked, "stored": st.LSN.Stored, "confirmed": st.LSN.Confirmed, "server": st.LSN.Server,
	} {
		if lsn, err := pglogrepl.ParseLSN(text); err == nil && lsn > 0 {
			gauge(lsnDesc, float64(lsn), kind)
			if kind == "server" && leads {
				gauge(lagBytesDesc, float64(st.Postgres.LagBytes))
			}
		}
	}
	if st.State != cdc.Standby && st.Postgres.SlotStatus != "" { // it saw the slot when it began to stand by, and only its owner since
		gauge(retainedDesc, float64(st.Postgres.RetainedBytes))
		gauge(activeDesc, one(st.Postgres.SlotActive))
		for _, s := range walStatuses {
			gauge(walStatusDesc, one(s == st.Postgres.SlotStatus), s)
		}
		if st.Postgres.SafeBytes != nil {
			gauge(safeDesc, float64(*st.Postgres.SafeBytes))
		}
	}
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
