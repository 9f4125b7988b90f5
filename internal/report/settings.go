package report

import (
	"time"
)

// Settings say what is reported, and where. What is nil is off.
type Settings struct {
	// Every is the time between two sends of metrics, and between two statistics log lines.
	Every time.Duration
	// EndToEnd measures the time since the collector had a Snowplow event, and Memory counts
	// what pipelines hold.
	EndToEnd, Memory bool

	Statsd   *Statsd
	Webhook  *Webhook
	Metadata *Metadata
	Sentry   *Sentry
}

// Statsd is a server that is sent metrics.
type Statsd struct {
	Address, Prefix string
	// Host is the value of the tag "host"; the host's name when empty.
	Host string
	Tags map[string]string
}

// Webhook is an endpoint of heartbeats, one each Heartbeat, and alerts.
type Webhook struct {
	Endpoint  string
	Tags      map[string]string
	Heartbeat time.Duration
}

// Metadata is an endpoint of counts.
type Metadata struct {
	Endpoint string
	Tags     map[string]string
}

// Sentry is a project of Sentry. Debug logs what is sent.
type Sentry struct {
	DSN   string
	Tags  map[string]string
	Debug bool
}
