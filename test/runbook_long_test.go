package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

// desk is where somebody on call sits: the relay's settings are in outrider.yaml there.
type desk struct {
	*walk
	scene *scene
	relay *harness.Relay
}

// sit starts the scene's relay, with the settings that the desk has too.
func (s *scene) sit(t *testing.T, settings string) *desk {
	t.Helper()
	bin, err := harness.Build()
	if err != nil {
		t.Fatal(err)
	}
	s.config = settings
	d := &desk{scene: s, relay: s.launch(t), walk: &walk{dir: t.TempDir(), env: append(os.Environ(), "PATH="+filepath.Dir(bin)+":"+os.Getenv("PATH"))}}
	d.note(t)
	return d
}

// note writes outrider.yaml.
func (d *desk) note(t *testing.T) {
	t.Helper()
	writeFile(t, filepath.Join(d.dir, "outrider.yaml"), fmt.Sprintf("name: %s\nhttp: { listen: %s }\n", d.scene.name, strings.TrimPrefix(d.relay.Base, "http://"))+d.scene.config)
	d.env = append(d.env, "OUTRIDER_POSTGRES_URL="+d.scene.url, "OUTRIDER_KAFKA_BROKERS="+strings.Join(d.scene.brokers, ","))
}

// awaitNews waits until the relay relays, or is blocked by something that is not decided yet.
func (d *desk) awaitNews(t *testing.T, decided string) (st cdc.Status) {
	t.Helper()
	harness.Eventually(t, patience, "what becomes of the relay", func() (err error) {
		if st, err = d.relay.Status(); err == nil && st.State != cdc.Relaying && (st.State != cdc.Halted || st.Reason == decided) {
			err = fmt.Errorf("it is %s (%s)", st.State, st.Reason)
		}
		return err
	})
	return st
}

// runbook gives the commands of a section of docs/operating.md, a line each.
func runbook(t *testing.T, heading string) []string {
	t.Helper()
	_, section, found := strings.Cut(readDocument(t, "docs/operating.md").text, "\n### "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n### ")
	for _, m := range fence.FindAllStringSubmatch(section, -1) {
		if m[1] == "sh" && found {
			return strings.Split(strings.TrimSpace(m[3]), "\n")
		}
	}
	t.Fatalf("docs/operating.md has no commands under %q", heading)
	return nil
}

// The address that the relay has been given leads to whichever server takes writes.
func (p *pair) either(url string) string {
	url = strings.Replace(url, p.primary.Addr(), p.primary.Addr()+","+p.standby.Addr(), 1)
	mark := "?"
	if strings.Contains(url, "?") {
		mark = "&"
	}
	return url + mark + "target_session_attrs=read-write"
}

// The relay runs on through the promotion, and nobody restarts it.
func TestRunbookOfAPromotionWithoutSlotSync(t *testing.T) {
	long(t)
	p := newPair(t)
	s := newScene(t, p.primary, sharedKafka(t), "")
	direct := s.url
	s.url = p.either(direct)
	d := s.sit(t, "kafka: { delivery: exactly-once }\npostgres: { failover: false }\n")
	d.relay.AwaitState(t, cdc.Relaying, patience)
	harness.WriteRows(t, s.conn, s.kind, 1, 100, 10)
	s.awaitDelivered(t, harness.NoRepeats)
	p.awaitReplay(t, s)
	if _, err := p.primary.Stop(harness.Immediate, patience); err != nil {
		t.Fatal(err)
	}
	p.standby.Promote(t)
	s.conn = harness.Connect(t, strings.Replace(direct, p.primary.Addr(), p.standby.Addr(), 1))

	commands := runbook(t, "Postgres is promoted: without slot sync")
	awaitVerdict(t, d.relay, "gap")
	if out := d.run(t, commands[0]); !strings.Contains(out, "blocked (gap)") || !strings.Contains(out, "did not follow a failover") {
		t.Errorf("%s says\n%s", commands[0], out)
	}
	for _, command := range commands[1:] {
		d.run(t, command)
	}
	d.relay.AwaitState(t, cdc.Relaying, patience)
	harness.WriteRows(t, s.conn, s.kind, 101, 200, 10)
	s.awaitDelivered(t, harness.NoRepeats)
}

func TestRunbookOfARestoredBackup(t *testing.T) {
	long(t)
	pg := harness.NewPostgres(t, harness.PostgresOptions{Settings: map[string]string{"fsync": "on", "full_page_writes": "on"}})
	s := newScene(t, pg, sharedKafka(t), "")
	d := s.sit(t, exactly)
	d.relay.AwaitState(t, cdc.Relaying, patience)
	harness.WriteRows(t, s.conn, s.kind, 1, 600, 10) // into every partition
	s.awaitDelivered(t, harness.NoRepeats)
	backup := pg.Backup(t)
	s.reconnect(t)
	d.relay.AwaitState(t, cdc.Relaying, patience)
	harness.WriteRows(t, s.conn, s.kind, 601, 700, 10) // which the backup knows nothing of
	s.awaitDelivered(t, harness.NoRepeats)
	pg.Restore(t, backup)
	s.reconnect(t)
	harness.WriteRows(t, s.conn, s.kind, 2001, 2100, 10) // what the applications do next

	commands, decided := runbook(t, "The database is restored from a backup"), ""
	for range 2 {
		st := d.awaitNews(t, decided)
		if st.State == cdc.Relaying {
			break
		}
		for i, command := range commands {
			out := d.run(t, command)
			if i == 0 && !strings.Contains(out, "blocked (gap)") && !strings.Contains(out, "blocked (diverged)") {
				t.Errorf("%s says\n%s", command, out)
			}
		}
		decided = st.Reason
		t.Logf("decided: %s", decided)
	}
	d.relay.AwaitState(t, cdc.Relaying, patience)
	harness.WriteRows(t, s.conn, s.kind, 2101, 2200, 10)
	awaitIDs(t, s.brokers, 800, false, s.destination)
}
