// Package aws is how the product comes to Amazon Web Services: one way to a configuration for
// every client of the SDK, and one table of what the services' errors mean.
//
// # Rules
//
//   - Credentials come from the standard chain of the SDK: environment, profile, web identity,
//     container, instance. A role is assumed on top of what the chain has found. Nothing is
//     asked of STS before a request needs it, and what STS refuses is an error of that request.
//   - The SDK does not retry: what is tried again, and when, the engine decides, or a lease's
//     own clock. Two things are no retries in that sense: a request whose signature carried the
//     time of a wrong clock is sent once more with the right one, and net/http sends again what
//     has not left.
//   - Credentials that a service calls expired or unknown are fetched anew for the next request.
//   - A request, to the end of its answer, has a time limit, so that a connection that is frozen
//     ends. Clients that read a stream of events set their own ([Access].Streaming).
//   - No error says a secret: what a service repeats of a signed request is cut.
package aws

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
	smithy "github.com/aws/smithy-go/middleware"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/secret"
)

const (
	dialTimeout = 10 * time.Second
	// defaultTimeout lets a long poll of 20 seconds end, and 10 MiB leave.
	defaultTimeout = 60 * time.Second
	// idlePerHost lets as many shards or batches as that keep a connection each.
	idlePerHost = 64
	// expiryWindow is how long before they expire the credentials of a role are renewed.
	expiryWindow = 2 * time.Minute
	// pingAfter is how long a connection of HTTP/2 may be silent before it is asked whether it lives.
	pingAfter = 15 * time.Second
)

// Access is what a config says about reaching a service.
type Access struct {
	// Region is where the service is; empty takes that of the chain.
	Region string
	// RoleARN is the role to assume; empty is none.
	RoleARN string
	// ExternalID goes with the role, where its owner asks for one.
	ExternalID string
	// Endpoint is the URL of every service, STS among them, in place of Amazon's; for stand-ins
	// and private networks.
	Endpoint string
	// Timeout bounds an attempt; zero means a minute.
	Timeout time.Duration
	// Streaming says that answers do not end: only the wait for their beginning is bounded, and
	// who reads them says how long they may be silent.
	Streaming bool
	// Version is the product's, for the user agent.
	Version string
	// Log takes what the SDK has to say; nil is nobody.
	Log *slog.Logger
}

// regionName is what a region of Amazon's, or of a stand-in, is called.
var regionName = regexp.MustCompile(`^[a-z0-9-]+$`)

// Problems are what can be known to be wrong without a network, by the names of the options
// region, role_arn and custom_aws_endpoint. What is no role STS says: configs for stand-ins have
// any text there.
func (a Access) Problems() []connector.Problem {
	var ps []connector.Problem
	if a.Region != "" && !regionName.MatchString(a.Region) {
		ps = append(ps, connector.Problem{Field: "region", What: fmt.Sprintf("region %q is not the name of one", a.Region), Fix: `write it as "eu-central-1"`})
	}
	if strings.ContainsFunc(a.RoleARN, unicode.IsSpace) {
		ps = append(ps, connector.Problem{Field: "role_arn", What: fmt.Sprintf("role_arn %q is not the ARN of a role", a.RoleARN), Fix: `write it as "arn:aws:iam::123456789012:role/NAME"`})
	}
	if u, err := url.Parse(a.Endpoint); a.Endpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		ps = append(ps, connector.Problem{Field: "custom_aws_endpoint", What: "custom_aws_endpoint is not a whole http or https URL", Fix: `write it as "http://127.0.0.1:4566", or leave it out for Amazon's own`})
	}
	return ps
}

// Load reads the environment and the profile's files, and makes of them and of a what the
// clients of the SDK are made from. It asks no service.
func Load(ctx context.Context, a Access) (aws.Config, error) {
	if a.Version == "" {
		a.Version = "dev"
	}
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(a.client()),
		config.WithRetryer(retryer),
		config.WithLogger(a.logger()),
		config.WithAPIOptions([]func(*smithy.Stack) error{middleware.AddUserAgentKeyValue("weir", a.Version)}),
		config.WithCredentialsCacheOptions(cacheOptions),
	}
	if a.Region != "" {
		options = append(options, config.WithRegion(a.Region))
	}
	if a.Endpoint != "" {
		options = append(options, config.WithBaseEndpoint(a.Endpoint))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Config{}, fault.New(fault.Setup, fmt.Errorf("read the AWS configuration of the environment: %s", secret.Text(err.Error())))
	}
	if cfg.Region == "" {
		return aws.Config{}, fault.New(fault.Setup, fmt.Errorf("no AWS region is known: set the option region, or AWS_REGION in the environment"))
	}
	if cfg.Credentials == nil {
		cfg.Credentials = aws.AnonymousCredentials{}
	}
	if c, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok { // with the authorities of AWS_CA_BUNDLE
		cfg.HTTPClient = &http.Client{Transport: transport{c.GetTransport()}, Timeout: c.GetTimeout(), CheckRedirect: stay}
	}
	cfg.Credentials = marked(cfg.Credentials)
	if a.RoleARN != "" {
		assume := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), a.RoleARN, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = "weir"
			if a.ExternalID != "" {
				o.ExternalID = &a.ExternalID
			}
		})
		cfg.Credentials = marked(aws.NewCredentialsCache(assume, cacheOptions))
	}
	cfg.APIOptions = append(cfg.APIOptions, renewRefused(cfg.Credentials))
	return cfg, nil
}

// transport sends requests whose bodies net/http reads, rather than have them write themselves.
// The SDK closes a body as soon as there is an answer, and a closed one that is to write itself
// reports the end of its data as an error: net/http, which asks once more whether there is
// anything left, would close the connection with the answer in it.
type transport struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.Transport.RoundTrip(readable(req))
}

func readable(req *http.Request) *http.Request {
	if _, writes := req.Body.(io.WriterTo); !writes {
		return req
	}
	again := *req
	again.Body = struct{ io.ReadCloser }{req.Body}
	return &again
}

// stay follows no redirect: a request is signed for where it goes.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Close closes the connections that wait for a request of a client made of cfg, which share
// them.
func Close(cfg aws.Config) {
	if c, ok := cfg.HTTPClient.(*http.Client); ok {
		c.CloseIdleConnections()
	}
}

func cacheOptions(o *aws.CredentialsCacheOptions) {
	o.ExpiryWindow = expiryWindow
	o.ExpiryWindowJitterFrac = 0.5
}

// client is the SDK's own, to which it adds the authorities of AWS_CA_BUNDLE, with limits.
func (a Access) client() *awshttp.BuildableClient {
	limit := a.Timeout
	if limit <= 0 {
		limit = defaultTimeout
	}
	c := awshttp.NewBuildableClient().WithDialerOptions(func(d *net.Dialer) {
		d.Timeout, d.KeepAlive = dialTimeout, 15*time.Second
	})
	if !a.Streaming {
		c = c.WithTimeout(limit)
	}
	return c.WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost, t.MaxIdleConns = idlePerHost, 4*idlePerHost
		t.ResponseHeaderTimeout = limit
		t.MaxResponseHeaderBytes = 1 << 20
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter}
	})
}

// retryer sends again only what a wrong clock has spoilt.
func retryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = 2
		o.Retryables = []retry.IsErrorRetryable{retry.NoRetryCanceledError{}, retry.RetryableError{}}
		o.RateLimiter = ratelimit.None
	})
}

func (a Access) logger() logging.Logger {
	if a.Log == nil {
		return logging.Nop{}
	}
	return logging.LoggerFunc(func(c logging.Classification, format string, v ...any) {
		level := slog.LevelDebug
		if c == logging.Warn {
			level = slog.LevelWarn
		}
		a.Log.Log(context.Background(), level, "AWS SDK", "says", secret.Text(fmt.Sprintf(format, v...)))
	})
}

// provider says of an error that it is one of getting credentials.
type provider struct{ from aws.CredentialsProvider }

func marked(from aws.CredentialsProvider) aws.CredentialsProvider {
	if _, ok := from.(aws.AnonymousCredentials); ok {
		return from
	}
	return &provider{from}
}

// Retrieve implements aws.CredentialsProvider.
func (p *provider) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := p.from.Retrieve(ctx)
	if err != nil && ctx.Err() == nil {
		err = &credentialsError{err}
	}
	return c, err
}

// Invalidate forgets what can be fetched again.
func (p *provider) Invalidate() {
	if c, ok := p.from.(interface{ Invalidate() }); ok {
		c.Invalidate()
	}
}

// credentialsError is the error of a request that was not sent, because there is nothing to
// sign it with.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return "get credentials: " + e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

// renewRefused forgets credentials that a service has refused as expired or unknown, as those
// are of a role whose session was ended.
func renewRefused(credentials aws.CredentialsProvider) func(*smithy.Stack) error {
	renew := smithy.FinalizeMiddlewareFunc("RenewRefusedCredentials", func(ctx context.Context, in smithy.FinalizeInput, next smithy.FinalizeHandler) (smithy.FinalizeOutput, smithy.Metadata, error) {
		out, metadata, err := next.HandleFinalize(ctx, in)
		if p, ok := credentials.(*provider); ok && err != nil && refused[Code(err)] {
			p.Invalidate()
		}
		return out, metadata, err
	})
	return func(s *smithy.Stack) error { return s.Finalize.Add(renew, smithy.Before) }
}
