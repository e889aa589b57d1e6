package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/test/harness"
)

func TestPageSaysStateAndHourInWords(t *testing.T) {
	tab := harness.StartBrowser(t).OpenTab(t)
	tab.Show(t, 1440, 900, false)
	want := map[string]map[string]string{
		"relaying": {
			"#state": "Relaying", ".meaning": "Every row", "#lag": "20 ms", "#lag-note": "18.0 KiB", "#relayed": "1,948,2", "#safe": "15.0 GiB", "#full": "not in sight",
			"#hour-summary": "relaying for 60 min", "#topics tr": "outbox.event.order", "#errors": "3 times in a row", "#lsn": "16/B3749210",
		},
		"degraded": {
			"#state": "Degraded", ".meaning": "by itself", "#reason": "no in-sync replicas", "#lag": "14 min", "#allowance-text": "81 %", "#full": "11 min", "#in-flight": "3,120",
			"#lag-summary": "at most", "#hour-summary": "degraded for 14 min",
		},
		"blocked": {
			"#state": "Blocked", ".meaning": "person’s decision", "#verdict-heading": "gap", "#verdict-reason": "somebody else", "#verdict-advice": "Publish again",
			"#verdict-advice code": "outrider resolve --name orders --accept-loss", "#lag": "38 min", "#rate": "0",
		},
		"standby": {"#state": "Standby", ".meaning": "takes over", "#reason": "pid 4711", "#lag": "–", "#lag-note": "the relay that has the slot", "#no-topics": "Nothing was delivered"},
	}
	for _, scene := range pageScenes(time.Now().UTC().Truncate(time.Second)) {
		tab.Go(t, servePage(t, scene.relay(), nil, &scene.history).String())
		tab.Await(t, 10*time.Second, `document.querySelector("#lag-plot svg")`)
		for selector, words := range want[scene.name] {
			if selector == ".meaning" {
				selector = "[data-of=" + scene.name + "]"
			}
			if text := tab.Text(t, selector); !strings.Contains(text, words) {
				t.Errorf("%s: %s says %q, not %q", scene.name, selector, text, words)
			}
		}
		var meanings, lines int
		tab.Eval(t, `[...document.querySelectorAll(".meaning")].filter((e) => e.checkVisibility()).length`, &meanings)
		tab.Eval(t, `document.querySelectorAll("#hour tr").length`, &lines)
		if scene.name == "relaying" {
			tab.Eval(t, `(() => {
				const drawing = document.querySelector("#lag-plot svg"), box = drawing.getBoundingClientRect();
				drawing.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + box.width / 2 }));
			})()`, nil)
			at := scene.history.Samples[360].At
			if text := tab.Text(t, "#lag-plot .at"); !strings.HasPrefix(text, at.Format("15:04:")) || !strings.HasSuffix(text, " ms") {
				t.Errorf("the middle of the chart is %q, not a lag at %s", text, at)
			}
		}
		var charts bool
		tab.Eval(t, `document.querySelector("#lag").checkVisibility()`, &charts)
		if charts != (scene.name != "standby") {
			t.Errorf("%s: charts are shown: %v", scene.name, charts)
		}
		if meanings != 1 || lines < 12 || lines > 13 {
			t.Errorf("%s: %d meanings are shown, and %d lines of five minutes", scene.name, meanings, lines)
		}
	}
}

func TestPageHasACommandForEachOption(t *testing.T) {
	want := []string{
		"outrider resolve --name orders_2 --accept-repeats", "outrider resolve --name orders_2 --restart-at LSN", "outrider resolve --name orders_2 --restart-at 16/B374D848",
		"outrider resolve --name orders_2 --skip 3:16/B374D848:0", "outrider resolve --name orders_2 --dead-letter 3:16/B374D848:0",
	}
	relay := &scriptedRelay{status: wellStatus(time.Now())}
	relay.set(func(st *cdc.Status) {
		st.State = cdc.Halted
		st.Verdict = &cdc.VerdictStatus{Case: "poison", Reason: "a row", Advice: "Mend it or: " + strings.Join(want, ", or ")}
	})
	tab := harness.StartBrowser(t).OpenTab(t)
	tab.Go(t, servePage(t, relay, nil, nil).String())
	tab.Await(t, 10*time.Second, `document.querySelector("#verdict code")`)
	var got []string
	tab.Eval(t, `[...document.querySelectorAll("#verdict code")].map((e) => e.textContent)`, &got)
	if !slices.Equal(got, want) {
		t.Errorf("the page offers %q", got)
	}
	if advice := tab.Text(t, "#verdict-advice"); !strings.HasPrefix(advice, "Mend it or:") || strings.Contains(advice, ",") {
		t.Errorf("it says %q", advice)
	}
}

// A label or an error is somebody else's text. Nothing of it may become a part of the page.
func TestPageTakesWhatItIsToldAsText(t *testing.T) {
	const markup = `<img src=x onerror="document.title='taken'"><script>document.title='taken'</script>`
	relay := &scriptedRelay{status: wellStatus(time.Now())}
	relay.set(func(st *cdc.Status) {
		st.Name, st.Instance, st.Version, st.Delivery, st.State, st.Reason = markup, markup, markup, markup, cdc.Halted, markup
		st.Postgres.Slot, st.Postgres.SlotStatus, st.Postgres.Version = markup, markup, markup
		st.Topics = map[string]cdc.TopicStat{markup: {Records: 1}}
		st.Sessions = map[string]int64{markup: 1}
		st.Errors = []cdc.ErrorStatus{{Class: markup, Message: markup}}
		st.Verdict = &cdc.VerdictStatus{Case: markup, Reason: markup, Advice: markup + " outrider resolve --name x --accept-loss"}
	})
	tab := harness.StartBrowser(t).OpenTab(t)
	tab.Go(t, servePage(t, relay, nil, nil).String())
	tab.Await(t, 10*time.Second, `document.querySelector("#lag-plot svg")`)
	var taken int
	tab.Eval(t, `document.querySelectorAll("img, script:not([src])").length + (document.title === "taken")`, &taken)
	if taken > 0 || !strings.Contains(tab.Text(t, "#topics"), markup) || !strings.Contains(tab.Text(t, "#verdict"), markup) {
		t.Errorf("%d parts of the page are not its own; it shows %q", taken, tab.Text(t, "#topics"))
	}
	if complaints := tab.Complaints(); len(complaints) > 0 {
		t.Errorf("the page complains: %s", complaints)
	}
}

func TestPageIsUsedByKeyboard(t *testing.T) {
	scene := pageScenes(time.Now().UTC())[2]
	browser := harness.StartBrowser(t)
	tab := browser.OpenTab(t)
	tab.Show(t, 1440, 900, false)
	tab.Go(t, servePage(t, scene.relay(), nil, &scene.history).String())
	tab.Await(t, 10*time.Second, `document.querySelector("#verdict button")`)
	const tabKey, enterKey = 9, 13
	for _, stop := range []struct{ what, is, done string }{
		{"the command's button", `document.activeElement.getAttribute("aria-label") === "Copy outrider resolve --name orders --accept-loss"`, `/Copied|Selected/.test(document.activeElement.textContent) && String(getSelection()) === "outrider resolve --name orders --accept-loss"`},
		{"the table of the hour", `document.activeElement.tagName === "SUMMARY"`, `document.querySelector("details").open`},
	} {
		tab.Press(t, "Tab", tabKey)
		tab.Await(t, 5*time.Second, stop.is)
		var ring string
		tab.Eval(t, `getComputedStyle(document.activeElement).outlineStyle`, &ring)
		if ring != "solid" {
			t.Errorf("nothing shows that %s has the focus", stop.what)
		}
		tab.Press(t, "Enter", enterKey)
		tab.Await(t, 5*time.Second, stop.done)
	}
}

func TestPageNeedsTheTokenAndKeepsIt(t *testing.T) {
	t.Parallel()
	relay := &scriptedRelay{status: wellStatus(time.Now())}
	var rotated scriptedToken
	at := servePage(t, relay, rotated.get, nil)
	tab := harness.StartBrowser(t).OpenTab(t)
	tab.Go(t, at.String())
	tab.Await(t, 10*time.Second, `document.body.innerText.includes("http.token_file")`)
	if title := tab.Text(t, "html"); strings.Contains(title, "orders") {
		t.Errorf("a stranger is told %q", title)
	}
	_ = tab.Complaints() // of the page that was refused

	mine := *at
	mine.User = rotated.user()
	tab.Go(t, mine.String()) // as when the browser has asked its user
	tab.Await(t, 10*time.Second, `document.querySelector("#lag-plot svg")`)
	relay.set(func(st *cdc.Status) { st.Records.Relayed = 42 })
	tab.Await(t, 10*time.Second, `document.getElementById("relayed").textContent.startsWith("42 ")`) // and it goes on
	if complaints := tab.Complaints(); len(complaints) > 0 {
		t.Errorf("the page complains: %s", complaints)
	}
	rotated.change()
	tab.Await(t, 10*time.Second, `document.getElementById("trouble").checkVisibility() && document.getElementById("trouble").innerText.includes("Reload the page")`)
	var poor []string
	tab.Eval(t, unreadable, &poor)
	if len(poor) > 0 {
		t.Errorf("cannot be read: %q", poor)
	}
	asked := rotated.asked()
	harness.Throughout(t, 3*time.Second, "one question", func() error {
		if now := rotated.asked(); now != asked {
			return fmt.Errorf("a browser asks again with a token that was refused, and its user each time: %d requests, then %d", asked, now)
		}
		return nil
	})
}

func TestPageFollowsARelayAndNoticesItsEnd(t *testing.T) {
	t.Parallel()
	kafka, s := sharedKafka(t), newStage(t, sharedPostgres(t))
	kafka.CreateTopic(t, s.topic("a"), 3, 1, nil)
	relay := s.startRelaying(t, kafka.Brokers(), "")
	tab := harness.StartBrowser(t).OpenTab(t)
	tab.Show(t, 1440, 900, false)
	tab.Go(t, relay.Base)
	tab.Await(t, 10*time.Second, `document.getElementById("state").textContent === "relaying"`)
	harness.WriteRows(t, s.conn, s.aggregate("a"), 1, 1000, 100)
	tab.Await(t, 20*time.Second, `document.getElementById("relayed").textContent === "1,000 records"`)
	tab.Await(t, 10*time.Second, fmt.Sprintf(`document.getElementById("topics").innerText.includes(%q)`, s.topic("a")))
	tab.Await(t, 10*time.Second, `/\d m?s/.test(document.getElementById("ack").textContent)`) // of the next sample
	tab.Await(t, 10*time.Second, `document.getElementById("lag").textContent === "0 s"`)
	if complaints := tab.Complaints(); len(complaints) > 0 {
		t.Errorf("the page complains: %s", complaints)
	}
	if code := relay.Stop(t); code != 0 {
		t.Errorf("the relay ends with exit code %d", code)
	}
	tab.Await(t, 10*time.Second, `document.getElementById("trouble").checkVisibility() && document.getElementById("state").textContent === "no answer"`)

	if _, err := s.conn.Exec(t.Context(), `select pg_drop_replication_slot($1)`, s.slot()); err != nil {
		t.Fatal(err)
	}
	relay = s.start(t, kafka.Brokers(), "")
	relay.AwaitState(t, cdc.Halted, 20*time.Second)
	tab.Go(t, relay.Base)
	tab.Await(t, 10*time.Second, fmt.Sprintf(`document.querySelector("#verdict code")?.textContent === "outrider resolve --name %s --accept-loss"`, s.name))
}
