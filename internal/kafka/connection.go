// Package kafka is what the connectors of Kafka share: how a cluster is reached and signed in
// to, what its errors mean for delivery, and the transactions that a source and a target have
// together.
//
// # Protocol
//
// The client is franz-go, which negotiates the version of every request with each broker: there
// is nothing to configure when brokers are upgraded. A connection that breaks is made again by
// the client, with back-off, and ends nothing.
//
// # Invariants
//
//   - What is in [Connection] names no secret in an error or a log line.
//   - An error without a meaning of its own is transient: a broker that is away comes back.
//   - Connections that are dropped while nothing is sent (a load balancer does that) are no
//     error of anybody: the next request makes a new one.
package kafka

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/aws"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/weirdata/weir/internal/connector"
)

// Connection is the options by which a cluster is reached. Connectors have it as a part of
// their config that remains.
type Connection struct {
	// Brokers are the addresses to find the cluster by, host:port with commas between them.
	// The port is 9092 where there is none.
	Brokers string `hcl:"brokers"`
	// TargetVersion is taken from a config of Snowbridge and has no effect: the versions of
	// requests are negotiated with each broker.
	TargetVersion string `hcl:"target_version,optional"`

	// EnableSASL signs in with the options that begin with sasl. Off by default.
	EnableSASL bool `hcl:"enable_sasl,optional"`
	// SASLAlgorithm is how to sign in: "sha512" (SCRAM, the default), "sha256" (SCRAM),
	// "plaintext" (PLAIN), "oauthbearer" with sasl_oauth, or "aws_msk_iam" with the
	// credentials that the AWS SDK finds (environment, profile, container, web identity, role).
	SASLAlgorithm string `hcl:"sasl_algorithm,optional"`
	// SASLUsername is who signs in, with SCRAM and PLAIN.
	SASLUsername string `hcl:"sasl_username,optional"`
	// SASLPassword is the password, with SCRAM and PLAIN.
	SASLPassword string `hcl:"sasl_password,optional"`
	// SASLVersion is taken from a config of Snowbridge and has no effect: the version of the
	// handshake is negotiated.
	SASLVersion int `hcl:"sasl_version,optional"`
	// SASLOAuth is where the tokens of "oauthbearer" come from.
	SASLOAuth *OAuth `hcl:"sasl_oauth,block"`

	// EnableTLS encrypts connections, with the TLS settings below. Off by default.
	EnableTLS bool `hcl:"enable_tls,optional"`
	// CertFile is the PEM file of our client certificate; it needs key_file.
	CertFile string `hcl:"cert_file,optional"`
	// KeyFile is the PEM file of the client certificate's private key.
	KeyFile string `hcl:"key_file,optional"`
	// CAFile is a PEM file of certificate authorities to trust beside the system's.
	CAFile string `hcl:"ca_file,optional"`
	// SkipVerifyTLS accepts any certificate of a broker. Off by default; for tests only.
	SkipVerifyTLS bool `hcl:"skip_verify_tls,optional"`
}

// OAuth is an OAuth 2 client that gets tokens to sign in with.
type OAuth struct {
	// ClientID is the client's identifier.
	ClientID string `hcl:"client_id"`
	// ClientSecret is the client's secret.
	ClientSecret string `hcl:"client_secret,optional"`
	// RefreshToken is exchanged for access tokens, in the place of the client's credentials.
	RefreshToken string `hcl:"refresh_token,optional"`
	// TokenURL is the token endpoint.
	TokenURL string `hcl:"token_url"`
	// Scopes are asked for with the client's credentials.
	Scopes []string `hcl:"scopes,optional"`
}

// Means are what a connector makes of the settings of a connection, to connect by.
type Means struct {
	TLS   *tls.Config                               // with enable_tls
	Token func(ctx context.Context) (string, error) // with sasl_oauth: a token that is valid now
}

// The values of sasl_algorithm.
const (
	scram512  = "sha512"
	scram256  = "sha256"
	plaintext = "plaintext"
	bearer    = "oauthbearer"
	mskIAM    = "aws_msk_iam"
)

var algorithms = []string{scram512, scram256, plaintext, bearer, mskIAM}

// DefaultConnection is a Connection with the defaults set.
func DefaultConnection() Connection { return Connection{SASLAlgorithm: scram512} }

// Seeds are the addresses of Brokers.
func (c Connection) Seeds() []string { return Names(c.Brokers) }

// Names are the parts of a list that has commas between them, without spaces around them.
func Names(list string) []string {
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// Cluster is equal for connections to the same addresses.
func (c Connection) Cluster() string {
	seeds := c.Seeds()
	slices.Sort(seeds)
	return strings.Join(slices.Compact(seeds), ",")
}

// Validate names what could never work.
func (c Connection) Validate() []connector.Problem {
	var ps []connector.Problem
	if len(c.Seeds()) == 0 {
		ps = append(ps, connector.Problem{Field: "brokers", What: "brokers names no address", Fix: `write host:port, with commas between several, such as "broker-1:9092,broker-2:9092"`})
	}
	if !slices.Contains(algorithms, c.SASLAlgorithm) {
		ps = append(ps, connector.Problem{Field: "sasl_algorithm", What: fmt.Sprintf("unknown sasl_algorithm: %s", c.SASLAlgorithm),
			Fix: "write one of: " + strings.Join(algorithms, ", ")})
	}
	if c.EnableSASL && c.SASLAlgorithm == bearer && c.SASLOAuth == nil {
		ps = append(ps, connector.Problem{Field: "sasl_algorithm", What: "sasl_algorithm is oauthbearer, and nothing says where tokens come from",
			Fix: "add a block sasl_oauth with client_id, client_secret and token_url"})
	}
	needsName := c.EnableSASL && (c.SASLAlgorithm == scram512 || c.SASLAlgorithm == scram256 || c.SASLAlgorithm == plaintext)
	if needsName && c.SASLUsername == "" {
		ps = append(ps, connector.Problem{Field: "enable_sasl", What: "enable_sasl is set without sasl_username", Fix: "set sasl_username and sasl_password, or remove enable_sasl"})
	}
	return ps
}

// clientName is what we call ourselves in the brokers' logs, metrics and quotas.
const clientName = "weir"

// Options are the options of every client of the cluster.
func (c Connection) Options(d connector.Deps, by Means) []kgo.Opt {
	log := d.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Seeds()...),
		kgo.ClientID(clientName),
		kgo.SoftwareNameAndVersion(clientName, softwareVersion(d.Version)),
		kgo.DisableClientMetrics(),
		kgo.WithLogger(clientLog{log}),
		kgo.DialTimeout(10 * time.Second),
		// What has moved to another broker is found again after this long.
		kgo.MetadataMinAge(500 * time.Millisecond),
		// A broker that is away is asked again by the client for this long; then it is the
		// engine's turn, which logs it.
		kgo.RetryTimeout(20 * time.Second),
	}
	if c.EnableTLS {
		opts = append(opts, kgo.DialTLSConfig(by.TLS))
	} else if c.CertFile != "" || c.KeyFile != "" || c.CAFile != "" || c.SkipVerifyTLS {
		log.Warn("TLS settings have no effect without enable_tls = true")
	}
	if c.EnableSASL {
		opts = append(opts, kgo.SASL(c.mechanism(by)))
		if !c.EnableTLS && c.SASLAlgorithm != mskIAM {
			log.Warn("SASL without TLS: whoever can read the network can sign in as we do; set enable_tls = true")
		}
	}
	return opts
}

// softwareVersion is a version in the characters that brokers accept.
func softwareVersion(v string) string {
	v = strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '.' || r == '-' {
			return r
		}
		return '-'
	}, v)
	if v = strings.Trim(v, ".-"); v == "" {
		return "unknown"
	}
	return v
}

// mechanism is how to sign in. What changes (a token, credentials of AWS) is asked for by
// every new connection; one that stands is kept.
func (c Connection) mechanism(by Means) sasl.Mechanism {
	switch c.SASLAlgorithm {
	case scram256:
		return scram.Auth{User: c.SASLUsername, Pass: c.SASLPassword}.AsSha256Mechanism()
	case plaintext:
		return plain.Auth{User: c.SASLUsername, Pass: c.SASLPassword}.AsMechanism()
	case bearer:
		return oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
			token, err := by.Token(ctx)
			if err != nil {
				return oauth.Auth{}, fmt.Errorf("sign in with OAUTHBEARER: %w", err)
			}
			return oauth.Auth{Token: token}, nil
		})
	case mskIAM:
		return aws.ManagedStreamingIAM(credentials)
	}
	return scram.Auth{User: c.SASLUsername, Pass: c.SASLPassword}.AsSha512Mechanism()
}

// credentials are those that the AWS SDK finds, as they are now.
func credentials(ctx context.Context) (aws.Auth, error) {
	found, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return aws.Auth{}, fmt.Errorf("sign in with AWS_MSK_IAM: %w", err)
	}
	now, err := found.Credentials.Retrieve(ctx)
	if err != nil {
		return aws.Auth{}, fmt.Errorf("sign in with AWS_MSK_IAM: find credentials (environment, profile, container, web identity, role): %w", err)
	}
	return aws.Auth{AccessKey: now.AccessKeyID, SecretKey: now.SecretAccessKey, SessionToken: now.SessionToken}, nil
}

// clientLog hands what the client says to the log of its connector. The client has a line for
// every connection that breaks, which it then makes again: what is an error, its callers
// return.
type clientLog struct{ *slog.Logger }

func (l clientLog) Level() kgo.LogLevel { return kgo.LogLevelWarn }

func (l clientLog) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	to := slog.LevelDebug
	if level == kgo.LogLevelError {
		to = slog.LevelWarn
	}
	l.Logger.Log(context.Background(), to, "kafka client", append([]any{"says", msg}, keyvals...)...)
}
