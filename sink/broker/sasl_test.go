package broker

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/kfake"
)

func (p played) acceptMechanism() {
	r, _ := p.next()
	p.answer(r, &saslhandshake.Response{})
}

const password = "ü-s3cr3t"

// login gives the settings to log in with.
func login(mechanism, user, password string) Config {
	return Config{SASL: func() (sasl.Mechanism, error) { return Mechanism(mechanism, user, password) }}
}

func TestSASL(t *testing.T) {
	_, addr := kafka(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "anna", password),
		kfake.Superuser("SCRAM-SHA-256", "bert", password), kfake.Superuser("SCRAM-SHA-512", "carl", password))
	for mechanism, user := range map[string]string{"plain": "anna", "scram-sha-256": "bert", "scram-sha-512": "carl"} {
		t.Run(mechanism, func(t *testing.T) {
			c := dial(t, addr, login(mechanism, user, password))
			if _, err := c.Do(t.Context(), topics("t")); err != nil {
				t.Error(err)
			}
			err := dialError(t, addr, login(mechanism, user, "Wr0ng"))
			wantError(t, err, KindLost, addr, strings.ToUpper(mechanism), "user name or password") // this broker hangs up without a word
			if strings.Contains(err.Error(), "Wr0ng") || strings.Contains(err.Error(), password) {
				t.Errorf("the error shows a password: %v", err)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		c := dial(t, addr, login("none", "", ""))
		_, err := c.Do(t.Context(), topics("t"))
		wantError(t, err, KindLost, "want SASL?")
	})
}

func TestRefusalIsShownInTheBrokersWords(t *testing.T) {
	for code, kind := range map[int16]Kind{authenticationFailed: KindCredentials, -1: KindLost} {
		addr := listen(t, nil, func(p played) {
			p.greet()
			p.acceptMechanism()
			r, _ := p.next()
			p.answer(r, &saslauthenticate.Response{ErrorCode: code, ErrorMessage: "account is locked"})
			p.gone()
		})
		err := dialError(t, addr, Config{SASL: asAlice})
		wantError(t, err, kind, addr, "SASL PLAIN", "account is locked")
		if permanent := code == authenticationFailed; IsPermanent(err) != permanent {
			t.Errorf("code %d: permanent is %t", code, !permanent)
		}
	}
}

func TestMechanismThatIsNotOfferedIsNamed(t *testing.T) {
	for code, says := range map[int16]string{
		unsupportedMechanism: "only: SCRAM-SHA-512, OAUTHBEARER",
		illegalState:         "does not use SASL",
		-1:                   "error code -1",
	} {
		addr := listen(t, nil, func(p played) {
			p.greet()
			r, _ := p.next()
			p.answer(r, &saslhandshake.Response{ErrorCode: code, Mechanisms: []string{"SCRAM-SHA-512", "OAUTHBEARER"}})
			p.gone()
		})
		wantError(t, dialError(t, addr, Config{SASL: asAlice}), KindMechanism, "PLAIN", says)
	}
}

// A server that does not know the password cannot end a SCRAM exchange.
func TestImpostorIsNotBelieved(t *testing.T) {
	addr := listen(t, nil, func(p played) {
		p.greet()
		p.acceptMechanism()
		for {
			r, ok := p.next()
			if !ok {
				return
			}
			p.answer(r, &saslauthenticate.Response{AuthBytes: []byte("v=bm90IHRoZSBwYXNzd29yZA==")})
		}
	})
	wantError(t, dialError(t, addr, login("scram-sha-256", "alice", password)), KindCredentials, "SCRAM-SHA-256")
}

func TestConnectionIsReplacedBeforeTheBrokerCutsIt(t *testing.T) {
	const lifetime = 100 * time.Second
	_, addr := kafka(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "bert", password),
		kfake.BrokerConfigs(map[string]string{"connections.max.reauth.ms": strconv.Itoa(int(lifetime.Milliseconds()))}))
	before := time.Now()
	c := dial(t, addr, login("scram-sha-256", "bert", password))
	if least, most := before.Add(85*time.Second), time.Now().Add(85*time.Second); c.RetireAt().Before(least) || c.RetireAt().After(most) {
		t.Errorf("to be replaced at %s, want %s to %s", c.RetireAt(), least, most)
	}
}

// telling is a mechanism that tells what it is told.
type telling struct{ metadata *sasl.Metadata }

func (m *telling) Name() string { return "TELLING" }

func (m *telling) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	m.metadata = sasl.MetadataFromContext(ctx)
	if _, ok := ctx.Deadline(); !ok {
		return nil, nil, errors.New("no deadline")
	}
	return m, []byte{}, nil
}

func (m *telling) Next(context.Context, []byte) (bool, []byte, error) { return true, nil, nil }

// Mechanisms that sign for a host (MSK IAM) learn it.
func TestMechanismIsToldTheHost(t *testing.T) {
	addr := listen(t, nil, func(p played) {
		p.greet()
		p.acceptMechanism()
		r, _ := p.next()
		p.answer(r, &saslauthenticate.Response{})
		p.gone()
	})
	var m telling
	dial(t, addr, Config{SASL: func() (sasl.Mechanism, error) { return &m, nil }})
	if m.metadata == nil || addr != m.metadata.Host+":"+strconv.Itoa(m.metadata.Port) {
		t.Errorf("told %+v, want %s", m.metadata, addr)
	}
}

func TestSecretIsReadAtEveryDial(t *testing.T) {
	_, addr := kafka(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "anna", password))
	secret, failure := "old", errors.New("read password: no such file")
	cfg := Config{SASL: func() (sasl.Mechanism, error) {
		if failure != nil {
			return nil, failure
		}
		return Mechanism("plain", "anna", secret)
	}}
	err := dialError(t, addr, cfg)
	wantError(t, err, KindSettings, "no such file")
	if !errors.Is(err, failure) {
		t.Error("the cause is lost")
	}
	failure = nil
	wantError(t, dialError(t, addr, cfg), KindLost)
	secret = password
	dial(t, addr, cfg)
}

func TestMechanismNames(t *testing.T) {
	for name, want := range map[string]string{"plain": "PLAIN", "scram-sha-256": "SCRAM-SHA-256", "scram-sha-512": "SCRAM-SHA-512"} {
		m, err := Mechanism(name, "u", "p")
		if err != nil || m.Name() != want {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
	if m, err := Mechanism("none", "", ""); m != nil || err != nil {
		t.Errorf("none: %v, %v", m, err)
	}
	if _, err := Mechanism("digest-md5", "u", "p"); err == nil || !strings.Contains(err.Error(), "scram-sha-512") {
		t.Errorf("an unknown name: %v", err)
	}
	if _, err := Mechanism("scram-sha-256", "u", "bell\a"); err == nil || strings.Contains(err.Error(), "bell") {
		t.Errorf("a password that SASLprep forbids: %v", err)
	}
}
