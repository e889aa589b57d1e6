package sink

import (
	"strings"
	"testing"

	"github.com/outrider-relay/outrider/sink/broker"
)

// Whoever shows a token has no user name that could be corrected.
func TestRefusedTokenIsMendedByAnother(t *testing.T) {
	for kind, wants := range map[broker.Kind]string{broker.KindCredentials: "kafka.sasl.username", broker.KindToken: "kafka.sasl.token_file"} {
		if repair := dialRepair(&broker.Error{Kind: kind}); !strings.Contains(repair, wants) || strings.Contains(repair, "username") != (kind == broker.KindCredentials) {
			t.Errorf("the repair is %q", repair)
		}
	}
}
