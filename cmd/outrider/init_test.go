package main

import (
	"strings"
	"testing"
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
	for _, args := range [][]string{{"prune"}, {"prune", "--older-than", "soon"}, {"prune", "--older-than", "-1h", "--name", "orders", "--postgres", "host=/nowhere"}} {
		if _, code, text := execute(args...); code != exitSettings || !strings.Contains(text, "older-than") {
			t.Errorf("%v: %d %s", args, code, text)
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
