package config

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// Secret is a text that no print, log or encoding shows. string(s) gives it away.
type Secret string

const redacted = "[redacted]"

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format keeps every verb from showing the secret; a String method alone would let %d through.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText is what JSON and YAML encoders use.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// readSecret reads a secret's file. A newline at the end, which most editors write, is no part of it.
func readSecret(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(b), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("%s is empty", file)
	}
	return secret, nil
}

// Password gives a function that reads the password's file each time, so that a rotated password is taken at the next dial.
// It is nil where no file is set: the URL, PGPASSWORD or the password file of libpq then decide.
func (p *Postgres) Password() func() (string, error) {
	return fromFile(p.PasswordFile)
}

// Token gives a function that reads the token's file each time, or nil where none is set.
func (h *HTTP) Token() func() (string, error) {
	return fromFile(h.TokenFile)
}

func fromFile(file string) func() (string, error) {
	if file == "" {
		return nil
	}
	return func() (string, error) { return readSecret(file) }
}

// ReadToken reads the token's file.
func (s *SASL) ReadToken() (string, error) { return readSecret(s.TokenFile) }

// ReadPassword gives the password, from its file where one is set.
func (s *SASL) ReadPassword() (string, error) {
	if s.PasswordFile != "" {
		return readSecret(s.PasswordFile)
	}
	return string(s.Password), nil
}
