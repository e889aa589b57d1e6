package main

import (
	"strings"
	"testing"
	"time"
)

func TestInitPrintsSQLWithoutAnyConnection(t *testing.T) {
	t.Chdir(t.TempDir())
	out, code, text := execute("init", "--name", "orders", "--print-sql", "--role", `re"lay`, "--table", "shop.outbox")
	for _, says := range []string{
		`create table if not exists "shop"."outbox"`, `create schema if not exists outrider`, `grant select on "shop"."outbox" to "re""lay"`, `alter role "re""lay" replication`,
		`create publication "outrider" for table "shop"."outbox" with (publish = 'insert'`, `pg_create_logical_replication_slot('outrider_orders', 'pgoutput')`,
	} {
		if code != 0 || !strings.Contains(out, says) {
			t.Errorf("%d %s: no %q in\n%s", code, text, says, out)
		}
	}
}

func TestInitRefusesWhatItCannotMean(t *testing.T) {
	t.Chdir(t.TempDir())
	orders := []string{"init", "--name", "orders", "--postgres", "host=/nowhere"}
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"public.outbox"}, `unknown argument "public.outbox"`},
		{[]string{"--drop"}, "say --yes"},
		{[]string{"--print-sql", "--flavor", "wal2json"}, "wal2json"},
		{[]string{"--print-sql", "--flavor", "tutorial", "--monthly"}, "no binary or monthly form"},
		{[]string{"--topics"}, "kafka.brokers: required"}, // the only thing that asks for them
	} {
		if _, code, text := execute(append(orders, c.args...)...); code != exitSettings || !strings.Contains(text, c.says) {
			t.Errorf("%v: %d %s", c.args, code, text)
		}
	}
}

func TestPruneAsksForAnAge(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, code, text := execute("prune"); code != exitSettings || !strings.Contains(text, "older-than") {
		t.Errorf("%d %s", code, text)
	}
	for _, age := range []string{"soon", "-1h", "7", "7days", ""} {
		_, code, text := execute("prune", "--older-than", age, "--name", "orders", "--postgres", "host=/nowhere")
		if code != exitSettings || !strings.Contains(text, "not an age such as 7d") || strings.Contains(text, "time:") {
			t.Errorf("%q: %d %s", age, code, text)
		}
	}
	for text, want := range map[string]time.Duration{"7d": 7 * 24 * time.Hour, "1d12h": 36 * time.Hour, "90m": 90 * time.Minute, "0d": 0} {
		var a age
		if err := a.Set(text); err != nil || time.Duration(a) != want {
			t.Errorf("%s is %s, %v", text, time.Duration(a), err)
		}
	}
}

func TestOnlyCommandsThatReadSettingsOfferAFile(t *testing.T) {
	for command, offers := range map[string]bool{"version": false, "migrate-config": false, "run": true, "status": true, "prune": true} {
		out, code, _ := execute(command, "--help")
		if code != 0 || strings.Contains(out, "--config") != offers || !strings.Contains(out, "outrider "+command) {
			t.Errorf("%s: %d\n%s", command, code, out)
		}
	}
}

func TestShellsCanComplete(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if out, code, _ := execute("completion", shell); code != 0 || !strings.Contains(out, "outrider") {
			t.Errorf("%s: %d", shell, code)
		}
	}
}
