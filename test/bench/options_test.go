package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestFlagsSayWhatIsMeasured(t *testing.T) {
	for _, c := range []struct {
		args, backlogs, contestants, rates string
	}{
		{
			"", "bulk 1000000/1000, 300 B, 12 partitions; single 300000/1, 300 B, 12 partitions",
			"outrider (exactly-once, unix)", "[1000 5000]",
		},
		{"--rows 0 --single 0", "", "outrider (exactly-once, unix)", "[1000 5000]"},
		{
			"--rows 2000 --single 0 --payload 300,4000 --partitions 1,12 --rates=",
			"bulk 2000/1000, 300 B, 1 partition; bulk 2000/1000, 300 B, 12 partitions; bulk 500/1000, 4000 B, 1 partition; bulk 500/1000, 4000 B, 12 partitions",
			"outrider (exactly-once, unix)", "[]",
		},
		{
			"--rows 0 --single 0 --huge 5000 --partitions 1,6 --delivery exactly-once,at-least-once --transport tcp,unix",
			"huge 5000/5000, 300 B, 6 partitions",
			"outrider (exactly-once, tcp); outrider (exactly-once, unix); outrider (at-least-once, tcp); outrider (at-least-once, unix)", "[1000 5000]",
		},
		{
			"--full --single 0 --huge 0 --payload 300 --rates 20000",
			"bulk 1000000/1000, 300 B, 1 partition; bulk 1000000/1000, 300 B, 12 partitions",
			"outrider (exactly-once, unix); outrider (exactly-once, tcp); outrider (at-least-once, unix); outrider (at-least-once, tcp)", "[20000]",
		},
	} {
		o, err := parse(strings.Fields(c.args))
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		var backlogs, contestants []string
		for _, l := range o.backlogs() {
			backlogs = append(backlogs, strings.Replace(l.String(), ",", fmt.Sprintf(" %d/%d,", l.Rows, l.Batch), 1))
		}
		for _, each := range o.contestants {
			contestants = append(contestants, each.String())
		}
		if got := strings.Join(backlogs, "; "); got != c.backlogs {
			t.Errorf("%s: backlogs %s", c.args, got)
		}
		if got := strings.Join(contestants, "; "); got != c.contestants {
			t.Errorf("%s: contestants %s", c.args, got)
		}
		if got := fmt.Sprint(o.rates); got != c.rates {
			t.Errorf("%s: rates %s", c.args, got)
		}
	}
}

func TestFlagsOfBeforeAreStillTaken(t *testing.T) {
	o, err := parse(strings.Fields("--rows 10 --single 20 --payload 100 --rounds 3 --for 5s --transport tcp --delivery at-least-once --rates 10,20"))
	if err != nil {
		t.Fatal(err)
	}
	if o.rows != 10 || o.single != 20 || o.payloads[0] != 100 || o.rounds != 3 || o.lasting != 5*time.Second || o.transports[0] != "tcp" || len(o.rates) != 2 {
		t.Errorf("%+v", o)
	}
	if len(o.contestants) != 1 || o.contestants[0].delivery != "at-least-once" {
		t.Errorf("%v", o.contestants)
	}
}

func TestFlagsThatCannotBeAreRefused(t *testing.T) {
	for args, want := range map[string]string{
		"--rates 1000,x":          "--rates",
		"--rates 0":               "--rates",
		"--payload -1":            "--payload",
		"--transport udp":         "--transport",
		"--delivery at-most-once": "--delivery",
		"--adapter nothing":       "--adapter",
		"more":                    `"more"`,
	} {
		if _, err := parse(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

// A relay that lacks what was asked for takes part with what it has, rather than not at all.
func TestContestantOffersWhatItHas(t *testing.T) {
	for _, c := range []struct{ there, wanted, want string }{
		{"a b", "a b", "a b"},
		{"a b", "b", "b"},
		{"a b", "b a", "b a"},
		{"b", "a", "b"},
		{"b c", "a", "b"},
	} {
		if got := offered(strings.Fields(c.there), strings.Fields(c.wanted)); strings.Join(got, " ") != c.want {
			t.Errorf("%s of %s: %v, not %s", c.wanted, c.there, got, c.want)
		}
	}
}
