package broker

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"

	"github.com/aws/aws-msk-iam-sasl-signer-go/signer"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
)

// MSK authenticates to Amazon MSK by IAM: each dial signs a token of 15 minutes with credentials of AWS, and shows it by
// OAUTHBEARER, which is MSK's way for clients that are not Java's. The zero value is ready to use.
//
// The credentials are found as every program of AWS' finds them: the variables AWS_*, the shared files, a web identity
// (EKS), the container's or the instance's role. They are renewed by the SDK before they expire.
type MSK struct {
	mu  sync.Mutex
	cfg *aws.Config // read at the first dial, since constructors read nothing
}

// Mechanism is meant for Config.SASL.
func (m *MSK) Mechanism() (SASL, error) { return bearer{token: m.token}, nil }

// mskHost is a broker's name in Amazon's own domain.
var mskHost = regexp.MustCompile(`\.kafka(?:-serverless)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?$`)

// token signs for the region of the broker: that of its name, else the one that the environment of AWS tells.
func (m *MSK) token(ctx context.Context, host string) (string, error) {
	cfg, err := m.load(ctx)
	if err != nil {
		return "", fmt.Errorf("read the settings of AWS: %w", err)
	}
	region := cfg.Region
	if found := mskHost.FindStringSubmatch(host); found != nil {
		region = found[1]
	}
	if region == "" {
		return "", errors.New("the region is neither in the broker's name nor in AWS_REGION: set that")
	}
	token, _, err := signer.GenerateAuthTokenFromCredentialsProvider(ctx, region, cfg.Credentials)
	if err != nil {
		return "", fmt.Errorf("sign a token with the credentials of AWS: %w", err)
	}
	return token, nil
}

// load reads the settings of AWS once: each of them has a cache of credentials, and a new one at each dial would ask for new
// credentials whenever a broker restarts.
func (m *MSK) load(ctx context.Context) (*aws.Config, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cfg == nil {
		cfg, err := config.LoadDefaultConfig(ctx, config.WithLogger(logging.Nop{})) // else it writes to stderr by itself
		if err != nil {
			return nil, err
		}
		m.cfg = &cfg
	}
	return m.cfg, nil
}
