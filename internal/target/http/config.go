package httptarget

import (
	"fmt"
	"net/http"

	"golang.org/x/net/http/httpguts"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/secret"
	"github.com/weirdata/weir/internal/tlsconfig"
)

// Config is the target's HCL block.
type Config struct {
	// Batching says how messages are grouped into requests. The overhead of the request
	// body (brackets and commas, or the template) is subtracted from its byte limits.
	Batching *connector.Batching `hcl:"batching,block"`
	// URL is where requests go; it must have a scheme (http or https) and a host.
	URL string `hcl:"url"`
	// Method is the HTTP method: POST (default), PUT or PATCH.
	Method string `hcl:"method,optional"`
	// RequestTimeoutInMillis is the longest time, in milliseconds, one request may take
	// from connecting to the end of the response; 5000 by default.
	RequestTimeoutInMillis int `hcl:"request_timeout_in_millis,optional"`
	// BodyFormat is what a request's body holds: "json_array" (default), the messages of a batch
	// as a JSON array, or "raw", one message as it is, JSON or not. With "raw" each message is
	// a request of its own, whatever max_batch_messages says, and template_file is not allowed.
	BodyFormat string `hcl:"body_format,optional"`
	// ContentType is the Content-Type header; "application/json" by default.
	ContentType string `hcl:"content_type,optional"`
	// Headers are added to every request.
	Headers map[string]string `hcl:"headers,optional"`
	// DynamicHeaders adds each message's own headers to its request; a message that has
	// any is then sent in a request of its own. Off by default.
	DynamicHeaders bool `hcl:"dynamic_headers,optional"`
	// DynamicURL names the message header that holds the message's own URL or path. Only
	// the path and query may differ from url, never the scheme or host, so that
	// credentials go nowhere else; the header itself is not sent, and a message that has
	// it is sent in a request of its own. Empty, the default, sends everything to url.
	DynamicURL string `hcl:"dynamic_url,optional"`
	// Compression of the request body: "none" (default) or "gzip".
	Compression string `hcl:"compression,optional"`

	// BasicAuthUsername is the user name for basic authentication.
	BasicAuthUsername string `hcl:"basic_auth_username,optional"`
	// BasicAuthPassword is the password for basic authentication.
	BasicAuthPassword string `hcl:"basic_auth_password,optional"`

	// EnableTLS applies the TLS settings below. An https URL works without it, with the
	// system's certificate authorities.
	EnableTLS bool `hcl:"enable_tls,optional"`
	// CertFile is the PEM file of our client certificate; it needs key_file.
	CertFile string `hcl:"cert_file,optional"`
	// KeyFile is the PEM file of the client certificate's private key.
	KeyFile string `hcl:"key_file,optional"`
	// CAFile is a PEM file of certificate authorities to trust beside the system's.
	CAFile string `hcl:"ca_file,optional"`
	// SkipVerifyTLS accepts any server certificate. Off by default; for tests only.
	SkipVerifyTLS bool `hcl:"skip_verify_tls,optional"`

	// OAuth2ClientID turns OAuth 2 on; the older spelling of oauth_client.client_id.
	OAuth2ClientID string `hcl:"oauth2_client_id,optional"`
	// OAuth2ClientSecret is the older spelling of oauth_client.client_secret.
	OAuth2ClientSecret string `hcl:"oauth2_client_secret,optional"`
	// OAuth2RefreshToken is the older spelling of oauth_client.refresh_token.
	OAuth2RefreshToken string `hcl:"oauth2_refresh_token,optional"`
	// OAuth2TokenURL is the older spelling of oauth_client.token_url.
	OAuth2TokenURL string `hcl:"oauth2_token_url,optional"`
	// OAuthClient gets access tokens as an OAuth 2 client.
	OAuthClient *httpclient.OAuthClient `hcl:"oauth_client,block"`
	// OAuthJWT gets access tokens with a signed assertion (RFC 7523).
	OAuthJWT *httpclient.OAuthJWT `hcl:"oauth_jwt,block"`
	// SigV4 signs requests for an AWS service, in the place of any other authorization.
	SigV4 *SigV4 `hcl:"sigv4,block"`

	// TemplateFile is a Go text/template that makes the request body from the list of
	// decoded messages; functions prettyPrint (a value as JSON) and env. Numbers are floats,
	// but for those whose digits a float would change, as whole numbers beyond 2^53: these
	// are printed as they are written. A large float is printed with an exponent (1.7329e+12):
	// prettyPrint writes any number with all of its digits. Without it the body is a JSON array of
	// the messages.
	TemplateFile string `hcl:"template_file,optional"`
	// ResponseRules say what responses mean; the first that matches decides. Without a rule, an
	// answer that refuses what was sent (400, 406, 411, 413, 414, 415, 422, 431) is invalid in a
	// pipeline block; in the blocks of a config of Snowbridge it is tried again, as there, but
	// for 413 with bisect.
	ResponseRules *ResponseRules `hcl:"response_rules,block"`
	// MetadataSafeMode keeps response bodies out of errors, alerts and metadata reports;
	// on by default. The failure target gets them in any case, and the log the beginning of an
	// answer that refuses an event and that no rule is for.
	MetadataSafeMode bool `hcl:"metadata_safe_mode,optional"`
	// Bisect sends a batch that was refused (a rule of type invalid, or 413) again in
	// halves, so that only the events at fault become invalid; on by default.
	Bisect bool `hcl:"bisect,optional"`

	// IncludeTimingHeaders adds Rejection-Timestamp, the Unix time in milliseconds after
	// which an answer comes too late. Off by default.
	IncludeTimingHeaders bool `hcl:"include_timing_headers,optional"`
	// RejectionThresholdInMillis is how long, in milliseconds, before the request timeout
	// Rejection-Timestamp lies; 150 by default.
	RejectionThresholdInMillis int `hcl:"rejection_threshold_in_millis,optional"`
}

// SigV4 signs requests for an AWS service (Signature Version 4).
type SigV4 struct {
	// Region of the service, such as "eu-central-1".
	Region string `hcl:"region"`
	// Service is its name in signatures, such as "execute-api", "lambda", "aoss" or "s3".
	Service string `hcl:"service"`
	// AccessKeyID is the access key's identifier.
	AccessKeyID string `hcl:"access_key_id"`
	// SecretAccessKey is the access key's secret.
	SecretAccessKey string `hcl:"secret_access_key"`
	// SessionToken goes with temporary credentials; empty for those that last.
	SessionToken string `hcl:"session_token,optional"`
}

// ResponseRules is an ordered list of rules.
type ResponseRules struct {
	// Rules are tried in order; the first that matches decides.
	Rules []Rule `hcl:"rule,block"`
}

// Rule says what a response means for the messages of its request.
type Rule struct {
	// Type is "invalid" (to the failure target, no retry), "setup" (alert, retry slowly),
	// "throttle" (retry later) or "fatal" (stop the pipeline).
	Type string `hcl:"type,optional"`
	// HTTPCodes are the status codes the rule is for. 0 stands for a request without a
	// response (timeout, refused connection, no OAuth token). A rule without codes never
	// matches.
	HTTPCodes []int `hcl:"http_codes,optional"`
	// Body must occur in the response body, or for code 0 in the error's text. Empty
	// matches any, but a rule for a 2xx code needs it. The first MiB of a response counts.
	Body string `hcl:"body,optional"`
}

// The values of body_format.
const (
	jsonArray = "json_array"
	raw       = "raw"
)

// overhead is what the body adds to the bytes of its messages; template is its length, or
// negative for a JSON array.
func overhead(maxMessages, template int) int {
	if template < 0 {
		template = len("[]")
	}
	return maxMessages - 1 + template
}

// Validate names what could never work.
func (c Config) Validate() []connector.Problem {
	var ps []connector.Problem
	refuse := func(field, what, fix string) {
		ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix})
	}
	if !httpclient.Whole(c.URL) {
		refuse("url", fmt.Sprintf("invalid url for HTTP target: '%s'", secret.URL(c.URL)), "write a whole URL, such as https://example.com/path")
	}
	switch c.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
	default:
		refuse("method", fmt.Sprintf("method %q is not known", c.Method), "use POST, PUT or PATCH")
	}
	switch {
	case c.BodyFormat != jsonArray && c.BodyFormat != raw:
		refuse("body_format", fmt.Sprintf("body_format %q is not known", c.BodyFormat), `use "json_array" or "raw"`)
	case c.BodyFormat == raw && c.TemplateFile != "":
		refuse("body_format", "body_format \"raw\" and template_file both say what a request's body is", "remove one of them")
	}
	switch c.Compression {
	case "none", "gzip":
	default:
		refuse("compression", fmt.Sprintf("compression %q is not known", c.Compression), `use "none" or "gzip"`)
	}
	if c.RequestTimeoutInMillis <= 0 {
		refuse("request_timeout_in_millis", fmt.Sprintf("request_timeout_in_millis must be at least 1, not %d", c.RequestTimeoutInMillis), "leave it out to use the default of 5000")
	}
	if c.IncludeTimingHeaders && (c.RejectionThresholdInMillis < 0 || c.RejectionThresholdInMillis >= c.RequestTimeoutInMillis) {
		refuse("rejection_threshold_in_millis", fmt.Sprintf("rejection_threshold_in_millis (%d) must lie between 0 and request_timeout_in_millis (%d)", c.RejectionThresholdInMillis, c.RequestTimeoutInMillis), "lower it, or raise request_timeout_in_millis")
	}
	for name, value := range c.Headers {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			refuse("headers", fmt.Sprintf("%q is not a valid HTTP header", name), "use letters, digits and dashes in names, and no line breaks in values")
		}
	}
	if !httpguts.ValidHeaderFieldValue(c.ContentType) {
		refuse("content_type", "content_type is not a valid header value", "remove line breaks and control characters")
	}
	ps = append(ps, c.validateAuth()...)
	if c.EnableTLS {
		ps = append(ps, tlsconfig.Settings{CertFile: c.CertFile, KeyFile: c.KeyFile}.Validate()...)
	}
	if c.ResponseRules != nil {
		for _, r := range c.ResponseRules.Rules {
			ps = append(ps, connector.Under("response_rules.rule", r.validate())...)
		}
	}
	return append(ps, c.validateBatching()...)
}

func (c Config) validateBatching() []connector.Problem {
	if c.Batching == nil {
		return nil
	}
	b := *c.Batching
	// max_message_bytes is capped at what fits a batch, so one above it is no mistake.
	b.MaxMessageBytes = min(b.MaxMessageBytes, b.MaxBatchBytes)
	ps := connector.Under("batching", b.Validate())
	if o := overhead(b.MaxBatchMessages, -1); len(ps) == 0 && c.TemplateFile == "" && c.BodyFormat != raw && b.MaxBatchBytes <= o {
		ps = append(ps, connector.Problem{Field: "batching.max_batch_bytes",
			What: fmt.Sprintf("max_batch_bytes (%d) leaves no room for messages beside the %d bytes of brackets and commas", b.MaxBatchBytes, o),
			Fix:  "raise max_batch_bytes or lower max_batch_messages"})
	}
	return ps
}

// validateAuth names what is wrong with the ways to authorize requests, of which there is one.
func (c Config) validateAuth() []connector.Problem {
	var ps []connector.Problem
	ways := 0
	if c.OAuth2ClientID != "" {
		ways++
		ps = append(ps, httpclient.CheckTokenURL("oauth2_token_url", c.OAuth2TokenURL)...)
	}
	if o := c.OAuthClient; o != nil {
		ways++
		ps = append(ps, connector.Under("oauth_client", o.Validate())...)
	}
	if j := c.OAuthJWT; j != nil {
		ways++
		ps = append(ps, connector.Under("oauth_jwt", j.Validate())...)
	}
	if ways > 1 {
		ps = append(ps, connector.Problem{What: "more than one way to get OAuth tokens is configured", Fix: "keep one of oauth_client, oauth_jwt and the oauth2_ options"})
	}
	if v := c.SigV4; v != nil {
		if ways > 0 || c.BasicAuthUsername != "" || c.BasicAuthPassword != "" {
			ps = append(ps, connector.Problem{Field: "sigv4", What: "sigv4 and another way to authorize requests are configured", Fix: "keep one of them"})
		}
		for field, value := range map[string]string{"region": v.Region, "service": v.Service, "access_key_id": v.AccessKeyID, "secret_access_key": v.SecretAccessKey} {
			if value == "" {
				ps = append(ps, connector.Problem{Field: "sigv4." + field, What: field + " is empty", Fix: "set it; check that its environment variable has a value"})
			}
		}
	}
	return ps
}

func (r Rule) validate() []connector.Problem {
	var ps []connector.Problem
	if _, ok := ruleKinds[r.Type]; !ok {
		ps = append(ps, connector.Problem{Field: "type",
			What: fmt.Sprintf("Invalid response rule type '%s'. Valid types are: 'invalid', 'setup', 'throttle', 'fatal'", r.Type),
			Fix:  "set type to one of them"})
	}
	for _, code := range r.HTTPCodes {
		switch {
		case code != 0 && (code < 100 || code > 599):
			ps = append(ps, connector.Problem{Field: "http_codes", What: fmt.Sprintf("%d is not an HTTP status code", code), Fix: "use codes from 100 to 599, or 0 for a request without a response"})
		case code >= 200 && code < 300 && r.Body == "":
			ps = append(ps, connector.Problem{Field: "body", What: "2XX response rule must have 'body' setting set", Fix: "set body to a text that only failed responses contain"})
		}
	}
	return ps
}
