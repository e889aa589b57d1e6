package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// SASL is a mechanism with its credentials. It is kafka-go's, by a name that lets nobody above import kafka-go.
type SASL = sasl.Mechanism

// Mechanism is the SASL mechanism of that name that shows or proves a password: plain, scram-sha-256 or scram-sha-512; or none,
// which is nil. Errors never hold the password.
func Mechanism(name, username, password string) (SASL, error) {
	var algorithm scram.Algorithm
	switch name {
	case "none", "":
		return nil, nil
	case "plain":
		return plain.Mechanism{Username: username, Password: password}, nil
	case "scram-sha-256":
		algorithm = scram.SHA256
	case "scram-sha-512":
		algorithm = scram.SHA512
	default:
		return nil, fmt.Errorf("SASL mechanism %q is none of none, plain, scram-sha-256, scram-sha-512", name)
	}
	m, err := scram.Mechanism(algorithm, username, password)
	if err != nil {
		// The reason is left out: it may show characters of the password.
		return nil, fmt.Errorf("SASL mechanism %s: user name or password holds characters that SASLprep forbids (RFC 4013)", name)
	}
	return m, nil
}

// Error codes of Kafka that a SASL exchange ends with.
const (
	unsupportedMechanism = 33 // UNSUPPORTED_SASL_MECHANISM
	illegalState         = 34 // ILLEGAL_SASL_STATE
	authenticationFailed = 58 // SASL_AUTHENTICATION_FAILED
)

// retireAfter is the share of a session's lifetime, in percent, after which the connection should be replaced. Java
// clients re-authenticate between 85 and 95 percent (KIP-368).
const retireAfter = 85

// authenticate runs the mechanism's exchange (KIP-43, with the framing of KIP-152).
func (c *Conn) authenticate(ctx context.Context, config func() (SASL, error)) error {
	mech, err := config()
	if err != nil {
		return &Error{c.addr, "SASL", KindSettings, err}
	}
	if mech == nil {
		return nil
	}
	c.usesSASL = true
	op := "SASL " + mech.Name()
	host, port, _ := net.SplitHostPort(c.addr) // dialled, so it is well formed
	number, _ := strconv.Atoi(port)            // a service name is nothing that a mechanism asks for
	ctx = sasl.WithMetadata(ctx, &sasl.Metadata{Host: host, Port: number})
	if err := c.propose(op, mech.Name()); err != nil {
		return err
	}
	session, response, err := mech.Start(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{c.addr, op, KindTimeout, err} // of whoever gives out the credentials
	case err != nil:
		return &Error{c.addr, op, KindSettings, err}
	}
	shown, refused := "user name or password", KindCredentials
	token, isToken := session.(*bearerExchange)
	if isToken {
		shown, refused = "the token", KindToken
	}
	for done := false; !done; {
		began := time.Now() // before the broker's own clock starts
		answer, err := c.respond(op, shown, refused, response)
		if isToken && err != nil {
			err = token.explain(err)
		}
		if err != nil {
			return err
		}
		if done, response, err = session.Next(ctx, answer.AuthBytes); err != nil {
			return &Error{c.addr, op, refused, fmt.Errorf("the broker's part of the exchange is wrong: %w", err)}
		}
		if lifetime := time.Duration(answer.SessionLifetimeMs) * time.Millisecond; lifetime > 0 {
			c.retireAt = began.Add(lifetime * retireAfter / 100)
		}
	}
	return nil
}

// propose names the mechanism to the broker.
func (c *Conn) propose(op, mechanism string) error {
	// Version 0 would mean tokens without Kafka's framing, and a refusal without a word.
	const version = 1
	if v, ok := c.versions[protocol.SaslHandshake]; !ok || v < version {
		return &Error{c.addr, op, KindVersion, errors.New("the broker does not speak SaslHandshake v1, which SASL needs (Kafka 1.0)")}
	}
	msg, err := c.exchange(op, version, &saslhandshake.Request{Mechanism: mechanism})
	if err != nil {
		return err
	}
	switch answer := msg.(*saslhandshake.Response); answer.ErrorCode {
	case 0:
		return nil
	case unsupportedMechanism:
		return &Error{c.addr, op, KindMechanism, fmt.Errorf("the listener does not offer this mechanism, only: %s", strings.Join(answer.Mechanisms, ", "))}
	case illegalState:
		return &Error{c.addr, op, KindMechanism, errors.New("the listener does not use SASL; use another port, or set kafka.sasl.mechanism to none")}
	default:
		return &Error{c.addr, op, KindMechanism, fmt.Errorf("the broker refuses the handshake with error code %d", answer.ErrorCode)}
	}
}

// respond sends the client's next message and returns the broker's. shown is what the broker judges by them, and refused the
// kind of its refusal.
func (c *Conn) respond(op, shown string, refused Kind, message []byte) (*saslauthenticate.Response, error) {
	version, ok := c.versions[protocol.SaslAuthenticate]
	if !ok {
		return nil, &Error{c.addr, op, KindVersion, errors.New("the broker does not offer SaslAuthenticate, which SASL needs (Kafka 1.0)")}
	}
	msg, err := c.exchange(op, version, &saslauthenticate.Request{AuthBytes: message})
	if err != nil {
		var e *Error
		if errors.As(err, &e) && e.Kind == KindLost && isEOF(e.Err) {
			// Brokers say why they refuse (KIP-152), so this may as well be one that is going down: not permanent.
			e.Err = fmt.Errorf("the broker closed the connection without an answer (%w), perhaps because of %s", e.Err, shown)
		}
		return nil, err
	}
	answer := msg.(*saslauthenticate.Response)
	switch answer.ErrorCode {
	case 0:
		return answer, nil
	case authenticationFailed:
		return nil, &Error{c.addr, op, refused, fmt.Errorf("the broker refuses %s: %s", shown, answer.ErrorMessage)}
	default:
		// Not a verdict on the credentials, so it may pass.
		return nil, &Error{c.addr, op, KindLost, fmt.Errorf("the broker ends the exchange with error code %d: %s", answer.ErrorCode, answer.ErrorMessage)}
	}
}
