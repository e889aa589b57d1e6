package harness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority issues certificates for one test.
type Authority struct {
	File string // its own certificate, as PEM

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

// NewAuthority makes an authority whose files are gone with the test.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{dir: t.TempDir()}
	template := certificate("the test's authority")
	template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
	var pemCert []byte
	a.cert, a.key, pemCert = issue(t, template, nil, nil)
	a.File = a.write(t, "authority.pem", pemCert)
	return a
}

// Expired and Elsewhere are for Issue: a certificate that was valid until a minute ago, and one of another host.
func Expired(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }

func Elsewhere(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"elsewhere.example"}, nil }

// Issue makes a certificate for name, valid for localhost and 127.0.0.1, on either side of a connection, unless changes make
// another one of it. Both files are PEM. Those of an earlier one of that name are replaced, as where certificates are renewed.
func (a *Authority) Issue(t testing.TB, name string, changes ...func(*x509.Certificate)) (certFile, keyFile string) {
	t.Helper()
	template := certificate(name)
	template.DNSNames, template.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	for _, change := range changes {
		change(template)
	}
	_, key, pemCert := issue(t, template, a.cert, a.key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return a.write(t, name+".crt", pemCert), a.write(t, name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// EnableTLS makes the server take TLS connections on its TCP address from its next Start on, with a certificate of a's, and
// take certificates of a's from clients that its HBA asks for one.
func (p *Postgres) EnableTLS(t testing.TB, a *Authority) {
	t.Helper()
	cert, key := a.Issue(t, "postgres")
	p.SetCertificate(t, a, cert, key)
	p.Set("ssl", "on")
	p.Set("ssl_ca_file", "root.crt")
}

// SetCertificate replaces the server's certificate, and the authority of its clients, from its next Start or reload on.
func (p *Postgres) SetCertificate(t testing.TB, a *Authority, certFile, keyFile string) {
	t.Helper()
	for name, file := range map[string]string{"server.crt": certFile, "server.key": keyFile, "root.crt": a.File} { // ssl_cert_file and ssl_key_file by default
		b, err := os.ReadFile(file)
		to := filepath.Join(p.data(), name)
		if err == nil {
			err = os.WriteFile(to, b, 0o600)
		}
		if err == nil && p.account != nil {
			err = os.Chown(to, int(p.account.Uid), int(p.account.Gid))
		}
		if err != nil {
			t.Fatalf("give Postgres a certificate: %v", err)
		}
	}
}

func (a *Authority) write(t testing.TB, name string, b []byte) string {
	t.Helper()
	file := filepath.Join(a.dir, name)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func certificate(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

// issue signs template by parent, or by itself where that is nil.
func issue(t testing.TB, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
