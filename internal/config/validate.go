package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/spelling"
)

// The values of settings that have a fixed set of them.
var (
	logLevels      = []string{"debug", "info", "warning", "error", "fatal", "panic"}
	logFormats     = []string{"auto", "text", "json"}
	failureFormats = []string{"snowplow", "event_forwarding", "firehose"}
	statsReceivers = []string{"statsd"}
)

// problems collects what is wrong with a struct.
type problems []connector.Problem

func (ps *problems) add(field, what, fix string) {
	*ps = append(*ps, connector.Problem{Field: field, What: what, Fix: fix})
}

// leastMemory is the least memory that anything runs in.
const leastMemory = 64 << 20

// least requires a number to be at least minimum.
func (ps *problems) least(field string, minimum, n int, fix string) {
	if n < minimum {
		ps.add(field, fmt.Sprintf("%s must be at least %d, not %d", lastOf(field), minimum, n), fix)
	}
}

// most requires a number to be at most maximum.
func (ps *problems) most(field string, maximum, n int) {
	if n > maximum {
		ps.add(field, fmt.Sprintf("%s must be at most %d, not %d", lastOf(field), maximum, n), "write a smaller number")
	}
}

// oneOf requires text to be one of the values.
func (ps *problems) oneOf(field string, values []string, got, what string) {
	if slices.Contains(values, got) {
		return
	}
	fix := "write " + spelling.Or(values)
	if n := spelling.Nearest(got, values); n != "" {
		fix = fmt.Sprintf("write %q", n)
	}
	ps.add(field, what, fix)
}

func lastOf(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

// Most milliseconds and seconds that fit a time.Duration, rounded down to a day.
const (
	maxMillis  = 9_223_286_400_000
	maxSeconds = maxMillis / 1000
)

// Validate names each setting of p that could never work.
func (p *Pipeline) Validate() []connector.Problem {
	var ps problems
	ps.least("transform.worker_pool", 0, p.Transform.WorkerPool, "write 0 for one worker more than there are CPUs")
	ps.most("transform.worker_pool", 10000, p.Transform.WorkerPool)
	ps.oneOf("routing", routings, p.Routing, fmt.Sprintf("unknown routing: %s", p.Routing))
	if p.OnFailure != "" {
		ps.oneOf("on_failure", onFailures, p.OnFailure, fmt.Sprintf("unknown on_failure: %s", p.OnFailure))
	}
	ps.oneOf("failure_parser.format", failureFormats, p.FailureParser.Format,
		fmt.Sprintf("invalid failure format found; expected one of 'snowplow', 'event_forwarding', 'firehose' and got '%s'", p.FailureParser.Format))
	p.FailureTarget.validate(&ps)
	p.Retry.Transient.validate(&ps, "retry.transient")
	p.Retry.Setup.validate(&ps, "retry.setup")
	p.Retry.Throttle.validate(&ps, "retry.throttle")
	if t := p.Throttle; t != nil {
		if !(t.MessagesPerSecond > 0) || t.MessagesPerSecond > 1e9 {
			ps.add("throttle.messages_per_second", fmt.Sprintf("messages_per_second must be greater than 0 and at most 1000000000, not %v", t.MessagesPerSecond), "leave the throttle block out to write as fast as the target takes it")
		}
		ps.least("throttle.burst", 0, t.Burst, "leave it out for the messages of a second")
	}
	ps.least("drain_timeout_ms", 1, p.DrainTimeoutMillis, "leave it out for 30 seconds")
	ps.most("drain_timeout_ms", maxMillis, p.DrainTimeoutMillis)
	ps.least("finish_timeout_ms", 0, p.FinishTimeoutMillis, "write 0 for as long as it takes")
	ps.most("finish_timeout_ms", maxMillis, p.FinishTimeoutMillis)
	ps.least("in_flight.messages", 1, p.InFlight.Messages, "leave it out for 10000")
	ps.least("in_flight.bytes", 1, p.InFlight.Bytes, "leave it out for 67108864, which is 64 MiB")
	return ps
}

func (r *RetryPolicy) validate(ps *problems, at string) {
	ps.least(at+".delay_ms", 0, r.DelayMillis, "leave it out to use the default")
	ps.most(at+".delay_ms", maxMillis, r.DelayMillis)
	ps.least(at+".max_attempts", 0, r.MaxAttempts, "write 0 for no limit")
	ps.least(at+".max_delay_ms", 1, r.MaxDelayMillis, "leave it out to use the default")
	ps.most(at+".max_delay_ms", maxMillis, r.MaxDelayMillis)
	ps.least(at+".give_up_after_ms", 0, r.GiveUpAfterMillis, "write 0 for max_attempts alone to decide")
	ps.most(at+".give_up_after_ms", maxMillis, r.GiveUpAfterMillis)
}

// resolveRetry notes where when to give up is written. It lets delay_ms be greater than the
// default of max_delay_ms, as files written for Snowbridge may have it, and refuses a
// max_delay_ms below delay_ms.
func (d *document) resolveRetry(b *hclsyntax.Body, header hcl.Range, p *Pipeline) Diagnostics {
	var ds Diagnostics
	for name, r := range map[string]*RetryPolicy{"transient": p.Retry.Transient, "setup": p.Retry.Setup, "throttle": p.Retry.Throttle} {
		for _, option := range []string{"max_attempts", "give_up_after_ms"} {
			if _, written := locate(b, header, "retry."+name+"."+option); written != nil {
				r.Decided = true
			}
		}
		if r.MaxDelayMillis >= r.DelayMillis || r.MaxDelayMillis < 1 {
			continue
		}
		field := "retry." + name + ".max_delay_ms"
		if _, written := locate(b, header, field); written == nil {
			r.MaxDelayMillis = r.DelayMillis
			continue
		}
		ds = append(ds, d.problem(b, header, connector.Problem{Field: field,
			What: fmt.Sprintf("max_delay_ms (%d) must not be less than delay_ms (%d)", r.MaxDelayMillis, r.DelayMillis),
			Fix:  "raise max_delay_ms or lower delay_ms"}, d.hiddenValues(b)))
	}
	return ds
}

// Validate names each setting of p that could never work.
func (p *Process) Validate() []connector.Problem {
	var ps problems
	ps.oneOf("log_level", logLevels, p.LogLevel,
		fmt.Sprintf("supported log levels are 'debug, info, warning, error, fatal, panic'; provided %s", p.LogLevel))
	ps.oneOf("log_format", logFormats, p.LogFormat, fmt.Sprintf("unknown log format: %s", p.LogFormat))
	if p.MemoryLimitBytes != 0 {
		ps.least("memory_limit_bytes", leastMemory, p.MemoryLimitBytes, "leave it out for 85 % of the container's memory limit")
	}
	ps.least("max_in_flight_bytes", 1, p.MaxInFlightBytes, "leave it out for 536870912, which is 512 MiB")
	if p.Admin != nil {
		ps.address("admin.address", p.Admin.Address, "127.0.0.1:8080")
		p.Admin.validate(&ps)
	}
	if p.Sentry != nil {
		p.Sentry.validate(&ps)
	}
	if p.Tracing != nil {
		p.Tracing.validate(&ps)
	}
	if m := p.Metrics; m != nil && m.OTLP != nil {
		m.OTLP.validate(&ps)
	}
	ps.least("stats_receiver.buffer_sec", 1, p.StatsReceiver.BufferSec, "leave it out for 60 seconds")
	ps.most("stats_receiver.buffer_sec", maxSeconds, p.StatsReceiver.BufferSec)
	if m := p.Monitoring; m != nil && m.Webhook != nil {
		ps.endpoint("monitoring.webhook.endpoint", m.Webhook.Endpoint)
		ps.least("monitoring.webhook.heartbeat_interval_seconds", 1, m.Webhook.HeartbeatIntervalSeconds, "leave it out for 300 seconds")
		ps.most("monitoring.webhook.heartbeat_interval_seconds", maxSeconds, m.Webhook.HeartbeatIntervalSeconds)
	}
	if m := p.Monitoring; m != nil && m.MetadataReporter != nil {
		ps.endpoint("monitoring.metadata_reporter.endpoint", m.MetadataReporter.Endpoint)
	}
	return ps
}

func (s *Sentry) validate(ps *problems) {
	const fix = "copy the DSN from the project's client keys in Sentry"
	u, err := url.Parse(s.DSN)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		ps.add("sentry.dsn", "dsn is not a Sentry DSN: it is no http or https URL", fix)
	case u.User == nil || u.User.Username() == "":
		ps.add("sentry.dsn", "dsn is not a Sentry DSN: there is no public key before the host", fix)
	case strings.Trim(u.Path, "/") == "":
		ps.add("sentry.dsn", "dsn is not a Sentry DSN: there is no project at its end", fix)
	}
	if _, err := parseTags(s.Tags); err != nil {
		ps.add("sentry.tags", "failed to unmarshall SENTRY_TAGS to map: tags is not a JSON object of strings", tagsFix)
	}
}

const tagsFix = `write a JSON object of strings in a string: tags = "{\"name\":\"value\"}"`

// Validate names each setting of s that could never work.
func (s *Statsd) Validate() []connector.Problem {
	var ps problems
	ps.address("address", s.Address, "127.0.0.1:8125")
	if _, err := parseTags(s.Tags); err != nil {
		ps.add("tags", "tags is not a JSON object of strings", tagsFix)
	}
	return ps
}

// address requires "host:port" with a port in numbers.
func (ps *problems) address(field, got, example string) {
	_, port, err := net.SplitHostPort(got)
	if err == nil {
		if n, e := strconv.Atoi(port); e == nil && n >= 0 && n <= 65535 {
			return
		}
	}
	if got != "" && !strings.ContainsAny(got, ":/ ") { // a host alone
		_, port, _ = net.SplitHostPort(example)
		example = net.JoinHostPort(got, port)
	}
	ps.add(field, fmt.Sprintf("%s must be host:port, not %q", lastOf(field), got), fmt.Sprintf("write %s = %q", lastOf(field), example))
}

// endpoint requires a URL with a scheme and a host.
func (ps *problems) endpoint(field, got string) {
	u, err := url.Parse(got)
	if err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
		return
	}
	ps.add(field, fmt.Sprintf("invalid url for HTTP target: '%s'", got), `write the whole URL, with http:// or https:// and a host`)
}

// bindProcess completes the uses outside of pipelines.
func (d *document) bindProcess(p *Process) Diagnostics {
	var first hcl.Range // where the default store belongs, which no file wrote
	if len(d.files) > 0 {
		first = startOf(d.files[0].Name)
	}
	p.Store.Use.bind(d, KindStore, "store", "", 0, first)
	u := p.StatsReceiver.Use
	if u == nil {
		return nil
	}
	u.bind(d, KindStatsReceiver, "stats_receiver", "", 0, u.DefRange)
	if !slices.Contains(statsReceivers, u.Name) {
		return Diagnostics{d.errorAt(u.NameRange,
			fmt.Sprintf("Invalid stats receiver found; expected one of 'statsd' and got '%s'", u.Name), `write use "statsd" { ... }`)}
	}
	s := &Statsd{}
	s.SetDefaults()
	p.StatsReceiver.Statsd = s
	return u.Diagnose(u.Decode(s))
}

// bindPipeline completes the uses of p, whose blocks are b's.
func (d *document) bindPipeline(p *Pipeline, b *hclsyntax.Body, header hcl.Range) Diagnostics {
	p.Source.Use.bind(d, KindSource, "source", p.Name, 0, header)
	for i, u := range p.Transform.Use {
		u.bind(d, KindTransform, "transform", p.Name, i, header)
	}
	p.FailureTarget.Use.bind(d, KindTarget, "failure_target", p.Name, 0, header)
	p.FilterTarget.Use.bind(d, KindTarget, "filter_target", p.Name, 0, header)
	p.keepByDefault(b, header)
	return d.routes(p, b, header)
}

func (u *Use) bind(d *document, kind Kind, block, pipeline string, index int, fallback hcl.Range) {
	u.doc, u.Kind, u.Block, u.Pipeline, u.Index, u.fallback = d, kind, block, pipeline, index, fallback
}
