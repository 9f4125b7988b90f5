package httpsource

import (
	"fmt"
	"net/http"

	"golang.org/x/net/http/httpguts"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/frontdoor"
	"github.com/weirdata/weir/internal/tlsconfig"
)

// Config is the source's HCL block.
type Config struct {
	// URL is the address to listen on, such as "0.0.0.0:8080"; port 0 takes a free one.
	URL string `hcl:"url"`
	// Path is where requests are accepted, as a ServeMux pattern; "/" (default) matches
	// every path.
	Path string `hcl:"path,optional"`
	// HostNames are the host names that requests are for, in lower case and without a port;
	// none, the default, stands for every one. Sources whose host_names or path differ may
	// share an address.
	HostNames []string `hcl:"host_names,optional"`
	// RequestBatchLimit is the most lines a request may hold; 50 by default.
	RequestBatchLimit int `hcl:"request_batch_limit,optional"`
	// MaxBodyBytes is the largest request body, in bytes, before and after
	// decompression; 16777216 (16 MiB) by default.
	MaxBodyBytes int `hcl:"max_body_bytes,optional"`
	// MaxLineBytes is the longest line, in bytes; 16777216 (16 MiB) by default.
	MaxLineBytes int `hcl:"max_line_bytes,optional"`
	// MaxBatchMessages is about how many messages of waiting requests are handed to the
	// pipeline together; a single request is never divided. 1000 by default.
	MaxBatchMessages int `hcl:"max_batch_messages,optional"`
	// MaxBatchBytes is about how many bytes of waiting requests are handed to the
	// pipeline together; 8388608 (8 MiB) by default.
	MaxBatchBytes int `hcl:"max_batch_bytes,optional"`
	// MaxInFlightRequests is the most requests whose events are not settled yet; more
	// are answered 503. 1000 by default.
	MaxInFlightRequests int `hcl:"max_in_flight_requests,optional"`
	// MaxInFlightBytes is the most bytes of request bodies held at once; more are
	// answered 503. 268435456 (256 MiB) by default.
	MaxInFlightBytes int `hcl:"max_in_flight_bytes,optional"`
	// MaxConnections is the most connections open at once; more wait to be accepted.
	// 10000 by default.
	MaxConnections int `hcl:"max_connections,optional"`
	// ResponseTimeoutMillis is the longest time, in milliseconds, a request waits for its
	// events to be settled before it is answered 503; 30000 by default. Its events may
	// still be delivered, and once more when the client repeats the request.
	ResponseTimeoutMillis int `hcl:"response_timeout_millis,optional"`
	// RetryAfterSeconds is the Retry-After header, in seconds, of every 503; 1 by default.
	RetryAfterSeconds int `hcl:"retry_after_seconds,optional"`
	// ReadHeaderTimeoutMillis is the longest time, in milliseconds, for the headers of a
	// request to arrive; 10000 by default.
	ReadHeaderTimeoutMillis int `hcl:"read_header_timeout_millis,optional"`
	// ReadTimeoutMillis is the longest time, in milliseconds, for the body of a request
	// to arrive; 60000 by default.
	ReadTimeoutMillis int `hcl:"read_timeout_millis,optional"`
	// IdleTimeoutMillis is how long, in milliseconds, a connection without requests stays
	// open; 120000 by default.
	IdleTimeoutMillis int `hcl:"idle_timeout_millis,optional"`

	// BasicAuthUsername is the user name that requests must carry; empty demands none.
	BasicAuthUsername string `hcl:"basic_auth_username,optional"`
	// BasicAuthPassword is the password that requests must carry.
	BasicAuthPassword string `hcl:"basic_auth_password,optional"`
	// BearerToken is the token that requests must carry; with basic_auth_username as
	// well, either is enough.
	BearerToken string `hcl:"bearer_token,optional"`

	// CertFile is the PEM file of the server's certificate; with key_file it turns TLS on.
	CertFile string `hcl:"cert_file,optional"`
	// KeyFile is the PEM file of the certificate's private key.
	KeyFile string `hcl:"key_file,optional"`
	// CAFile is a PEM file of authorities; clients must then present a certificate
	// signed by one of them.
	CAFile string `hcl:"ca_file,optional"`

	// ForwardHeaders names the request headers that become headers of each message; one that
	// repeats in the request repeats there.
	ForwardHeaders []string `hcl:"forward_headers,optional"`
}

func defaults() Config {
	return Config{
		Path:                    "/",
		RequestBatchLimit:       50,
		MaxBodyBytes:            16 << 20,
		MaxLineBytes:            16 << 20,
		MaxBatchMessages:        1000,
		MaxBatchBytes:           8 << 20,
		MaxInFlightRequests:     1000,
		MaxInFlightBytes:        256 << 20,
		MaxConnections:          10000,
		ResponseTimeoutMillis:   30000,
		RetryAfterSeconds:       1,
		ReadHeaderTimeoutMillis: 10000,
		ReadTimeoutMillis:       60000,
		IdleTimeoutMillis:       120000,
	}
}

// Validate names what could never work.
func (c Config) Validate() []connector.Problem {
	var ps []connector.Problem
	refuse := func(field, what, fix string) {
		ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix})
	}
	if err := frontdoor.CheckAddress(c.URL); err != nil {
		refuse("url", fmt.Sprintf("url %q is not an address to listen on: %v", c.URL, err), "write host and port without a scheme, such as 0.0.0.0:8080")
	}
	for _, name := range c.HostNames {
		if err := frontdoor.CheckHost(name); err != nil {
			refuse("host_names", fmt.Sprintf("host name %q cannot be served: %v", name, err), `write a name such as "events.example.com"`)
		}
	}
	if err := frontdoor.CheckPath(c.Path); err != nil {
		refuse("path", fmt.Sprintf("path %q cannot be served: %v", c.Path, err), `start it with a slash, such as "/events"`)
	}
	for _, n := range []struct {
		field string
		value int
	}{
		{"request_batch_limit", c.RequestBatchLimit},
		{"max_body_bytes", c.MaxBodyBytes},
		{"max_line_bytes", c.MaxLineBytes},
		{"max_batch_messages", c.MaxBatchMessages},
		{"max_batch_bytes", c.MaxBatchBytes},
		{"max_in_flight_requests", c.MaxInFlightRequests},
		{"max_in_flight_bytes", c.MaxInFlightBytes},
		{"max_connections", c.MaxConnections},
		{"response_timeout_millis", c.ResponseTimeoutMillis},
		{"retry_after_seconds", c.RetryAfterSeconds},
		{"read_header_timeout_millis", c.ReadHeaderTimeoutMillis},
		{"read_timeout_millis", c.ReadTimeoutMillis},
		{"idle_timeout_millis", c.IdleTimeoutMillis},
	} {
		if n.value <= 0 {
			refuse(n.field, fmt.Sprintf("%s must be at least 1, not %d", n.field, n.value), "leave it out to use the default")
		}
	}
	if c.MaxBodyBytes > 0 && c.MaxInFlightBytes > 0 && c.MaxInFlightBytes < c.MaxBodyBytes {
		refuse("max_in_flight_bytes", fmt.Sprintf("max_in_flight_bytes (%d) must not be less than max_body_bytes (%d)", c.MaxInFlightBytes, c.MaxBodyBytes), "raise max_in_flight_bytes or lower max_body_bytes")
	}
	if c.BasicAuthPassword != "" && c.BasicAuthUsername == "" {
		refuse("basic_auth_password", "basic_auth_password is set without basic_auth_username", "set basic_auth_username as well, or use bearer_token")
	}
	if c.BasicAuthUsername != "" && c.BasicAuthPassword == "" {
		refuse("basic_auth_username", "basic_auth_username is set without basic_auth_password", "set basic_auth_password; check that its environment variable has a value")
	}
	ps = append(ps, tlsconfig.Settings{CertFile: c.CertFile, KeyFile: c.KeyFile}.Validate()...)
	if c.CAFile != "" && c.CertFile == "" {
		refuse("ca_file", "ca_file is set without cert_file and key_file", "client certificates need TLS: set cert_file and key_file")
	}
	for _, name := range c.ForwardHeaders {
		switch canonical := http.CanonicalHeaderKey(name); {
		case !httpguts.ValidHeaderFieldName(name):
			refuse("forward_headers", fmt.Sprintf("%q is not a header name", name), "use letters, digits and dashes")
		case canonical == "Authorization" || canonical == "Proxy-Authorization" || canonical == "Cookie":
			refuse("forward_headers", fmt.Sprintf("%s would carry credentials into messages, logs and failure payloads", canonical), "remove it, and let clients send what is needed in another header")
		}
	}
	return ps
}
