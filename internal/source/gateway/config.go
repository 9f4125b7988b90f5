package gatewaysource

import (
	"cmp"
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/frontdoor"
	"github.com/weirdata/weir/internal/gateway"
	"github.com/weirdata/weir/internal/tlsconfig"
)

// Config is the source's HCL block.
type Config struct {
	// WorkspaceConfig is the path of the workspaceConfig.json with the sources and their
	// write keys. A change of the file counts within five seconds.
	WorkspaceConfig string `hcl:"workspace_config,optional"`
	// Workspace is the name of the workspace block with the sources, in the
	// place of workspace_config.
	Workspace string `hcl:"workspace,optional"`
	// Address is the host and port to listen on; "0.0.0.0:8080" by default. Port 0 takes
	// a free one.
	Address string `hcl:"address,optional"`
	// HostNames are the host names that requests are for, in lower case and without a port;
	// none, the default, stands for every one. Gateways whose host_names differ may share an
	// address, and so may a gateway and a source "http" with a path of its own.
	HostNames []string `hcl:"host_names,optional"`

	// AllowedOrigins are the origins whose pages may use the gateway, as browsers name them:
	// "https://shop.example", or "https://*.shop.example" for every host below that. None, the
	// default, allows pages of every origin. It is the browser that keeps other pages out: requests
	// without an origin, and what a browser sends without asking first, are taken all the same.
	AllowedOrigins []string `hcl:"allowed_origins,optional"`
	// InternalEndpoints serves the paths below /internal: extract, retl, replay, audiencelist,
	// batch, and the status of job runs, where queues of the config count them. But for the first and
	// audiencelist they ask for no key, at most for the id of a source: turn them on where nobody outside
	// of your network reaches the address. Off by default.
	InternalEndpoints bool `hcl:"internal_endpoints,optional"`
	// RequireDestinationID refuses requests to /internal/v1/retl that do not say by
	// X-Rudder-Destination-Id which destination of the source they are for; off by default, when
	// such events go to all of them.
	RequireDestinationID bool `hcl:"require_destination_id,optional"`

	// Webhooks are the scripts of webhook sources. A request of which no events can be made is refused
	// and kept in the failure target; the transform "webhook" behind the gateway, with the same blocks,
	// makes events of it when it is sent again.
	Webhooks []*gateway.Webhook `hcl:"webhook,block"`

	// Suppression leaves out the events of users of whom nothing may be kept: their clients are told
	// that the events were taken. Which userId in which source, is on disk, and comes from one of a control
	// plane, a file, or requests.
	Suppression *Suppression `hcl:"suppression,block"`

	// MaxBodyBytes is the largest request body, in bytes, before and after decompression;
	// 4096000 (4000 KiB) by default. Larger ones are answered 413. Those of audiencelist may be larger:
	// a quarter of max_in_flight_bytes, and at most 16 MiB.
	MaxBodyBytes int `hcl:"max_body_bytes,optional"`
	// MaxRequestEvents is the most events one request may hold; 20000 by default. More are
	// answered 413.
	MaxRequestEvents int `hcl:"max_request_events,optional"`
	// MaxBatchMessages is about how many events of waiting requests are handed to the
	// pipeline together; a single request is never divided. 1000 by default.
	MaxBatchMessages int `hcl:"max_batch_messages,optional"`
	// MaxBatchBytes is about how many bytes of waiting requests are handed to the
	// pipeline together; 8388608 (8 MiB) by default.
	MaxBatchBytes int `hcl:"max_batch_bytes,optional"`
	// MaxInFlightRequests is the most requests whose events are not settled yet; more
	// are answered 503. 10000 by default.
	MaxInFlightRequests int `hcl:"max_in_flight_requests,optional"`
	// MaxInFlightBytes is the most bytes of request bodies and events held at once; more
	// are answered 503. 268435456 (256 MiB) by default.
	MaxInFlightBytes int `hcl:"max_in_flight_bytes,optional"`
	// MaxConnections is the most connections open at once; more wait to be accepted.
	// 20000 by default.
	MaxConnections int `hcl:"max_connections,optional"`
	// MaxHeaderBytes is the most bytes of a request's headers; 524288 (512 KiB) by default.
	MaxHeaderBytes int `hcl:"max_header_bytes,optional"`

	// ResponseTimeoutMillis is the longest time, in milliseconds, a request waits for its
	// events to be settled before it is answered 504; 10000 by default. Its events may
	// still be kept, and once more when the client repeats the request.
	ResponseTimeoutMillis int `hcl:"response_timeout_millis,optional"`
	// ReadTimeoutMillis is the longest time, in milliseconds, for a request to arrive;
	// 60000 by default.
	ReadTimeoutMillis int `hcl:"read_timeout_millis,optional"`
	// IdleTimeoutMillis is how long, in milliseconds, a connection without requests stays
	// open; 720000 by default.
	IdleTimeoutMillis int `hcl:"idle_timeout_millis,optional"`
	// RetryAfterSeconds is the Retry-After header, in seconds, of every 503 and 504; 1 by default.
	RetryAfterSeconds int `hcl:"retry_after_seconds,optional"`

	// RateLimitEvents is the most events a workspace may send in rate_limit_window_seconds;
	// more are answered 429, with the time until they may be sent in Retry-After. 0, the default, sets no
	// limit. Requests of a reverse-ETL run are not counted: those with X-Rudder-Job-Run-Id or
	// X-Rudder-Task-Run-Id, or whose first event has context.sources.job_run_id or task_run_id. With a store
	// in PostgreSQL the limit holds over all gateways that share it, which take from it in portions: each
	// may let in a portion more, a thirty-second of the burst or what may come in a quarter of a second. While
	// the store cannot be reached each lets in its share.
	RateLimitEvents int `hcl:"rate_limit_events,optional"`
	// RateLimitWindowSeconds is the time, in seconds, that rate_limit_events counts for;
	// 60 by default.
	RateLimitWindowSeconds int `hcl:"rate_limit_window_seconds,optional"`
	// RateLimitBurstEvents is how many of these events may come at once; as many as
	// rate_limit_events by default. A larger request is taken when nothing of the limit is used.
	RateLimitBurstEvents int `hcl:"rate_limit_burst_events,optional"`
	// WorkspaceRateLimits are the limits of single workspaces, in the place of the one for all.
	WorkspaceRateLimits []*WorkspaceRateLimit `hcl:"workspace_rate_limit,block"`
	// InternalRateLimitEvents is the most events a second that /internal/v1/batch takes, from all
	// together. 0, the default, sets no limit. A request that says by X-Batch-Size how many it has is
	// refused before it is read.
	InternalRateLimitEvents int `hcl:"internal_rate_limit_events,optional"`
	// AllowEventsWithoutIDs accepts events with neither userId nor anonymousId; off by default.
	AllowEventsWithoutIDs bool `hcl:"allow_events_without_ids,optional"`

	// CertFile is the PEM file of the server's certificate; with key_file it turns TLS on.
	CertFile string `hcl:"cert_file,optional"`
	// KeyFile is the PEM file of the certificate's private key.
	KeyFile string `hcl:"key_file,optional"`
	// CAFile is a PEM file of authorities; clients must then present a certificate
	// signed by one of them.
	CAFile string `hcl:"ca_file,optional"`
}

// WorkspaceRateLimit is the limit of one workspace.
type WorkspaceRateLimit struct {
	// The id of the workspace.
	Workspace string `hcl:"workspace,label"`
	// Most events in window_seconds; 0 sets no limit for the workspace.
	Events int `hcl:"events"`
	// The time, in seconds, that events counts for. Default: rate_limit_window_seconds.
	WindowSeconds int `hcl:"window_seconds,optional"`
	// How many of these events may come at once. Default: as many as events.
	BurstEvents int `hcl:"burst_events,optional"`
}

func defaults() Config {
	return Config{
		Address:                "0.0.0.0:8080",
		MaxBodyBytes:           4000 << 10,
		MaxRequestEvents:       20000,
		MaxBatchMessages:       1000,
		MaxBatchBytes:          8 << 20,
		MaxInFlightRequests:    10000,
		MaxInFlightBytes:       256 << 20,
		MaxConnections:         20000,
		MaxHeaderBytes:         512 << 10,
		ResponseTimeoutMillis:  10000,
		ReadTimeoutMillis:      60000,
		IdleTimeoutMillis:      720000,
		RetryAfterSeconds:      1,
		RateLimitWindowSeconds: 60,
	}
}

// Validate names what could never work.
func (c Config) Validate() []connector.Problem {
	var ps []connector.Problem
	refuse := func(field, what, fix string) {
		ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix})
	}
	ps = append(ps, connector.NamesWorkspace(c.WorkspaceConfig, c.Workspace)...)
	if err := frontdoor.CheckAddress(c.Address); err != nil {
		refuse("address", fmt.Sprintf("address %q is not an address to listen on: %v", c.Address, err), "write host and port without a scheme, such as 0.0.0.0:8080")
	}
	for _, name := range c.HostNames {
		if err := frontdoor.CheckHost(name); err != nil {
			refuse("host_names", fmt.Sprintf("host name %q cannot be served: %v", name, err), `write a name such as "events.example.com"`)
		}
	}
	for _, n := range []struct {
		field string
		value int
	}{
		{"max_body_bytes", c.MaxBodyBytes},
		{"max_request_events", c.MaxRequestEvents},
		{"max_batch_messages", c.MaxBatchMessages},
		{"max_batch_bytes", c.MaxBatchBytes},
		{"max_in_flight_requests", c.MaxInFlightRequests},
		{"max_in_flight_bytes", c.MaxInFlightBytes},
		{"max_connections", c.MaxConnections},
		{"max_header_bytes", c.MaxHeaderBytes},
		{"response_timeout_millis", c.ResponseTimeoutMillis},
		{"read_timeout_millis", c.ReadTimeoutMillis},
		{"idle_timeout_millis", c.IdleTimeoutMillis},
		{"retry_after_seconds", c.RetryAfterSeconds},
		{"rate_limit_window_seconds", c.RateLimitWindowSeconds},
	} {
		if n.value <= 0 {
			refuse(n.field, fmt.Sprintf("%s must be at least 1, not %d", n.field, n.value), "leave it out to use the default")
		}
	}
	ps = append(ps, gateway.CheckWebhooks(c.Webhooks)...)
	if c.Suppression != nil {
		ps = append(ps, connector.Under("suppression", c.Suppression.validate())...)
	}
	for _, origin := range c.AllowedOrigins {
		if err := gateway.CheckOrigin(origin); err != nil {
			refuse("allowed_origins", err.Error(), `write scheme and host as a browser sends them, such as "https://shop.example"`)
		}
	}
	for _, n := range []struct {
		field string
		value int
	}{
		{"rate_limit_burst_events", c.RateLimitBurstEvents},
		{"internal_rate_limit_events", c.InternalRateLimitEvents},
	} {
		if n.value < 0 {
			refuse(n.field, fmt.Sprintf("%s must not be negative, and is %d", n.field, n.value), "leave it out to use the default")
		}
	}
	named := map[string]bool{}
	for _, l := range c.WorkspaceRateLimits {
		at := fmt.Sprintf("workspace_rate_limit %q", l.Workspace)
		switch {
		case l.Workspace == "":
			refuse("workspace_rate_limit", at+" names no workspace", `write the workspace's id: workspace_rate_limit "ID" { ... }`)
		case named[l.Workspace]:
			refuse("workspace_rate_limit", at+" is there twice", "leave one of them")
		case l.Events < 0 || l.WindowSeconds < 0 || l.BurstEvents < 0:
			refuse("workspace_rate_limit", at+" has a number that is negative", "leave it out to use the default")
		}
		named[l.Workspace] = true
	}
	if c.RateLimitEvents < 0 {
		refuse("rate_limit_events", fmt.Sprintf("rate_limit_events must not be negative, and is %d", c.RateLimitEvents), "leave it out to set no limit")
	}
	if c.MaxBodyBytes > 0 && c.MaxInFlightBytes > 0 && c.MaxInFlightBytes/4 < c.MaxBodyBytes {
		refuse("max_in_flight_bytes", fmt.Sprintf("max_in_flight_bytes (%d) must be at least four times max_body_bytes (%d): a body, its unpacked form and its events are held at once", c.MaxInFlightBytes, c.MaxBodyBytes), "raise max_in_flight_bytes or lower max_body_bytes")
	}
	ps = append(ps, tlsconfig.Settings{CertFile: c.CertFile, KeyFile: c.KeyFile}.Validate()...)
	if c.CAFile != "" && c.CertFile == "" {
		refuse("ca_file", "ca_file is set without cert_file and key_file", "client certificates need TLS: set cert_file and key_file")
	}
	return ps
}

// limiters are those of workspaces, and of all events of /internal/v1/batch together.
func (c *Config) limiters() (workspaces, internal *limiter) {
	seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }
	of := map[string]rate{}
	for _, l := range c.WorkspaceRateLimits {
		of[l.Workspace] = rate{int64(l.Events), int64(cmp.Or(l.BurstEvents, l.Events)), seconds(cmp.Or(l.WindowSeconds, c.RateLimitWindowSeconds))}
	}
	every := rate{int64(c.RateLimitEvents), int64(cmp.Or(c.RateLimitBurstEvents, c.RateLimitEvents)), seconds(c.RateLimitWindowSeconds)}
	n := int64(c.InternalRateLimitEvents)
	return newLimiter(every, of), newLimiter(rate{n, n, time.Second}, nil)
}
