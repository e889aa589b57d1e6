package deploy

import (
	"os"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// manifests are what kubectl apply -k would send.
type manifests struct {
	deployment apps.Deployment
	service    core.Service
	budget     policy.PodDisruptionBudget
	settings   core.ConfigMap
}

// build renders deploy/kubernetes, and reads each object as the API's own types: a field that they do not have is an error.
func build(t *testing.T) manifests {
	t.Helper()
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../../deploy/kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	var m manifests
	for _, r := range rendered.Resources() {
		object, known := map[string]any{
			"apps/v1 Deployment": &m.deployment, "v1 Service": &m.service, "policy/v1 PodDisruptionBudget": &m.budget, "v1 ConfigMap": &m.settings,
		}[r.GetApiVersion()+" "+r.GetKind()]
		if !known {
			t.Errorf("%s %s is unknown to this test", r.GetApiVersion(), r.GetKind())
			continue
		}
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict(text, object); err != nil {
			t.Errorf("%s: %v", r.GetKind(), err)
		}
	}
	return m
}

func TestObjectsOfKubernetesFitTogether(t *testing.T) {
	m := build(t)
	pod := m.deployment.Spec.Template
	for what, selector := range map[string]*meta.LabelSelector{
		"the Deployment":          m.deployment.Spec.Selector,
		"the PodDisruptionBudget": m.budget.Spec.Selector,
		"the Service":             {MatchLabels: m.service.Spec.Selector},
		"the spread":              pod.Spec.TopologySpreadConstraints[0].LabelSelector,
		"the PodMonitor":          &monitor(t).Spec.Selector,
	} {
		s, err := meta.LabelSelectorAsSelector(selector)
		if err != nil || s.Empty() || !s.Matches(labels.Set(pod.Labels)) {
			t.Errorf("%s selects %v of pods labelled %v: %v", what, selector, pod.Labels, err)
		}
	}
	c := pod.Spec.Containers[0]
	port := c.Ports[0]
	for what, name := range map[string]string{
		"the Service":         m.service.Spec.Ports[0].TargetPort.StrVal,
		"the liveness probe":  c.LivenessProbe.HTTPGet.Port.StrVal,
		"the readiness probe": c.ReadinessProbe.HTTPGet.Port.StrVal,
		"the PodMonitor":      *monitor(t).Spec.PodMetricsEndpoints[0].Port,
	} {
		if name != port.Name {
			t.Errorf("%s asks at port %q, which is called %q", what, name, port.Name)
		}
	}
	if c.Image == "outrider" || strings.HasSuffix(c.Image, ":latest") || !strings.Contains(c.Image, ":") {
		t.Errorf("image %s", c.Image)
	}
	volumes := make(map[string]core.VolumeSource)
	for _, v := range pod.Spec.Volumes {
		volumes[v.Name] = v.VolumeSource
	}
	for _, mount := range c.VolumeMounts {
		if _, there := volumes[mount.Name]; !there {
			t.Errorf("there is no volume %s", mount.Name)
		}
	}
	if name := volumes["settings"].ConfigMap.Name; name != m.settings.Name || !strings.HasPrefix(name, "outrider-orders-") {
		t.Errorf("the settings are in %s, and the pod mounts %s", m.settings.Name, name)
	}
	if _, there := m.settings.Data["outrider.yaml"]; !there {
		t.Errorf("the settings hold %v", m.settings.Data)
	}
}

func TestProcessesOfKubernetesRunWithoutRights(t *testing.T) {
	pod := build(t).deployment.Spec.Template.Spec
	c := pod.Containers[0].SecurityContext
	if s := pod.SecurityContext; !*s.RunAsNonRoot || *s.RunAsUser == 0 || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		t.Errorf("pod: %+v", s)
	}
	if *c.AllowPrivilegeEscalation || !*c.ReadOnlyRootFilesystem || len(c.Capabilities.Drop) != 1 || c.Capabilities.Drop[0] != "ALL" {
		t.Errorf("container: %+v", c)
	}
	if *pod.AutomountServiceAccountToken || *pod.EnableServiceLinks {
		t.Error("the pod gets a token of the cluster's, or variables that look like settings")
	}
}

// Of two processes one can always take over: while a node is drained, and while a new version is rolled out.
func TestOneProcessOfKubernetesIsAlwaysThere(t *testing.T) {
	m := build(t)
	rolling := m.deployment.Spec.Strategy.RollingUpdate
	if *m.deployment.Spec.Replicas != 2 || rolling.MaxUnavailable.IntValue() != 0 || m.budget.Spec.MinAvailable.IntValue() != 1 {
		t.Errorf("%d replicas, %+v, %+v", *m.deployment.Spec.Replicas, rolling, m.budget.Spec)
	}
}

// monitor reads the one object that needs the Prometheus operator and is added by hand.
func monitor(t *testing.T) *monitoring.PodMonitor {
	t.Helper()
	text, err := os.ReadFile("../../deploy/kubernetes/podmonitor.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var m monitoring.PodMonitor
	if err := yaml.UnmarshalStrict(text, &m); err != nil {
		t.Fatal(err)
	}
	return &m
}
