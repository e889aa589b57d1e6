package broker

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
)

// Kind tells errors apart by who has to do something about them.
type Kind uint8

const (
	_ Kind = iota
	// KindUnreachable: no TCP connection. Wrong address, broker down, or the network in between.
	KindUnreachable
	// KindSettings: our own side could not be set up, because a certificate or a secret cannot be read or used.
	KindSettings
	// KindTLS: one side does not speak it, or does not trust the other's certificate.
	KindTLS
	// KindMechanism: the listener does not offer our SASL mechanism, or no SASL at all.
	KindMechanism
	// KindCredentials: the broker refuses user name and password, or cannot prove that it knows them.
	KindCredentials
	// KindToken: the broker refuses the token of OAUTHBEARER.
	KindToken
	// KindVersion: the broker and we have no version of an API in common.
	KindVersion
	// KindTimeout: something took longer than Config.Timeout.
	KindTimeout
	// KindLost: the connection broke or the broker closed it.
	KindLost
	// KindGarbled: the peer sent what a Kafka broker does not send.
	KindGarbled
	// KindClosed: Close was called.
	KindClosed
)

// Error is what every failure of a connection, and of dialling one, is reported as. What is none: the caller's context
// that ends, and a request that cannot be encoded.
type Error struct {
	Addr string // host:port of the broker
	Op   string // what was being done
	Kind Kind
	Err  error
}

func (e *Error) Error() string { return "broker " + e.Addr + ": " + e.Op + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// KindOf is the kind of the Error in err's chain, zero when there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return 0
}

// IsPermanent says whether trying again is no use before somebody has changed the settings, or the broker's.
func IsPermanent(err error) bool {
	switch KindOf(err) {
	case KindSettings, KindTLS, KindMechanism, KindCredentials, KindToken, KindVersion:
		return true
	default:
		return false
	}
}

// ioKind classes an error of the network connection.
func ioKind(err error) Kind {
	var op *net.OpError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return KindTimeout
	case errors.As(err, &op) && op.Op == "remote error":
		// A TLS alert. With TLS 1.3 our certificate is judged after our side of the handshake is over, so the refusal
		// may come in place of any later answer.
		return KindTLS
	default:
		return KindLost
	}
}

// isEOF says whether the peer ended the connection, rather than the network.
func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
