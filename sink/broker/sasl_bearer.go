package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/segmentio/kafka-go/sasl"
)

// Bearer is the mechanism OAUTHBEARER (KIP-255) with this token, and with extensions (KIP-342) where a broker asks for them.
func Bearer(token string, extensions map[string]string) SASL {
	return bearer{func(context.Context, string) (string, error) { return token, nil }, extensions}
}

// bearer shows a token, which may depend on the host that is dialled.
type bearer struct {
	token      func(ctx context.Context, host string) (string, error)
	extensions map[string]string
}

func (bearer) Name() string { return "OAUTHBEARER" }

// tokenRule is what a bearer token may consist of (RFC 6750, section 2.1). Anything else could end the field that it is
// sent in, and begin another.
var tokenRule = regexp.MustCompile(`^[A-Za-z0-9\-._~+/]+=*$`)

// What the name and the value of an extension may consist of (RFC 7628, section 3.1).
var extensionName, extensionValue = regexp.MustCompile(`^[A-Za-z]+$`), regexp.MustCompile(`^[\t\n\r -~]+$`)

// CheckExtension says what is wrong with an extension of OAUTHBEARER, without showing its value. The name of the token's own
// field is none.
func CheckExtension(name, value string) error {
	switch {
	case name == "auth" || !extensionName.MatchString(name):
		return fmt.Errorf("%q is no name of an extension (KIP-342): letters alone, and not auth", name)
	case !extensionValue.MatchString(value):
		return fmt.Errorf("the value of %s is none of an extension (KIP-342): printable ASCII alone, and not empty", name)
	}
	return nil
}

// Start makes the client's only message (RFC 7628, section 3.1): no name to act for, and a field for the token and each extension.
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
	message := "n,,\x01auth=Bearer " + token + "\x01"
	for _, name := range slices.Sorted(maps.Keys(b.extensions)) {
		if err := CheckExtension(name, b.extensions[name]); err != nil {
			return nil, nil, err
		}
		message += name + "=" + b.extensions[name] + "\x01"
	}
	return &bearerExchange{token: token}, []byte(message + "\x01"), nil
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
