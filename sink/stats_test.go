package sink

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// An alert on an increase of a counter sees the first event only where there was a zero before it.
func TestPoisonIsCountedFromZero(t *testing.T) {
	want := `
# HELP outrider_poison_total Events that could not be routed, encoded or accepted, by the policy they met.
# TYPE outrider_poison_total counter
outrider_poison_total{policy="dead_letter"} 0
outrider_poison_total{policy="skip"} 0
outrider_poison_total{policy="stop"} 0
`
	if err := testutil.CollectAndCompare(NewStats(), strings.NewReader(want), "outrider_poison_total"); err != nil {
		t.Error(err)
	}
}
