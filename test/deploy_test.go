package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/outrider-relay/outrider/cdc"
	"github.com/outrider-relay/outrider/cmd/outrider/admin"
	"github.com/outrider-relay/outrider/cmd/outrider/config"
	"github.com/outrider-relay/outrider/sink"
	"github.com/outrider-relay/outrider/test/harness"
)

// What holds deploy/ against the tools that read it (promtool, Kubernetes, Docker Compose) is in test/deploy, a module of its
// own: "make deploy". Here it is held against the relay.

// expressions are the queries of deploy/, by the alert or panel that asks.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(read(t, "../deploy/prometheus/outrider.rules.yml"), &rules); err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(read(t, "../deploy/grafana/outrider.json"), &board); err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			found["alert "+r.Alert] = r.Expr
		}
	}
	for _, p := range board.Panels {
		for i, target := range p.Targets {
			found[fmt.Sprintf("panel %s %d", p.Title, i)] = target.Expr
		}
	}
	return found
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// nobody is a relay that was never started: which metrics there are does not depend on it.
type nobody struct{}

func (nobody) Status() cdc.Status    { return cdc.Status{} }
func (nobody) Healthy() error        { return nil }
func (nobody) Ready() (bool, string) { return true, "" }

var (
	metricRule = regexp.MustCompile(`\b((?:outrider|process|go)_[a-z_]+)(?:\{([^}]*)\})?`)
	// histogramRule finds what a histogram's series are called besides.
	histogramRule = regexp.MustCompile(`_(?:bucket|sum|count)$`)
	matchRule     = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"`)
	descRule      = regexp.MustCompile(`fqName: "(\w+)".*constLabels: \{(.*?)\}, variableLabels: \{(.*?)\}`)
)

// metrics are the relay's own, with their labels and those that Prometheus adds to each.
func metrics(t *testing.T) map[string][]string {
	t.Helper()
	described := make(chan *prometheus.Desc)
	go func() {
		defer close(described)
		admin.Registry(nobody{}, prometheus.Labels{"version": "", "commit": "", "go": ""}, sink.NewStats()).Describe(described)
	}()
	found := make(map[string][]string)
	for d := range described {
		parts := descRule.FindStringSubmatch(d.String())
		if parts == nil {
			t.Fatalf("%s is not understood", d)
		}
		labels := []string{"job", "instance", "relay"}
		for _, label := range strings.Split(parts[2]+","+parts[3], ",") {
			name, _, _ := strings.Cut(label, "=")
			labels = append(labels, name)
		}
		found[parts[1]] = labels
	}
	return found
}

func TestAlertsAndPanelsAskForMetricsThatThereAre(t *testing.T) {
	there := metrics(t)
	asked := make(map[string]bool)
	for who, expr := range expressions(t) {
		uses := metricRule.FindAllStringSubmatch(expr, -1)
		if len(uses) == 0 {
			t.Errorf("%s asks for nothing of the relay: %s", who, expr)
		}
		for _, use := range uses {
			name := use[1]
			labels, known := there[name]
			if part := histogramRule.FindString(name); !known && part != "" {
				name = strings.TrimSuffix(name, part)
				labels, known = there[name]
			}
			asked[name] = true
			if !known {
				t.Errorf("%s asks for %s, which there is not", who, name)
			}
			for _, match := range matchRule.FindAllStringSubmatch(use[2], -1) {
				if known && !slices.Contains(labels, match[1]) {
					t.Errorf("%s asks for label %s of %s, which has %v", who, match[1], name, labels)
				}
			}
		}
	}
	for name := range there {
		if strings.HasPrefix(name, "outrider_") && !asked[name] {
			t.Errorf("%s is on no panel and in no alert", name)
		}
	}
}

func TestAlertsLeadToTheirPlaceInTheManual(t *testing.T) {
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(read(t, "../deploy/prometheus/outrider.rules.yml"), &rules); err != nil {
		t.Fatal(err)
	}
	manual := strings.ToLower(strings.ReplaceAll(string(read(t, "../docs/operating.md")), "`", ""))
	for _, r := range rules.Groups[0].Rules {
		anchor := strings.ToLower(r.Alert)
		if !strings.HasSuffix(r.Annotations["runbook_url"], "/docs/operating.md#"+anchor) || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s: %v", r.Alert, r.Annotations)
		}
		if !regexp.MustCompile(`(?m)^#+ ` + anchor + `$`).MatchString(manual) {
			t.Errorf("docs/operating.md has no heading %s", r.Alert)
		}
	}
}

func TestSettingsInDeployAreTakenByTheRelay(t *testing.T) {
	for _, file := range []string{"../deploy/compose/outrider.yaml", "../deploy/kubernetes/outrider.yaml"} {
		secrets := t.TempDir()
		ca, _ := harness.NewAuthority(t).Issue(t, "ca")
		for _, name := range []string{"relay_password", "postgres-password", "kafka-password", "http-token", "postgres-ca.pem", "kafka-ca.pem"} {
			content := []byte("a secret")
			if strings.HasSuffix(name, ".pem") {
				content = read(t, ca)
			}
			if err := os.WriteFile(filepath.Join(secrets, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		local := strings.NewReplacer("/run/secrets/outrider/", secrets+"/", "/run/secrets/", secrets+"/").Replace(string(read(t, file)))
		copied := filepath.Join(secrets, "outrider.yaml")
		if err := os.WriteFile(copied, []byte(local), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := (config.Sources{File: copied}).Load(); err != nil {
			t.Errorf("%s:\n%v", file, err)
		}
	}
}

// What docker-compose.yml makes of an empty database, with its own commands and settings, is all that its relay needs.
func TestDatabaseOfComposeIsReadyForItsRelay(t *testing.T) {
	t.Parallel()
	var compose struct {
		Services struct{ Init struct{ Command []string } }
	}
	// A key beside a merged one is a duplicate to this package.
	if err := yaml.UnmarshalWithOptions(read(t, "../docker-compose.yml"), &compose, yaml.AllowDuplicateMapKey()); err != nil {
		t.Fatal(err)
	}
	command := compose.Services.Init.Command
	if len(command) != 3 || command[0] != "init" || command[1] != "--role" {
		t.Fatalf("the service init runs %v", command)
	}
	role := regexp.MustCompile(`(?m)^create role (.*) password :'password';$`).FindSubmatch(read(t, "../deploy/compose/postgres.sql"))
	if role == nil || !strings.HasPrefix(string(role[1]), command[2]+" ") {
		t.Fatalf("no role %s is made, but %q", command[2], role)
	}

	kafka, s := sharedKafka(t), &stage{url: sharedPostgres(t).NewDatabase(t), name: uniqueName(t)}
	s.conn = harness.Connect(t, s.url)
	t.Cleanup(func() { s.dropSlot(t) })
	// The role goes by the name of the relay: roles are the server's, which other tests use too.
	harness.Exec(t, s.conn, "create role "+strings.Replace(string(role[1]), command[2], s.name, 1))
	kafka.CreateTopic(t, s.topic("order"), 1, 1, nil)
	env := []string{"OUTRIDER_NAME=" + s.name, "OUTRIDER_POSTGRES_URL=" + s.url}
	if out, log, code := harness.Command(t, env, command[0], command[1], s.name); code != 0 {
		t.Fatalf("init ends with %d\n%s%s", code, out, log)
	}

	as, err := pgx.ParseConfig(s.url)
	if err != nil {
		t.Fatal(err)
	}
	relay := harness.StartRelay(t, harness.RelayOptions{
		Name: s.name, Kafka: kafka.Brokers(), Postgres: fmt.Sprintf("postgres://%s@%s:%d/%s", s.name, as.Host, as.Port, as.Database),
	})
	relay.AwaitState(t, cdc.Relaying, patience)
	harness.Exec(t, s.conn, "select outrider.publish($1, '42', 'OrderPlaced', '{\"n\": 1}')", s.aggregate("order"))
	harness.AwaitDelivered(t, s.conn, kafka.Brokers(), harness.NoRepeats, patience, s.topic("order"))
}
