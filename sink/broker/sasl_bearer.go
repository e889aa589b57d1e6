package broker

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/segmentio/kafka-go/sasl"
)

// Bearer is the mechanism OAUTHBEARER (KIP-255) with this token.
func Bearer(token string) SASL {
	return bearer{func(context.Context, string) (string, error) { return token, nil }}
}

// bearer shows a token, which may depend on the host that is dialled.
type bearer struct {
	token func(ctx context.Context, host string) (string, error)
}

func (bearer) Name() string { return "OAUTHBEARER" }

// tokenRule is what a bearer token may consist of (RFC 6750, section 2.1). Anything else could end the field that it is
// sent in, and begin another.
var tokenRule = regexp.MustCompile(`^[A-Za-z0-9\-._~+/]+=*$`)

// Start makes the client's only message (RFC 7628, section 3.1): no name to act for, and one field.
func (b bearer) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	var host string
	if dialled := sasl.MetadataFromContext(ctx); dialled != nil {
		host = dialled.Host
	}
	token, err := b.token(ctx, host)
	if err != nil {
		return nil, nil, err
	}
	if !tokenRule.MatchString(token) {
		return nil, nil, errors.New("the token is no bearer token (RFC 6750): letters, digits and -._~+/ alone, as in a JWT")
	}
	return &bearerExchange{token: token}, []byte("n,,\x01auth=Bearer " + token + "\x01\x01"), nil
}

// bearerExchange is one exchange.
type bearerExchange struct {
	token   string
	refusal string // the broker's, in JSON; empty until there is one
}

// Next is told nothing where the broker takes the token. What it is told otherwise has to be acknowledged before the broker
// ends the exchange (RFC 7628, section 3.2.3).
func (b *bearerExchange) Next(_ context.Context, challenge []byte) (done bool, response []byte, err error) {
	switch {
	case b.refusal != "":
		return false, nil, errors.New("the exchange goes on behind the broker's refusal")
	case len(challenge) == 0:
		return true, nil, nil
	}
	b.refusal = string(challenge)
	return false, []byte{1}, nil
}

// explain makes of an error that ended the exchange one that says why in the broker's words. Brokers may quote what they
// refuse: the token is left out.
func (b *bearerExchange) explain(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	if b.refusal != "" { // which counts, whatever became of the connection since
		e.Kind, e.Err = KindToken, fmt.Errorf("the broker refuses the token: %s", b.refusal)
	}
	if text := e.Err.Error(); strings.Contains(text, b.token) {
		e.Err = errors.New(strings.ReplaceAll(text, b.token, "[redacted]"))
	}
	return err
}
