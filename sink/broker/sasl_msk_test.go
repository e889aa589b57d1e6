package broker

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
)

const (
	accessKey    = "AKIDEXAMPLE"
	secretKey    = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	sessionToken = "a session's token"
)

// withoutAWS is an environment in which nothing tells of AWS, wherever the test runs.
func withoutAWS(t *testing.T) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	nowhere := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", nowhere)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", nowhere)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// verify judges a token as MSK does, and tells the region that it is for. It is written from the documentation of Signature
// Version 4 and knows nothing of the library that signs.
func verify(token string, now time.Time) (region string, err error) {
	decoded, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(string(decoded))
	if err != nil {
		return "", err
	}
	query := u.Query()
	scope := strings.Split(query.Get("X-Amz-Credential"), "/")
	if len(scope) != 5 || scope[0] != accessKey || scope[3] != "kafka-cluster" || scope[4] != "aws4_request" {
		return "", fmt.Errorf("the credential is %q", scope)
	}
	region = scope[2]
	for name, want := range map[string]string{
		"Action": "kafka-cluster:Connect", "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-SignedHeaders": "host", "X-Amz-Security-Token": sessionToken,
	} {
		if got := query.Get(name); got != want {
			return "", fmt.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	signed, err := time.Parse("20060102T150405Z", query.Get("X-Amz-Date"))
	if age := now.Sub(signed); err != nil || age < -time.Minute || age > time.Minute || query.Get("X-Amz-Expires") != "900" {
		return "", fmt.Errorf("signed at %s for %s s: %w", query.Get("X-Amz-Date"), query.Get("X-Amz-Expires"), err)
	}
	if u.Scheme != "https" || u.Host != "kafka."+region+".amazonaws.com" || u.Path != "/" {
		return "", fmt.Errorf("it is for %s://%s%s", u.Scheme, u.Host, u.Path)
	}
	signature := query.Get("X-Amz-Signature")
	query.Del("X-Amz-Signature")
	query.Del("User-Agent") // told beside what is signed
	nothing := sha256.Sum256(nil)
	request := sha256.Sum256([]byte(strings.Join([]string{
		"GET", "/", strings.ReplaceAll(query.Encode(), "+", "%20"), "host:" + u.Host, "", "host", hex.EncodeToString(nothing[:]),
	}, "\n")))
	key := []byte("AWS4" + secretKey)
	for _, part := range scope[1:] {
		key = mac(key, part)
	}
	want := mac(key, strings.Join([]string{"AWS4-HMAC-SHA256", query.Get("X-Amz-Date"), strings.Join(scope[1:], "/"), hex.EncodeToString(request[:])}, "\n"))
	if signature != hex.EncodeToString(want) {
		return "", errors.New("the signature is wrong")
	}
	return region, nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// msk is a broker that takes nothing but tokens of MSK.
func msk(t *testing.T) (addr string, regions <-chan string) {
	t.Helper()
	told := make(chan string, 1)
	return listen(t, nil, func(p played) {
		p.greet()
		p.acceptMechanism()
		r, message, ok := p.shown()
		if !ok {
			return
		}
		token := strings.TrimSuffix(strings.TrimPrefix(message, "n,,\x01auth=Bearer "), "\x01\x01")
		region, err := verify(token, time.Now())
		if err != nil {
			p.answer(r, &saslauthenticate.Response{ErrorCode: authenticationFailed, ErrorMessage: err.Error()})
			return
		}
		told <- region
		p.answer(r, &saslauthenticate.Response{SessionLifetimeMs: 900_000})
		p.gone()
	}), told
}

func TestMSKIsShownWhatTheCredentialsOfAWSHaveSigned(t *testing.T) {
	withoutAWS(t)
	t.Setenv("AWS_ACCESS_KEY_ID", accessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secretKey)
	t.Setenv("AWS_SESSION_TOKEN", sessionToken)
	t.Setenv("AWS_REGION", "eu-central-2")
	addr, regions := msk(t)
	c := dial(t, addr, Config{SASL: new(MSK).Mechanism})
	if region := await(t, "the region", regions); region != "eu-central-2" {
		t.Errorf("signed for %s", region)
	}
	if c.RetireAt().IsZero() {
		t.Error("the session's lifetime does not end the connection's")
	}

	t.Setenv("AWS_SECRET_ACCESS_KEY", "not-"+secretKey)
	err := dialError(t, addr, Config{SASL: new(MSK).Mechanism})
	wantError(t, err, KindToken, "the broker refuses the token: the signature is wrong")
	if strings.Contains(err.Error(), secretKey) {
		t.Errorf("the error shows the key: %v", err)
	}
}

func TestMSKRegionIsThatOfTheBrokersName(t *testing.T) {
	credentials := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey, SessionToken: sessionToken}, nil
	})
	for host, want := range map[string]string{
		"b-1.shop.abcde1.c2.kafka.eu-west-1.amazonaws.com":        "eu-west-1",
		"boot-abcde.c1.kafka-serverless.us-east-2.amazonaws.com":  "us-east-2",
		"b-2-public.shop.abcde1.c2.kafka.us-west-2.amazonaws.com": "us-west-2",
		"b-1.shop.abcde1.c2.kafka.cn-north-1.amazonaws.com.cn":    "cn-north-1",
		"kafka.internal.example":                                  "ap-south-1",
		"b-1.kafka.eu-west-1.amazonaws.com.example":               "ap-south-1",
		"b-1.shop.abcde1.c2.kafkaesque.eu-west-1.amazonaws.com":   "ap-south-1",
	} {
		m := MSK{cfg: &aws.Config{Region: "ap-south-1", Credentials: credentials}}
		token, err := m.token(t.Context(), host)
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		if got, err := verify(token, time.Now()); got != want || err != nil {
			t.Errorf("%s: signed for %q (%v), want %s", host, got, err, want)
		}
	}
}

// Tokens outlive neither their connection nor the credentials: each dial asks for them again.
func TestMSKSignsAnewAtEveryDial(t *testing.T) {
	secret := "old"
	m := MSK{cfg: &aws.Config{Region: "eu-west-1", Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secret, SessionToken: sessionToken}, nil
	})}}
	addr, _ := msk(t)
	wantError(t, dialError(t, addr, Config{SASL: m.Mechanism}), KindToken, "the signature is wrong")
	secret = secretKey
	dial(t, addr, Config{SASL: m.Mechanism})
}

func TestMissingCredentialsAndRegionAreNamed(t *testing.T) {
	withoutAWS(t)
	addr, _ := msk(t)
	wantError(t, dialError(t, addr, Config{SASL: new(MSK).Mechanism}), KindSettings, "AWS_REGION")
	t.Setenv("AWS_REGION", "eu-west-1")
	wantError(t, dialError(t, addr, Config{SASL: new(MSK).Mechanism}), KindSettings, "credentials of AWS")
	t.Setenv("AWS_CONFIG_FILE", "")
	t.Setenv("AWS_PROFILE", "nobody")
	wantError(t, dialError(t, addr, Config{SASL: new(MSK).Mechanism}), KindSettings, "settings of AWS", "nobody")

	// Who gives the credentials out may be slow, which says nothing about the settings.
	slow := MSK{cfg: &aws.Config{Region: "eu-west-1", Credentials: aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		<-ctx.Done()
		return aws.Credentials{}, ctx.Err()
	})}}
	wantError(t, dialError(t, addr, Config{SASL: slow.Mechanism, Timeout: 50 * time.Millisecond}), KindTimeout, "credentials of AWS")
}
