package cdc

import (
	"strings"
	"testing"
	"time"
)

// What becomes of the slot at a promotion: a server with standbys is not needed to say it.
func TestFailoverIsWarnedOfWhereASlotOrItsEventsWouldBeLost(t *testing.T) {
	const slotStays, standbyBehind = "the slot does not follow a promotion", "synchronized_standby_slots is empty"
	for _, c := range []struct {
		about    string
		version  int
		standbys int
		slot     *slotFacts
		named    string // in synchronized_standby_slots
		warns    string
	}{
		{"no standby", 170000, 0, &slotFacts{}, "", ""},
		{"no slot yet", 170000, 1, nil, "", ""},
		{"a server whose slots follow nobody", 160000, 1, &slotFacts{}, "", ""},
		{"a slot that was made without failover", 170000, 1, &slotFacts{}, "standby", slotStays},
		{"a standby that may be behind what is published", 180000, 2, &slotFacts{Failover: true}, "", standbyBehind},
		{"all in order", 170000, 1, &slotFacts{Failover: true}, "standby", ""},
	} {
		t.Run(c.about, func(t *testing.T) {
			in := &Inspection{cfg: &Config{Postgres: Postgres{Slot: "outrider_orders"}}, facts: facts{version: c.version, slot: c.slot}}
			in.checkFailover(&capacity{standbys: c.standbys, standbySlots: c.named})
			if c.warns == "" && len(in.Findings) > 0 || c.warns != "" && !found(in, Warn, c.warns) {
				t.Errorf("%+v, want a warning of %q", in.Findings, c.warns)
			}
			if c.warns == slotStays && !found(in, Warn, "ALTER_REPLICATION_SLOT outrider_orders (FAILOVER true)", "sync_replication_slots = on") {
				t.Errorf("no repair in %+v", in.Findings)
			}
		})
	}
}

func TestTimeoutsAreJudgedBothWays(t *testing.T) {
	for _, c := range []struct {
		timeout  time.Duration
		idleSlot int64
		warns    string
	}{
		{time.Minute, 0, ""},
		{0, 0, "no standby relay can take over"},
		{time.Second, 0, "a short pause of the network"},
		{time.Hour, 0, "waits as long before it can take over"},
		{time.Minute, 60, "idle_replication_slot_timeout is 1m0s"},
	} {
		in := &Inspection{cfg: &Config{}, facts: facts{walSenderTimeout: c.timeout, maxSlotWAL: 1 << 30}}
		in.checkTimeouts(&capacity{idleSlot: c.idleSlot})
		warned := len(in.Findings) > 1 // the other is about the bound on WAL
		if warned != (c.warns != "") || warned && !found(in, Warn, c.warns) || !found(in, OK, "max_slot_wal_keep_size is 1024 MiB") {
			t.Errorf("wal_sender_timeout %s: %+v, want a warning of %q", c.timeout, in.Findings, c.warns)
		}
	}
}

func TestRoomThatIsUsedUpFails(t *testing.T) {
	full := &capacity{slots: 3, maxSlots: 3, senders: 2, maxSenders: 2, connections: -1}
	for _, c := range []struct {
		about string
		slot  *slotFacts
		fails []string
	}{
		{"no slot yet", nil, []string{"all 3 replication slots are in use", "all 2 walsenders are in use"}},
		{"a slot that nobody reads", &slotFacts{}, []string{"all 2 walsenders are in use"}},
		{"a relay that runs", &slotFacts{Active: true}, nil},
	} {
		in := &Inspection{cfg: &Config{}, facts: facts{slot: c.slot}}
		in.checkRoom(full)
		list := strings.Join(failures(in), ", ")
		if len(failures(in)) != len(c.fails) {
			t.Errorf("%s: %s", c.about, list)
		}
		for _, says := range c.fails {
			if !strings.Contains(list, says) {
				t.Errorf("%s: no %q in %s", c.about, says, list)
			}
		}
	}
}

// A managed server takes no "alter system".
func TestRepairsAreThoseOfWhoManagesTheServer(t *testing.T) {
	for provider, says := range map[string]string{
		"":                  "alter system set max_wal_senders = 9; then restart the server",
		"rds_superuser":     "max_wal_senders = 9 in the parameter group; then restart the server",
		"cloudsqlsuperuser": "gcloud sql instances patch --database-flags",
		"alloydbsuperuser":  "gcloud alloydb instances update --database-flags",
		"azure_pg_admin":    "az postgres flexible-server parameter set",
		"supabase_admin":    "supabase postgres-config update",
		"neon_superuser":    "in the project's settings",
	} {
		in := &Inspection{provider: provider}
		if repair := in.set("max_wal_senders", "9", true); !strings.Contains(repair, says) || provider != "" && strings.Contains(repair, "alter system") {
			t.Errorf("%s: %s", provider, repair)
		}
	}
	if len(providers) != 6 {
		t.Errorf("%d providers, of which some are not looked at here", len(providers))
	}
}
