package webhook

import (
	"fmt"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/usertransform"
)

// Config is the target's HCL block.
type Config struct {
	// WorkspaceConfig is the path of the workspaceConfig.json with the destinations; the
	// same file as the gateway's. A change of the file counts within five seconds.
	WorkspaceConfig string `hcl:"workspace_config,optional"`
	// Workspace is the name of the workspace block with the destinations, in the
	// place of workspace_config.
	Workspace string `hcl:"workspace,optional"`
	// MaxConcurrentRequests is the most requests in progress at once for each destination,
	// so that one that hangs takes no place of another; 64 by default. Over all destinations
	// there are at most batching.max_concurrent_batches times batching.max_batch_messages.
	MaxConcurrentRequests int `hcl:"max_concurrent_requests,optional"`
	// RequestTimeoutMillis is the longest time, in milliseconds, a request may take from
	// connecting to the end of the answer; 10000 by default.
	RequestTimeoutMillis int `hcl:"request_timeout_millis,optional"`
	// UserAgent is the User-Agent header of every request; "RudderLabs" by default.
	UserAgent string `hcl:"user_agent,optional"`
	// Endpoints says which URLs an event may name for itself with "fullPath" and
	// "appendPath": "any" (default, as RudderStack does), "same_host" as the destination's
	// webhookUrl, or "none", which ignores both. Choose less than "any" when write keys are
	// in the hands of strangers.
	Endpoints string `hcl:"endpoints,optional"`
	// BlockPrivateNetworks refuses to connect to addresses that are not of the public
	// internet: loopback, private, link-local and reserved ones, and those that stand for one
	// of them (NAT64 and the like). No proxy is used then. Off by default.
	BlockPrivateNetworks bool `hcl:"block_private_networks,optional"`
	// Disabled is what becomes of events that wait for a destination when it is switched off in the
	// workspace config: "hold" (default) keeps them where they are until it is switched on again,
	// without an attempt; "drain" gives them up, as failures of code 410. New events are sent to
	// no destination that is off. With a queue as the source both count at once, also for events
	// that wait for their next attempt, and so it is with a destination that has left the config,
	// whose events are given up in any case. With a queue as the source, isolated by destination, held events
	// cost nothing; otherwise each is looked at again once a minute.
	Disabled string `hcl:"disabled,optional"`
	// Transformations says where the code of user transformations is, for events that could not
	// pass theirs in the transform fanout: they pass it here. The same as the fanout's. Without it
	// such events fail.
	Transformations *usertransform.Config `hcl:"transformations,block"`
	// ForceHTTP1 keeps to HTTP/1.1 over TLS; off by default.
	ForceHTTP1 bool `hcl:"force_http1,optional"`
	// Batching is how messages are handed to the target. Every message is a request of its
	// own, whatever the batch.
	Batching *connector.Batching `hcl:"batching,block"`
}

func defaults() Config {
	return Config{
		MaxConcurrentRequests: 64,
		RequestTimeoutMillis:  10000,
		UserAgent:             "RudderLabs",
		Endpoints:             endpointsAny,
		Disabled:              disabledHold,
		Batching: &connector.Batching{
			MaxBatchMessages:     64,
			MaxBatchBytes:        16 << 20,
			MaxMessageBytes:      4 << 20,
			MaxConcurrentBatches: 8,
			FlushPeriodMillis:    100,
		},
	}
}

const (
	endpointsAny  = "any"
	endpointsHost = "same_host"
	endpointsNone = "none"

	disabledHold  = "hold"
	disabledDrain = "drain"
)

// Validate names what could never work.
func (c Config) Validate() []connector.Problem {
	var ps []connector.Problem
	refuse := func(field, what, fix string) {
		ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix})
	}
	ps = append(ps, connector.NamesWorkspace(c.WorkspaceConfig, c.Workspace)...)
	if c.MaxConcurrentRequests <= 0 {
		refuse("max_concurrent_requests", fmt.Sprintf("max_concurrent_requests must be at least 1, not %d", c.MaxConcurrentRequests), "leave it out to use the default of 64")
	}
	if c.RequestTimeoutMillis <= 0 {
		refuse("request_timeout_millis", fmt.Sprintf("request_timeout_millis must be at least 1, not %d", c.RequestTimeoutMillis), "leave it out to use the default of 10000")
	}
	if !validHeader("User-Agent", c.UserAgent) {
		refuse("user_agent", "user_agent is not a valid header value", "remove line breaks and control characters")
	}
	if c.Disabled != disabledHold && c.Disabled != disabledDrain {
		refuse("disabled", fmt.Sprintf("there is no way to treat a disabled destination called %q", c.Disabled), `write "hold" or "drain"`)
	}
	switch c.Endpoints {
	case endpointsAny, endpointsHost, endpointsNone:
	default:
		refuse("endpoints", fmt.Sprintf("endpoints %q is not known", c.Endpoints), `use "any", "same_host" or "none"`)
	}
	if c.Transformations != nil {
		ps = append(ps, connector.Under("transformations", c.Transformations.Validate())...)
	}
	if c.Batching != nil {
		ps = append(ps, connector.Under("batching", c.Batching.Validate())...)
	}
	return ps
}
