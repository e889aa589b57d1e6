package broker

import (
	"strings"
	"testing"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/sasl"
)

// shown reads a client's message of a SASL exchange; false when the client is gone.
func (p played) shown() (r request, message string, ok bool) {
	version, id, _, msg, err := protocol.ReadRequest(p)
	if err != nil {
		return request{}, "", false
	}
	return request{version: version, id: id}, string(msg.(*saslauthenticate.Request).AuthBytes), true
}

const bearerToken = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyZWxheSJ9."

func asBearer(token string) Config {
	return Config{SASL: func() (sasl.Mechanism, error) { return Bearer(token, nil), nil }}
}

func TestTokenIsShownAsRFC7628Says(t *testing.T) {
	messages := make(chan string, 1)
	addr := listen(t, nil, func(p played) {
		p.greet()
		p.acceptMechanism()
		r, message, _ := p.shown()
		messages <- message
		p.answer(r, &saslauthenticate.Response{SessionLifetimeMs: 60_000})
		p.gone()
	})
	c := dial(t, addr, Config{SASL: func() (sasl.Mechanism, error) {
		return Bearer(bearerToken, map[string]string{"logicalCluster": "lkc-1", "identityPoolId": "pool-2"}), nil
	}})
	if got, want := await(t, "the client's message", messages), "n,,\x01auth=Bearer "+bearerToken+"\x01identityPoolId=pool-2\x01logicalCluster=lkc-1\x01\x01"; got != want {
		t.Errorf("the broker was told %q, not %q", got, want)
	}
	if c.RetireAt().IsZero() {
		t.Error("the token's lifetime does not end the connection's")
	}
}

// How a broker may go on about a token that it refuses.
func TestRefusedTokenIsExplainedAndNotTold(t *testing.T) {
	const refusal = `{"status":"invalid_token","scope":"kafka"}`
	for name, c := range map[string]struct {
		challenge, message string
		code               int16
		hangsUp            bool
		kind               Kind
		says               string
	}{
		"as Kafka does":                   {challenge: refusal, message: refusal, code: authenticationFailed, kind: KindToken, says: "the broker refuses the token: " + refusal},
		"hanging up behind the refusal":   {challenge: refusal, hangsUp: true, kind: KindToken, says: "the broker refuses the token: " + refusal},
		"at once":                         {message: "token expired", code: authenticationFailed, kind: KindToken, says: "the broker refuses the token: token expired"},
		"hanging up at once":              {hangsUp: true, kind: KindLost, says: "perhaps because of the token"},
		"quoting it in the challenge":     {challenge: "no: " + bearerToken, code: authenticationFailed, kind: KindToken, says: "no: [redacted]"},
		"quoting it in the error":         {message: "no: " + bearerToken, code: authenticationFailed, kind: KindToken, says: "no: [redacted]"},
		"with an error of another nature": {message: "not now: " + bearerToken, code: -1, kind: KindLost, says: "not now: [redacted]"},
		"and goes on":                     {challenge: refusal, kind: KindToken, says: "behind the broker's refusal"},
	} {
		t.Run(name, func(t *testing.T) {
			acknowledged := make(chan string, 1)
			addr := listen(t, nil, func(p played) {
				p.greet()
				p.acceptMechanism()
				r, _, _ := p.shown()
				if c.challenge != "" {
					p.answer(r, &saslauthenticate.Response{AuthBytes: []byte(c.challenge)})
					var message string
					r, message, _ = p.shown()
					acknowledged <- message
				}
				if !c.hangsUp {
					p.answer(r, &saslauthenticate.Response{ErrorCode: c.code, ErrorMessage: c.message})
					p.gone()
				}
			})
			err := dialError(t, addr, asBearer(bearerToken))
			wantError(t, err, c.kind, addr, "SASL OAUTHBEARER", c.says)
			if strings.Contains(err.Error(), bearerToken) {
				t.Errorf("the error shows the token: %v", err)
			}
			if c.challenge != "" {
				if got := await(t, "the acknowledgement", acknowledged); got != "\x01" {
					t.Errorf("the refusal is acknowledged by %q", got)
				}
			}
		})
	}
}

// What is no token could be read as further fields of the message, or end it.
func TestTextThatIsNoTokenIsNotSent(t *testing.T) {
	addr := listen(t, nil, func(p played) {
		p.greet()
		p.acceptMechanism()
		if _, message, ok := p.shown(); ok {
			t.Errorf("the broker was told %q", message)
		}
	})
	for _, token := range []string{"", "two words", "a\x01host=evil", "a\nb", `{"access_token":"a"}`} {
		err := dialError(t, addr, asBearer(token))
		wantError(t, err, KindSettings, "no bearer token")
		if token != "" && strings.Contains(err.Error(), token) {
			t.Errorf("the error shows it: %v", err)
		}
	}
}

func TestExtensionThatWouldBeAnotherFieldIsNotSent(t *testing.T) {
	addr := listen(t, nil, func(p played) {
		p.greet()
		p.acceptMechanism()
		if _, message, ok := p.shown(); ok {
			t.Errorf("the broker was told %q", message)
		}
	})
	for name, value := range map[string]string{"auth": "Bearer other", "two words": "a", "": "a", "a": "b\x01c=d", "b": ""} {
		err := dialError(t, addr, Config{SASL: func() (sasl.Mechanism, error) {
			return Bearer(bearerToken, map[string]string{name: value}), nil
		}})
		wantError(t, err, KindSettings, "of an extension")
	}
}
