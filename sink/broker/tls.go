package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
)

// TLS says how a client speaks TLS, in files. The zero value trusts the system's certificate authorities.
type TLS struct {
	// CAFile holds the PEM certificates of the authorities to trust, instead of the system's.
	CAFile string
	// CertFile and KeyFile hold our own certificate and its key, in PEM, for brokers that ask for one. Both or neither.
	CertFile, KeyFile string
	// ServerName is the name that a broker's certificate must bear, where that is not the host dialled.
	ServerName string
	// InsecureSkipVerify trusts any certificate.
	InsecureSkipVerify bool
}

// Config reads the files, and is meant for Config.TLS: certificates that were renewed are used from the next dial on.
func (t TLS) Config() (*tls.Config, error) {
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         t.ServerName,
		InsecureSkipVerify: t.InsecureSkipVerify, // the operator's explicit wish
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificate authorities: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no PEM certificate", t.CAFile)
		}
	}
	if t.CertFile != "" || t.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load the client certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// secure puts TLS over the socket.
func (c *Conn) secure(ctx context.Context, config func() (*tls.Config, error)) error {
	const op = "TLS"
	cfg, err := config()
	if err != nil {
		return &Error{c.addr, op, KindSettings, err}
	}
	if cfg.ServerName == "" {
		cfg = cfg.Clone()
		cfg.ServerName, _, _ = net.SplitHostPort(c.addr) // dialled, so it is well formed
	}
	stream := tls.Client(c.socket, cfg)
	if err := stream.HandshakeContext(ctx); err != nil {
		return c.tlsError(op, err)
	}
	c.stream, c.usesTLS = stream, true
	return nil
}

// tlsError tells a peer that is no good from a network that is no good, and says what to look at.
func (c *Conn) tlsError(op string, err error) error {
	var (
		header tls.RecordHeaderError
		cert   *tls.CertificateVerificationError
		ca     x509.UnknownAuthorityError
		host   x509.HostnameError
	)
	kind := ioKind(err)
	switch {
	case errors.As(err, &header):
		kind, err = KindTLS, fmt.Errorf("the listener does not speak TLS; use its TLS port, or set kafka.tls.enabled to false: %w", err)
	case errors.As(err, &ca):
		kind, err = KindTLS, fmt.Errorf("%w; kafka.tls.ca_file must hold its issuer", err)
	case errors.As(err, &host):
		kind, err = KindTLS, fmt.Errorf("%w; dial the broker by a name of its certificate, or set kafka.tls.server_name", err)
	case errors.As(err, &cert):
		kind = KindTLS
	case kind == KindLost || kind == KindTimeout:
		// A plaintext Kafka listener takes a ClientHello for the size of a huge request, and closes or waits.
		err = fmt.Errorf("the handshake was not finished (%w); is this a plaintext listener?", err)
	}
	return &Error{c.addr, op, kind, err}
}
