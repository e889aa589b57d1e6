package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/outrider-relay/outrider/cdc"
)

// fetchTimeout bounds the whole request: the answer is made from memory.
const fetchTimeout = 10 * time.Second

// maxAnswer bounds what is read of an answer; a status with a thousand topics has some 100 kB.
const maxAnswer = 16 << 20

// Fetch asks a relay's endpoint, a URL like http://127.0.0.1:9187. token, when not nil, gives what the endpoint asks for. name is
// the relay that is meant: another one that answers at that address is an error.
func Fetch(ctx context.Context, endpoint, name string, token func() (string, error)) (*cdc.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	if !strings.HasPrefix(endpoint, "http://") && !strings.HasPrefix(endpoint, "https://") {
		return nil, fmt.Errorf("%s is no endpoint: write http://host:port", endpoint)
	}
	at, err := url.JoinPath(endpoint, "status")
	if err != nil {
		return nil, fmt.Errorf("%s is no URL: %w", endpoint, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	if token != nil {
		secret, err := token()
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: no relay answers there; --offline asks the database instead", unwrapURL(err))
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", at, err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s: %.200s", at, res.Status, strings.TrimSpace(string(body)))
	}
	var st cdc.Status
	if err := json.Unmarshal(body, &st); err != nil || st.State == "" {
		return nil, fmt.Errorf("%s is not the endpoint of a relay", at)
	}
	if name != "" && st.Name != name {
		return nil, fmt.Errorf("relay %s answers at %s, not %s: name the other one's endpoint with --url", st.Name, endpoint, name)
	}
	return &st, nil
}

// unwrapURL leaves out what a url.Error repeats.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// Endpoint is the URL at which the relay that listens at address is reached from its own machine.
func Endpoint(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("http.listen is %q: name the endpoint with --url, or ask the database with --offline", address)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}
