package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"strings"
)

// guard asks for the token where there is one. Without one, next is open on loopback only, unless Insecure says otherwise:
// status shows names of topics and errors that are nobody else's business.
func (s *Server) guard(loopback bool, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.Token == nil && s.Insecure:
			next(w, r)
		case s.Token == nil && loopback && !ownName(r.Host):
			text(w, http.StatusForbidden, "on loopback this is open under localhost and addresses alone, lest a web page reads it under a name of its own; for another name set http.token_file or http.insecure: true")
		case s.Token == nil && loopback:
			next(w, r)
		case s.Token == nil:
			text(w, http.StatusForbidden, "closed off loopback: set http.token_file, or http.insecure: true to do without a token")
		default:
			s.authorize(w, r, next)
		}
	})
}

// ownName says whether host, of a request, is one that only this machine can mean. A page from anywhere may let the name of its own
// server lead to 127.0.0.1, and would then be let by the browser to read what this endpoint answers; it cannot do so with an address.
func ownName(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || net.ParseIP(name) != nil
}

func (s *Server) authorize(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	token, err := s.Token()
	if err != nil {
		// The error names the file, and the caller is not known yet.
		s.Log.Error().Err(err).Msg("http.token_file cannot be read: the page and /status stay closed until it can")
		text(w, http.StatusServiceUnavailable, "the token cannot be read; the log says why")
		return
	}
	if !same(presented(r), token) {
		w.Header().Set("WWW-Authenticate", `Basic realm="outrider", charset="UTF-8"`)
		text(w, http.StatusUnauthorized, "the token of http.token_file is needed: as Authorization: Bearer, or as the password of any user")
		return
	}
	next(w, r)
}

// presented is the token that came with a request: a bearer token, or the password that a browser asked its user for.
func presented(r *http.Request) string {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return token
	}
	_, password, _ := r.BasicAuth()
	return password
}

// same compares in a time that tells neither content nor length.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
