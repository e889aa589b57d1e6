// Package deploy holds what deploy/ and docker-compose.yml say against the code of those who will read it.
package deploy

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
)

// dashboard is the part of Grafana's model that this test looks at.
type dashboard struct {
	Panels []panel
}

type panel struct {
	ID                       int
	Type, Title, Description string
	FieldConfig              struct{ Defaults struct{ Unit string } }
	GridPos                  struct{ X, Y, W, H int }
	Targets                  []struct{ Expr, RefID string }
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	text, err := os.ReadFile("../../deploy/grafana/outrider.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// variables are what Grafana puts in place of its own before Prometheus sees the expression.
var variables = strings.NewReplacer("$__rate_interval", "1m", "$job", ".*", "$instance", ".*")

func TestPanelsAskPrometheusWhatItUnderstands(t *testing.T) {
	promql := parser.NewParser(parser.Options{})
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			if _, err := promql.ParseExpr(variables.Replace(target.Expr)); err != nil {
				t.Errorf("panel %q: %v", p.Title, err)
			}
		}
	}
}

func TestPanelsSayWhatTheyShow(t *testing.T) {
	ids := make(map[int]bool)
	for _, p := range readDashboard(t).Panels {
		if ids[p.ID] {
			t.Errorf("panel %q has the id of another one", p.Title)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || len(p.Targets) == 0 || p.FieldConfig.Defaults.Unit == "" && p.Type != "state-timeline" {
			t.Errorf("panel %q lacks its description, its unit or its query", p.Title)
		}
	}
}

func TestPanelsDoNotOverlap(t *testing.T) {
	taken := make(map[[2]int]string)
	for _, p := range readDashboard(t).Panels {
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %q lies over %q, or beyond the edge", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}
