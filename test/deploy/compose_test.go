package deploy

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// compose reads docker-compose.yml as Docker Compose does: schema, anchors, references.
func compose(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../../docker-compose.yml"}, cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestComposeHasWhatItNames(t *testing.T) {
	project := compose(t)
	for _, want := range []string{"postgres", "kafka", "relay", "standby", "prometheus", "grafana"} {
		if _, there := project.Services[want]; !there {
			t.Errorf("no service %s", want)
		}
	}
	for name, service := range project.Services {
		for _, v := range service.Volumes {
			if v.Type == types.VolumeTypeBind {
				if _, err := os.Stat(v.Source); err != nil {
					t.Errorf("%s mounts what is not there: %v", name, err)
				}
			}
		}
		for other, d := range service.DependsOn {
			if d.Condition == types.ServiceConditionHealthy && project.Services[other].HealthCheck == nil {
				t.Errorf("%s waits until %s is healthy, which has no health check", name, other)
			}
		}
		if service.HealthCheck == nil || service.HealthCheck.Disable && service.Restart != "no" {
			t.Errorf("%s has no health check, and goes on", name)
		}
	}
	for name, secret := range project.Secrets {
		// A container reads it as a user of its own, whom the file's owner cannot know.
		if info, err := os.Stat(secret.File); err != nil || info.Mode()&0o004 == 0 {
			t.Errorf("secret %s: %v %v", name, info, err)
		}
	}
}

func TestComposePinsItsImagesAndListensOnLoopback(t *testing.T) {
	for name, service := range compose(t).Services {
		if _, tag, _ := strings.Cut(service.Image, ":"); tag == "" || tag == "latest" {
			t.Errorf("%s runs %s", name, service.Image)
		}
		for _, p := range service.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s listens on %s:%s", name, p.HostIP, p.Published)
			}
		}
	}
}

// Two processes that differ in nothing but the port that the host reaches them at: whichever has the slot leads.
func TestComposeHasAStandby(t *testing.T) {
	project := compose(t)
	relay, standby := project.Services["relay"], project.Services["standby"]
	if !slices.EqualFunc(relay.Volumes, standby.Volumes, func(a, b types.ServiceVolumeConfig) bool { return a.Source == b.Source }) ||
		relay.Image != standby.Image || !relay.ReadOnly || !standby.ReadOnly {
		t.Errorf("%+v\n%+v", relay, standby)
	}
}
