// Package config reads the HCL files that say what Weir runs.
//
// # Format
//
// A config is one or more files of HCL native syntax, read as one. Top-level blocks
// source, transform, target, failure_target, filter_target, failure_parser and retry
// are the pipeline "default", which is Snowbridge's file format; a block
// pipeline "name" { ... } holds the same blocks for one more pipeline. The other
// top-level names are settings of the whole process. A component is chosen by
// use "name" { ... }; the body of a use stays undecoded until its connector asks for
// it with [Use.Decode], because only the connector knows its struct.
//
// Expressions may read the environment: env.NAME (a missing name is an error), env("NAME")
// (a missing name is the empty string) and env("NAME", "otherwise") (what a missing or empty
// one stands for); file("PATH") is the text of a file, without the end of its last line, as it
// is when the config is read. What they hold may be encoded: base64decode gives the text of a
// base64 text, jsondecode the value of a JSON text, and an empty map of an empty text. Nothing
// else is in scope.
//
// # Older forms
//
// This package knows the present form only. Where [Options.Older] is set, it turns each
// file's older forms into present ones before anything else looks at the syntax tree, and
// may make a file of environment variables when none is named. Package config/snowbridge
// is the one for Snowbridge's.
//
// # Stages
//
// parse each file -> rewrite older forms, each with one warning -> merge -> check
// against the Go structs -> decode with gohcl -> validate. Every stage works on the
// syntax tree, so every finding has a place. The checking stage finds all mistakes that
// gohcl would find, in source order and in words for users; gohcl only sets values.
//
// # Invariants
//
//   - Parse never panics: it returns a Config or at least one error diagnostic.
//   - Diagnostics are sorted by place, and the same input gives the same text.
//   - No diagnostic shows a value that came from the environment or another file, or that package secret
//     says is a secret: by its name, or as the part of a URL behind the host.
//   - A partial block keeps the defaults of what it leaves out.
//
// A new top-level block (store, queue, machine, ...) is one more field of [Process]
// with its struct, defaults and Validate; nothing else needs to know of it.
package config

import (
	"encoding/json"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/meter"
)

// defaultStore is the store of a config that names none.
const defaultStore = "embedded"

// DefaultPipeline is the name of the pipeline made of the top-level blocks.
const DefaultPipeline = meter.Unnamed

// Config is what one or more config files say, with defaults filled in.
type Config struct {
	// Pipelines holds the pipeline "default" first, where there is one, and then the
	// named pipelines in the order of the files.
	Pipelines []*Pipeline
	Process

	// Files are the names of the files read, in reading order; empty for the built-in
	// default config.
	Files []string
	// Dir is the directory of the first file; "" when there is none.
	Dir string
	// Empty says that no pipeline is written: there is only the built-in one, from stdin to
	// stdout.
	Empty bool

	doc *document
}

// Lone reports whether the pipeline of the top level is the only one.
func (c *Config) Lone() bool { return len(c.Pipelines) == 1 && c.Pipelines[0].Name == DefaultPipeline }

// Pipeline returns the pipeline with the given name.
func (c *Config) Pipeline(name string) (*Pipeline, bool) {
	for _, p := range c.Pipelines {
		if p.Name == name {
			return p, true
		}
	}
	return nil, false
}

// Pipeline is one source, a chain of transforms and one target or several, with what happens
// to messages that fail or are filtered out.
type Pipeline struct {
	// Name of the pipeline, for logs, metrics and commands. Letters, digits, "_", "-"
	// and "."; at most 64 characters. The top-level blocks are the pipeline "default".
	Name string `hcl:"name,label"`
	// Where messages come from. Default: the source "stdin".
	Source *Source `hcl:"source,block"`
	// What is done to each message, in the order of the use blocks. Default: nothing.
	Transform *Transform `hcl:"transform,block"`
	// Where messages go. Repeat it to send messages to several targets, each on its own:
	// one that is slow or fails is tried again by itself. In a pipeline fed by a queue,
	// where a target has used up its attempts, the message is delivered again to all of
	// them: give a target that may be down for long a queue of its own. Default: the target
	// "stdout".
	Targets []*Route `hcl:"target,block"`
	// Which targets a message goes to when there are several: "all" whose condition when
	// holds, or the "first" of them. Default: "all".
	Routing string `hcl:"routing,optional"`
	// Where messages go that are invalid or too large, wrapped by failure_parser. Any
	// target will do. Default: where the source is a queue, they stay there, dead (see keep);
	// otherwise the target "stdout".
	FailureTarget *FailureTarget `hcl:"failure_target,block"`
	// Where messages go that a filter took out. Any target will do. Default: the
	// target "silent", which drops them.
	FilterTarget *Target `hcl:"filter_target,block"`
	// Where messages go as they were read, beside what becomes of them. Any target will do.
	// Default: nowhere.
	BackupTarget *BackupTarget `hcl:"backup_target,block"`
	// How a failed message is wrapped for the failure target.
	FailureParser *FailureParser `hcl:"failure_parser,block"`
	// How often, and how long apart, a failed write is tried again.
	Retry *Retry `hcl:"retry,block"`
	// How fast the targets are written to. Default: as fast as they take it.
	Throttle *Throttle `hcl:"throttle,block"`
	// Longest time, in milliseconds, to finish work in progress after a stop signal.
	// What is not finished by then is delivered again after the next start. At least 1.
	DrainTimeoutMillis int `hcl:"drain_timeout_ms,optional"`
	// Whether messages with the same key must reach the target in the order they were
	// read. Costs concurrency: each key is written by one writer at a time.
	Ordered bool `hcl:"ordered,optional"`
	// Bounds of what the pipeline holds between its source and its target.
	InFlight *InFlight `hcl:"in_flight,block"`
	// What it means for the process when the pipeline fails, because a target's attempts are
	// used up or nothing can be read: "restart" starts it again, after a wait that grows to a
	// minute, and it is degraded until then; "end" ends this pipeline, and the process with an
	// error once the others have ended; "exit" drains the others and ends the process.
	// Default: "exit" for the pipeline of the top level, if it is the only one; "end" where the
	// source comes to an end by itself; otherwise "restart". Sources connect again in any case.
	OnFailure string `hcl:"on_failure,optional"`
	// Where the source ends with what feeds it, as a queue with stop_when_empty does: longest
	// time, in milliseconds, for which the pipeline goes on once nothing more comes, while its
	// queue does not become emptier. It ends with an error then, which says how many messages
	// are left; they stay in the queue for the next start. 0, the default: for as long as it
	// takes.
	FinishTimeoutMillis int `hcl:"finish_timeout_ms,optional"`

	dir        string
	named      bool // it is in a block of its own
	failuresOf *Pipeline
	overflow   *Use // see [Pipeline.Overflow]
	bare       bool // it is in no block of its own, as in a config of Snowbridge, and there is no store
	doc        *document
	header     hcl.Range
	body       *hclsyntax.Body
}

// What the failure of a pipeline may mean; see [Pipeline.OnFailure].
const (
	FailureRestart = "restart"
	FailureEnd     = "end"
	FailureExit    = "exit"
)

// DrainTimeout is DrainTimeoutMillis as a duration.
func (p *Pipeline) DrainTimeout() time.Duration { return millis(p.DrainTimeoutMillis) }

// FinishTimeout is FinishTimeoutMillis as a duration.
func (p *Pipeline) FinishTimeout() time.Duration { return millis(p.FinishTimeoutMillis) }

// Diagnose makes a diagnostic at one of p's attributes, or at p when field is not written.
func (p *Pipeline) Diagnose(field, what, fix string) Diagnostic {
	return p.doc.problem(p.body, p.header, connector.Problem{Field: field, What: what, Fix: fix}, p.doc.hiddenValues(p.body))
}

// Dir is the directory of the file the pipeline is in; "" for the built-in default.
func (p *Pipeline) Dir() string { return p.dir }

// Uses lists the components of p that a connector decodes, in the order they are built:
// source, transforms, targets, filter target, backup target, if there is one, failure target, if failures
// go to one.
func (p *Pipeline) Uses() []*Use {
	us := []*Use{p.Source.Use}
	us = append(us, p.Transform.Use...)
	for _, r := range p.Targets {
		us = append(us, r.Use)
	}
	us = append(us, p.FilterTarget.Use)
	if p.BackupTarget != nil && p.BackupTarget.Use != nil {
		us = append(us, p.BackupTarget.Use)
	}
	if p.FailureTarget.Keep {
		return us
	}
	return append(us, p.FailureTarget.Use)
}

// Source is where a pipeline's messages come from.
type Source struct {
	// The source and its options.
	Use *Use `hcl:"use,block"`
}

// Transform is what a pipeline does to each message.
type Transform struct {
	// A transform and its options. Repeat it to chain transforms: they run in the order
	// they are written, and the same one may appear more than once.
	Use []*Use `hcl:"use,block"`
	// Number of workers that transform messages in parallel; 0 means one more than the
	// number of CPUs the process may use.
	WorkerPool int `hcl:"worker_pool,optional"`
}

// Target is where failed or filtered messages go, or what a function writes to.
type Target struct {
	// The target and its options.
	Use *Use `hcl:"use,block"`
}

// FailureParser says how a failed message is wrapped for the failure target.
type FailureParser struct {
	// The form of a failed message: "snowplow" writes Snowplow bad rows,
	// "event_forwarding" writes event forwarding errors, "firehose" lines as Amazon Data Firehose
	// puts them into objects below its error prefix.
	Format string `hcl:"format,optional"`
}

// Throttle bounds how fast a pipeline's targets are written to, each attempt counted; of a
// pipeline with isolation, each value for itself. Where the source is a queue, messages that
// may not leave yet wait there; otherwise the writers wait.
type Throttle struct {
	// Messages a second, evenly spaced. Greater than 0; less than 1 is a message every few
	// seconds.
	MessagesPerSecond float64 `hcl:"messages_per_second"`
	// Messages that may leave at once after a pause. Default: those of a second, at least 1.
	Burst int `hcl:"burst,optional"`
}

// InFlight bounds what a pipeline holds between its source and its target.
type InFlight struct {
	// Most messages read and not settled yet. Default: 10000, or one for each 64 KiB of the memory
	// limit where that is less, but 1000. At least 1.
	Messages int `hcl:"messages,optional"`
	// Most payload bytes read and not settled yet. Default: 67108864, which is 64 MiB, or an
	// eighth of the memory limit where that is less; at least 1.
	Bytes int `hcl:"bytes,optional"`
}

// Defaults that are less where there is a memory limit.
const (
	DefaultInFlightMessages = 10_000
	DefaultInFlightBytes    = 64 << 20
	DefaultMaxInFlightBytes = 512 << 20
)

// Process holds the settings of the whole process.
type Process struct {
	// Least severe level that is logged: "debug", "info", "warning", "error", "fatal" or
	// "panic".
	LogLevel string `hcl:"log_level,optional"`
	// Form of log lines: "text", "json", or "auto" for text on a terminal and JSON
	// otherwise.
	LogFormat string `hcl:"log_format,optional"`
	// Most payload bytes that all pipelines together have read and not settled, above the
	// in_flight of each. A pipeline, or a value of an isolated one, that holds nothing may
	// always read one message. Default: 536870912, which is 512 MiB, or a quarter of the memory
	// limit where that is less; at least 1.
	MaxInFlightBytes int `hcl:"max_in_flight_bytes,optional"`
	// Most memory that the process takes for itself, in bytes, beside what the kernel keeps for its
	// files. Default: 85 % of the memory limit of the container (cgroup version 1 or 2), none
	// without one; the environment variable GOMEMLIMIT comes first. Caches and what is in flight
	// keep to their parts of it, and near it sources wait and callers are answered 503. At least
	// 67108864, which is 64 MiB.
	MemoryLimitBytes int `hcl:"memory_limit_bytes,optional"`
	// The HTTP server for health, readiness, metrics and profiles. Off when left out.
	Admin *Admin `hcl:"admin,block"`
	// Where queues are kept. Default, where a queue is declared: the store "embedded".
	Store *Store `hcl:"store,block"`
	// The durable queues that pipelines write to and read from.
	Queues []*Queue `hcl:"queue,block"`
	// Collects customer events and routes them to the destinations of their sources: what a
	// gateway, a processor and a router do, as three pipelines with queues between them.
	Collects []*Collect `hcl:"collect,block"`
	// Workspace configurations that connectors use by their names.
	Workspaces []*Workspace `hcl:"workspace,block"`
	// The state machines that pipelines start executions of. They need a store, as queues do.
	Machines []*Machine `hcl:"machine,block"`
	// The functions that machines call.
	Functions []*Function `hcl:"function,block"`
	// Reports errors to Sentry. Off when left out.
	Sentry *Sentry `hcl:"sentry,block"`
	// Exports OpenTelemetry traces of messages. Off when left out.
	Tracing *Tracing `hcl:"tracing,block"`
	// Sends metrics to a statsd server, and sets how often the log has a summary.
	StatsReceiver *StatsReceiver `hcl:"stats_receiver,block"`
	// Metrics that cost something and are off by default, and the export of all metrics.
	Metrics *Metrics `hcl:"metrics,block"`
	// Tells other systems by HTTP how the process is doing. Off when left out.
	Monitoring *Monitoring `hcl:"monitoring,block"`
	// Acceptance of a licence, which Snowbridge asks for. Read and not needed.
	License *License `hcl:"license,block"`
	// A name of yours for this installation, sent with telemetry where that is on.
	UserProvidedID string `hcl:"user_provided_id,optional"`
	// Turns telemetry off.
	DisableTelemetry bool `hcl:"disable_telemetry,optional"`
}

// Store is where queues are kept.
type Store struct {
	// The store and its options.
	Use *Use `hcl:"use,block"`
}

// Sentry reports errors to Sentry.
type Sentry struct {
	// The project's client key URL, as Sentry shows it.
	DSN string `hcl:"dsn"`
	// Tags sent with each event, as a JSON object of strings in a string:
	// "{\"team\":\"data\"}".
	Tags string `hcl:"tags,optional"`
	// Logs what the Sentry client does.
	Debug bool `hcl:"debug,optional"`
}

// TagMap is Tags parsed; a Config that loaded without errors has tags that parse.
func (s *Sentry) TagMap() map[string]string { m, _ := parseTags(s.Tags); return m }

// SetDefaults sets what a sentry block need not say.
func (s *Sentry) SetDefaults() { s.Tags = "{}" }

// StatsReceiver is where metrics are sent.
type StatsReceiver struct {
	// The receiver and its options; "statsd" is the only one. No metrics are sent when
	// left out.
	Use *Use `hcl:"use,block"`
	// Seconds between two sends of metrics, and between two summary lines in the log, which
	// tell what changed and are left out when nothing did. At least 1.
	BufferSec int `hcl:"buffer_sec,optional"`
	// Read and ignored, as in Snowbridge since 5.1.1: statsd is sent by UDP, which has
	// nothing to wait for.
	TimeoutSec int `hcl:"timeout_sec,optional"`

	// Statsd is the decoded use "statsd" block; nil when there is none.
	Statsd *Statsd
}

// Buffer is BufferSec as a duration.
func (s *StatsReceiver) Buffer() time.Duration { return time.Duration(s.BufferSec) * time.Second }

// Statsd sends metrics to a statsd server by UDP.
type Statsd struct {
	// Address of the server, as "host:port".
	Address string `hcl:"address"`
	// What every metric's name starts with.
	Prefix string `hcl:"prefix,optional"`
	// Tags sent with each metric, as a JSON object of strings in a string:
	// "{\"env\":\"prod\"}".
	Tags string `hcl:"tags,optional"`
	// Value of the tag "host", which is the host name when left out. In Kubernetes that is
	// the pod's name, new with each pod: set something that stays, to keep the number of
	// series small.
	HostTag string `hcl:"host_tag,optional"`
}

// SetDefaults sets what a use "statsd" block need not say.
func (s *Statsd) SetDefaults() { s.Prefix, s.Tags = "snowplow.snowbridge", "{}" }

// TagMap is Tags parsed; a Config that loaded without errors has tags that parse.
func (s *Statsd) TagMap() map[string]string { m, _ := parseTags(s.Tags); return m }

// Metrics turns on metrics that cost something, and their export.
type Metrics struct {
	// Measures the time from the collector's timestamp of Snowplow events to delivery.
	// Messages that are no Snowplow events are left out, with a warning.
	E2ELatency bool `hcl:"enable_e2e_latency,optional"`
	// Reports how many messages, and payload bytes, each pipeline holds in memory, under
	// Snowbridge's names kinsumer_records_in_memory and kinsumer_records_in_memory_bytes.
	KinsumerMemory bool `hcl:"enable_kinsumer_memory_metrics,optional"`
	// Exports the metrics that the admin server shows to an OpenTelemetry collector, with or
	// without that server. Off when left out.
	OTLP *MetricsExport `hcl:"otlp,block"`
}

// Monitoring tells other systems by HTTP how the process is doing.
type Monitoring struct {
	// Sends a heartbeat while all is well, and an alert when somebody must change
	// something or a pipeline stops with an error.
	Webhook *Webhook `hcl:"webhook,block"`
	// Sends counts of delivered, filtered and failed messages, and their errors, for each
	// pipeline. Pipelines with a name carry it in the tag "pipeline", or "pipeline_name"
	// where tags has a "pipeline" already.
	MetadataReporter *MetadataReporter `hcl:"metadata_reporter,block"`
}

// Webhook sends heartbeats and alerts.
type Webhook struct {
	// URL that is sent a POST request for each heartbeat and alert.
	Endpoint string `hcl:"endpoint"`
	// Tags sent with each request.
	Tags map[string]string `hcl:"tags,optional"`
	// Seconds between two heartbeats, and between two alerts for the same error. At
	// least 1.
	HeartbeatIntervalSeconds int `hcl:"heartbeat_interval_seconds,optional"`
}

// SetDefaults sets what a webhook block need not say.
func (w *Webhook) SetDefaults() { w.HeartbeatIntervalSeconds = 300 }

// Heartbeat is HeartbeatIntervalSeconds as a duration.
func (w *Webhook) Heartbeat() time.Duration {
	return time.Duration(w.HeartbeatIntervalSeconds) * time.Second
}

// MetadataReporter sends counts of messages.
type MetadataReporter struct {
	// URL that is sent a POST request each stats_receiver.buffer_sec seconds.
	Endpoint string `hcl:"endpoint"`
	// Tags sent with each request.
	Tags map[string]string `hcl:"tags,optional"`
}

// License is Snowbridge's licence gate.
type License struct {
	// Whether the Snowplow Limited Use License is accepted. Weir does not ask for it.
	Accept bool `hcl:"accept,optional"`
}

// SetDefaults sets what a pipeline need not say; they are Snowbridge's, and ours where
// Snowbridge has no such setting.
func (p *Pipeline) SetDefaults() {
	p.Source = &Source{Use: &Use{Name: "stdin"}}
	p.Transform = &Transform{}
	p.Targets = []*Route{{Use: &Use{Name: "stdout"}}}
	p.Routing = RouteAll
	p.FailureTarget = &FailureTarget{Use: &Use{Name: "stdout"}}
	p.FilterTarget = &Target{Use: &Use{Name: "silent"}}
	p.FailureParser = &FailureParser{Format: "snowplow"}
	p.Retry = &Retry{
		Transient: retryAfter(1000),
		Setup:     retryAfter(20000),
		Throttle:  retryAfter(10000),
	}
	p.DrainTimeoutMillis = 30000
	p.InFlight = &InFlight{Messages: DefaultInFlightMessages, Bytes: DefaultInFlightBytes}
}

// SetDefaults sets what a config need not say about the process.
func (p *Process) SetDefaults() {
	p.LogLevel, p.LogFormat = "info", "auto"
	p.MaxInFlightBytes = DefaultMaxInFlightBytes
	p.Store = &Store{Use: &Use{Name: defaultStore}}
	p.StatsReceiver = &StatsReceiver{BufferSec: 60}
	p.Metrics = &Metrics{}
	p.License = &License{}
}

func millis(n int) time.Duration { return time.Duration(n) * time.Millisecond }

func parseTags(s string) (map[string]string, error) {
	var m map[string]string
	err := json.Unmarshal([]byte(s), &m)
	return m, err
}
