package broker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// authority issues certificates into a folder.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // of cert, in PEM
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key, a.file, _ = a.issue(t, "authority", &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour),
	})
	return a
}

// issue makes a certificate, which is its own authority where there is none yet.
func (a *authority) issue(t *testing.T, name string, template *x509.Certificate) (cert *x509.Certificate, key *ecdsa.PrivateKey, certFile, keyFile string) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: name}
	template.NotBefore = time.Now().Add(-2 * time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	must(err)
	cert, err = x509.ParseCertificate(der)
	must(err)
	der8, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	certFile, keyFile = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	must(os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der8}), 0o600))
	return cert, key, certFile, keyFile
}

// server gives the settings of a listener whose certificate is for 127.0.0.1 and the name broker.
func (a *authority) server(t *testing.T, name string, notAfter time.Time) *tls.Config {
	t.Helper()
	_, _, certFile, keyFile := a.issue(t, name, &x509.Certificate{
		NotAfter: notAfter, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"broker"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}
}

// secureListen is a peer that speaks TLS.
func secureListen(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	return listen(t, func(c net.Conn) net.Conn { return tls.Server(c, cfg) }, func(p played) { p.greet(); p.gone() })
}

func TestTLS(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	in1h := time.Now().Add(time.Hour)
	valid := ours.server(t, "valid", in1h)
	mutual := valid.Clone()
	mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	mutual.ClientCAs.AddCert(ours.cert)
	_, _, clientCert, clientKey := ours.issue(t, "client", &x509.Certificate{NotAfter: in1h, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	addr, addrMutual := secureListen(t, valid), secureListen(t, mutual)
	addrExpired := secureListen(t, ours.server(t, "expired", time.Now().Add(-time.Hour)))

	for name, c := range map[string]struct {
		addr string
		tls  TLS
		kind Kind // zero: the dial succeeds
		says string
	}{
		"right":                 {addr, TLS{CAFile: ours.file}, 0, ""},
		"right, by a name":      {addr, TLS{CAFile: ours.file, ServerName: "broker"}, 0, ""},
		"unchecked":             {addr, TLS{InsecureSkipVerify: true}, 0, ""},
		"other authority":       {addr, TLS{CAFile: others.file}, KindTLS, "ca_file must hold its issuer"},
		"system's authorities":  {addr, TLS{}, KindTLS, "ca_file must hold its issuer"},
		"other name":            {addr, TLS{CAFile: ours.file, ServerName: "elsewhere"}, KindTLS, "server_name"},
		"expired":               {addrExpired, TLS{CAFile: ours.file}, KindTLS, "expired"},
		"client certificate":    {addrMutual, TLS{CAFile: ours.file, CertFile: clientCert, KeyFile: clientKey}, 0, ""},
		"no client certificate": {addrMutual, TLS{CAFile: ours.file}, KindTLS, "certificate required"},
		"no such file":          {addr, TLS{CAFile: "/no/such/file"}, KindSettings, "/no/such/file"},
		"no certificate in it":  {addr, TLS{CAFile: clientKey}, KindSettings, "no PEM certificate"},
		"key missing":           {addr, TLS{CertFile: clientCert}, KindSettings, "client certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{TLS: c.tls.Config, Timeout: 10 * time.Second}
			if c.kind == 0 {
				dial(t, c.addr, cfg)
				return
			}
			err := dialError(t, c.addr, cfg)
			wantError(t, err, c.kind, c.addr, c.says)
			if !IsPermanent(err) {
				t.Error("trying again is no use")
			}
		})
	}
}

func TestRequestsOverTLS(t *testing.T) {
	a := newAuthority(t)
	_, addr := kafka(t, kfake.TLS(a.server(t, "kafka", time.Now().Add(time.Hour))))
	c := dial(t, addr, Config{TLS: TLS{CAFile: a.file}.Config})
	for range 3 {
		if _, err := c.Do(t.Context(), topics("t")); err != nil {
			t.Error(err)
		}
	}
}

func TestCertificatesAreReadAtEveryDial(t *testing.T) {
	before, after := newAuthority(t), newAuthority(t)
	addr := secureListen(t, after.server(t, "renewed", time.Now().Add(time.Hour)))
	cfg := Config{TLS: TLS{CAFile: before.file}.Config}
	wantError(t, dialError(t, addr, cfg), KindTLS)
	renewed, err := os.ReadFile(after.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(before.file, renewed, 0o600); err != nil {
		t.Fatal(err)
	}
	dial(t, addr, cfg)
}

func TestPlaintextListenerIsRecognised(t *testing.T) {
	// Kafka takes a ClientHello for the size of a request, and hangs up; others answer in their own way.
	hangsUp := listen(t, nil, func(p played) { _, _ = p.Read(make([]byte, 4)) })
	wantError(t, dialError(t, hangsUp, Config{TLS: TLS{}.Config}), KindLost, "plaintext listener?")
	answers := listen(t, nil, func(p played) { _, _ = p.Write([]byte("220 mail.example ready\r\n")); p.gone() })
	wantError(t, dialError(t, answers, Config{TLS: TLS{}.Config}), KindTLS, "does not speak TLS")
}

func TestTLSListenerIsRecognised(t *testing.T) {
	hangsUp := secureListen(t, newAuthority(t).server(t, "secure", time.Now().Add(time.Hour)))
	wantError(t, dialError(t, hangsUp, Config{}), KindLost, "want TLS?")
	alerts := listen(t, nil, func(p played) { p.next(); _, _ = p.Write([]byte{tlsAlert, tlsMajor, 3, 0, 2, 2, 70}) })
	wantError(t, dialError(t, alerts, Config{}), KindTLS, "the listener speaks TLS")
}
