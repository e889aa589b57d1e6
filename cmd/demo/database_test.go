package main

import "testing"

func TestDemoGoesToItsOwnDatabaseAndShowsNoPassword(t *testing.T) {
	for _, c := range []struct{ server, url, shown string }{
		{"postgres://me:secret@db:5432/shop?sslmode=disable", "postgres://me:secret@db:5432/outrider_demo?sslmode=disable", "postgres://me:xxxxx@db:5432/outrider_demo?sslmode=disable"},
		{"postgresql://db", "postgresql://db/outrider_demo", "postgresql://db/outrider_demo"},
		{"host=db password=secret dbname=shop", "host=db password=secret dbname=shop dbname=outrider_demo", "host=db dbname=shop dbname=outrider_demo"},
	} {
		url := inDatabase(c.server, databaseName)
		if shown := withoutPassword(url); url != c.url || shown != c.shown {
			t.Errorf("%s: %s, shown as %s", c.server, url, shown)
		}
	}
}
