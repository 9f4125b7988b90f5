package snowbridge

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/secret"
	"github.com/weirdata/weir/internal/spelling"
)

// environmentFile stands for the name of a file in diagnostics of a config that is
// environment variables.
const environmentFile = "(environment)"

// An environmentOption is an option that an environment variable sets.
type environmentOption struct {
	option, variable string
	kind             optionKind
}

// optionKind says how the value of a variable is written in a file.
type optionKind int

const (
	asText    optionKind = iota
	asNumber             // and true or false: without quotes
	asHeaders            // not at all, as a secret: the file reads the variable
)

// The options of each component, by the variables of Snowbridge 2.0 to 2.4.2. Those of
// a failure target have FAILURE_ before the name.
var (
	environmentSources = map[string][]environmentOption{
		"stdin": {},
		"kinesis": {
			{"stream_name", "SOURCE_KINESIS_STREAM_NAME", asText},
			{"region", "SOURCE_KINESIS_REGION", asText},
			{"app_name", "SOURCE_KINESIS_APP_NAME", asText},
			{"role_arn", "SOURCE_KINESIS_ROLE_ARN", asText},
			{"start_timestamp", "SOURCE_KINESIS_START_TIMESTAMP", asText},
			{"read_throttle_delay_ms", "SOURCE_KINESIS_READ_THROTTLE_DELAY_MS", asNumber},
			{"custom_aws_endpoint", "SOURCE_CUSTOM_AWS_ENDPOINT", asText},
			{"shard_check_freq_seconds", "SHARD_CHECK_FREQ_SECONDS", asNumber},
			{"leader_action_freq_seconds", "LEADER_ACTION_FREQ_SECONDS", asNumber},
		},
		"pubsub": {
			{"project_id", "SOURCE_PUBSUB_PROJECT_ID", asText},
			{"subscription_id", "SOURCE_PUBSUB_SUBSCRIPTION_ID", asText},
		},
		"sqs": {
			{"queue_name", "SOURCE_SQS_QUEUE_NAME", asText},
			{"region", "SOURCE_SQS_REGION", asText},
			{"role_arn", "SOURCE_SQS_ROLE_ARN", asText},
			{"custom_aws_endpoint", "SOURCE_CUSTOM_AWS_ENDPOINT", asText},
		},
		"kafka": {
			{"brokers", "SOURCE_KAFKA_BROKERS", asText},
			{"topic_name", "SOURCE_KAFKA_TOPIC_NAME", asText},
			{"consumer_name", "SOURCE_KAFKA_CONSUMER_NAME", asText},
			{"assignor", "SOURCE_KAFKA_ASSIGNOR", asText},
			{"target_version", "SOURCE_KAFKA_SOURCE_VERSION", asText},
			{"enable_sasl", "SOURCE_KAFKA_ENABLE_SASL", asNumber},
			{"sasl_username", "SOURCE_KAFKA_SASL_USERNAME", asText},
			{"sasl_password", "SOURCE_KAFKA_SASL_PASSWORD", asText},
			{"sasl_algorithm", "SOURCE_KAFKA_SASL_ALGORITHM", asText},
			{"cert_file", "SOURCE_KAFKA_TLS_CERT_FILE", asText},
			{"key_file", "SOURCE_KAFKA_TLS_KEY_FILE", asText},
			{"ca_file", "SOURCE_KAFKA_TLS_CA_FILE", asText},
			{"skip_verify_tls", "SOURCE_KAFKA_TLS_SKIP_VERIFY_TLS", asNumber},
		},
	}
	environmentTargets = map[string][]environmentOption{
		"stdout": {},
		"kinesis": {
			{"stream_name", "TARGET_KINESIS_STREAM_NAME", asText},
			{"region", "TARGET_KINESIS_REGION", asText},
			{"role_arn", "TARGET_KINESIS_ROLE_ARN", asText},
			{"request_max_messages", "TARGET_KINESIS_REQUEST_MAX_MESSAGES", asNumber},
			{"custom_aws_endpoint", "SOURCE_CUSTOM_AWS_ENDPOINT", asText}, // the variable of the source, here too
		},
		"pubsub": {
			{"project_id", "TARGET_PUBSUB_PROJECT_ID", asText},
			{"topic_name", "TARGET_PUBSUB_TOPIC_NAME", asText},
		},
		"sqs": {
			{"queue_name", "TARGET_SQS_QUEUE_NAME", asText},
			{"region", "TARGET_SQS_REGION", asText},
			{"role_arn", "TARGET_SQS_ROLE_ARN", asText},
			{"custom_aws_endpoint", "SOURCE_CUSTOM_AWS_ENDPOINT", asText},
		},
		"kafka": {
			{"brokers", "TARGET_KAFKA_BROKERS", asText},
			{"topic_name", "TARGET_KAFKA_TOPIC_NAME", asText},
			{"target_version", "TARGET_KAFKA_TARGET_VERSION", asText},
			{"max_retries", "TARGET_KAFKA_MAX_RETRIES", asNumber},
			{"byte_limit", "TARGET_KAFKA_BYTE_LIMIT", asNumber},
			{"compress", "TARGET_KAFKA_COMPRESS", asNumber},
			{"wait_for_all", "TARGET_KAFKA_WAIT_FOR_ALL", asNumber},
			{"idempotent", "TARGET_KAFKA_IDEMPOTENT", asNumber},
			{"enable_sasl", "TARGET_KAFKA_ENABLE_SASL", asNumber},
			{"sasl_username", "TARGET_KAFKA_SASL_USERNAME", asText},
			{"sasl_password", "TARGET_KAFKA_SASL_PASSWORD", asText},
			{"sasl_algorithm", "TARGET_KAFKA_SASL_ALGORITHM", asText},
			{"cert_file", "TARGET_KAFKA_TLS_CERT_FILE", asText},
			{"key_file", "TARGET_KAFKA_TLS_KEY_FILE", asText},
			{"ca_file", "TARGET_KAFKA_TLS_CA_FILE", asText},
			{"skip_verify_tls", "TARGET_KAFKA_TLS_SKIP_VERIFY_TLS", asNumber},
			{"force_sync_producer", "TARGET_KAFKA_FORCE_SYNC_PRODUCER", asNumber},
			{"flush_frequency", "TARGET_KAFKA_FLUSH_FREQUENCY", asNumber},
			{"flush_messages", "TARGET_KAFKA_FLUSH_MESSAGES", asNumber},
			{"flush_bytes", "TARGET_KAFKA_FLUSH_BYTES", asNumber},
		},
		"eventhub": {
			{"namespace", "TARGET_EVENTHUB_NAMESPACE", asText},
			{"name", "TARGET_EVENTHUB_NAME", asText},
			{"max_auto_retries", "TARGET_EVENTHUB_MAX_AUTO_RETRY", asNumber},
			{"message_byte_limit", "TARGET_EVENTHUB_MESSAGE_BYTE_LIMIT", asNumber},
			{"chunk_byte_limit", "TARGET_EVENTHUB_CHUNK_BYTE_LIMIT", asNumber},
			{"chunk_message_limit", "TARGET_EVENTHUB_CHUNK_MESSAGE_LIMIT", asNumber},
			{"context_timeout_in_seconds", "TARGET_EVENTHUB_CONTEXT_TIMEOUT_SECONDS", asNumber},
			{"batch_byte_limit", "TARGET_EVENTHUB_BATCH_BYTE_LIMIT", asNumber},
			{"set_eh_partition_key", "TARGET_EVENTHUB_SET_EH_PK", asNumber},
		},
		"http": {
			{"url", "TARGET_HTTP_URL", asText},
			{"byte_limit", "TARGET_HTTP_BYTE_LIMIT", asNumber},
			{"request_timeout_in_seconds", "TARGET_HTTP_TIMEOUT_IN_SECONDS", asNumber},
			{"content_type", "TARGET_HTTP_CONTENT_TYPE", asText},
			{"headers", "TARGET_HTTP_HEADERS", asHeaders},
			{"basic_auth_username", "TARGET_HTTP_BASICAUTH_USERNAME", asText},
			{"basic_auth_password", "TARGET_HTTP_BASICAUTH_PASSWORD", asText},
			{"cert_file", "TARGET_HTTP_TLS_CERT_FILE", asText},
			{"key_file", "TARGET_HTTP_TLS_KEY_FILE", asText},
			{"ca_file", "TARGET_HTTP_TLS_CA_FILE", asText},
			{"skip_verify_tls", "TARGET_HTTP_TLS_SKIP_VERIFY_TLS", asNumber},
			{"dynamic_headers", "TARGET_HTTP_DYNAMIC_HEADERS", asNumber},
			{"oauth2_client_id", "TARGET_HTTP_OAUTH2_CLIENT_ID", asText},
			{"oauth2_client_secret", "TARGET_HTTP_OAUTH2_CLIENT_SECRET", asText},
			{"oauth2_refresh_token", "TARGET_HTTP_OAUTH2_REFRESH_TOKEN", asText},
			{"oauth2_token_url", "TARGET_HTTP_OAUTH2_TOKEN_URL", asText},
		},
	}
)

// environmentStart are the variables that say by themselves that the config is the
// environment. Others have names that other programs use too.
var environmentStart = []string{"SOURCE_NAME", "TARGET_NAME", "FAILURE_TARGET_NAME", "STATS_RECEIVER_NAME", "TRANSFORM_CONFIG_B64"}

// FromEnvironment makes a config file, in the present form, of the variables that
// configured Snowbridge up to 2.4.2. It is nil when none of SOURCE_NAME, TARGET_NAME,
// FAILURE_TARGET_NAME, STATS_RECEIVER_NAME and TRANSFORM_CONFIG_B64 is set. Passwords,
// tokens and headers are not written: the file reads their variables. The diagnostics
// hold errors, when there is no file, and warnings.
func FromEnvironment(env func(name string) (string, bool)) ([]byte, config.Diagnostics) {
	e := environmentConfig{lookup: env}
	if e.started() == "" {
		return nil, nil
	}
	text := e.write()
	if e.ds.HasErrors() {
		return nil, e.ds
	}
	src, ds := convertFrom(environmentFile, []byte(text), "environment variables")
	if ds.HasErrors() {
		return nil, append(e.ds, nowhere(ds.Errors())...)
	}
	return hclwrite.Format(src), e.ds
}

// nowhere takes the places out of diagnostics about a text that no file holds.
func nowhere(ds config.Diagnostics) config.Diagnostics {
	var out config.Diagnostics
	for _, d := range ds {
		out = append(out, config.Diagnostic{Severity: d.Severity, What: d.What, Fix: d.Fix})
	}
	return out
}

// Environment is [FromEnvironment], with a warning that says how old this way is.
func (older) Environment(env func(name string) (string, bool)) (string, []byte, config.Diagnostics) {
	e := environmentConfig{lookup: env}
	by := e.started()
	if by == "" {
		return environmentFile, nil, nil
	}
	ds := config.Diagnostics{{Severity: config.Warning,
		What: fmt.Sprintf("no file is named and %s is set: the config is environment variables (the form from before Snowbridge 3.0.0)", by),
		Fix:  "write the file they stand for: weir convert --env > weir.hcl"}}
	src, more := FromEnvironment(env)
	return environmentFile, src, append(ds, more...)
}

// environmentConfig writes the file that environment variables stand for, in the form of
// Snowbridge 2.4.
type environmentConfig struct {
	lookup func(string) (string, bool)
	ds     config.Diagnostics
}

// get is the value of a variable; an empty one is as good as none.
func (e *environmentConfig) get(name string) string {
	v, _ := e.lookup(name)
	return v
}

// started is the first variable there is that says that the config is the environment.
func (e *environmentConfig) started() string {
	for _, name := range environmentStart {
		if e.get(name) != "" {
			return name
		}
	}
	return ""
}

func (e *environmentConfig) refuse(variable, what, fix string) {
	e.ds = append(e.ds, config.Diagnostic{Severity: config.Error, What: "environment variable " + variable + ": " + what, Fix: fix})
}

// write is the whole file.
func (e *environmentConfig) write() string {
	var blocks []string
	add := func(name string, lines []string) {
		if len(lines) > 0 {
			blocks = append(blocks, blockText(name, lines...))
		}
	}
	concurrency := environmentOption{"concurrent_writes", "SOURCE_CONCURRENT_WRITES", asNumber}
	add("source", e.use("SOURCE_NAME", "", "stdin", environmentSources, concurrency))
	if transforms := e.transforms(); transforms != "" {
		blocks = append(blocks, transforms)
	}
	add("target", e.use("TARGET_NAME", "", "stdout", environmentTargets))
	failure := e.use("FAILURE_TARGET_NAME", "FAILURE_", "stdout", environmentTargets)
	format := e.options("", []environmentOption{{"format", "FAILURE_TARGETS_FORMAT", asText}})
	if len(failure)+len(format) > 0 {
		if len(failure) == 0 {
			failure = []string{`use "stdout" {}`}
		}
		add("failure_target", append(failure, format...))
	}
	add("stats_receiver", append(
		e.use("STATS_RECEIVER_NAME", "", "", map[string][]environmentOption{"statsd": {
			{"address", "STATS_RECEIVER_STATSD_ADDRESS", asText},
			{"prefix", "STATS_RECEIVER_STATSD_PREFIX", asText},
			{"tags", "STATS_RECEIVER_STATSD_TAGS", asText},
		}}),
		e.options("", []environmentOption{
			{"timeout_sec", "STATS_RECEIVER_TIMEOUT_SEC", asNumber},
			{"buffer_sec", "STATS_RECEIVER_BUFFER_SEC", asNumber},
		})...))
	if e.get("SENTRY_DSN") != "" {
		add("sentry", e.options("", []environmentOption{
			{"dsn", "SENTRY_DSN", asText}, {"tags", "SENTRY_TAGS", asText}, {"debug", "SENTRY_DEBUG", asNumber},
		}))
	}
	blocks = append(blocks, e.options("", []environmentOption{
		{"log_level", "LOG_LEVEL", asText},
		{"user_provided_id", "USER_PROVIDED_ID", asText},
		{"disable_telemetry", "DISABLE_TELEMETRY", asNumber},
	})...)
	e.credentials()
	return strings.Join(blocks, "\n\n") + "\n"
}

// use is a use block, of the component that a variable names.
func (e *environmentConfig) use(variable, prefix, otherwise string, known map[string][]environmentOption, more ...environmentOption) []string {
	name := e.get(variable)
	if name == "" {
		name = otherwise
		if len(e.options(prefix, more)) == 0 {
			return nil
		}
	}
	options, ok := known[name]
	if !ok {
		e.refuse(variable, fmt.Sprintf("%q is none of the components that variables could name", name),
			"the names are "+spelling.Or(slices.Sorted(maps.Keys(known))))
		return nil
	}
	lines := e.options(prefix, append(slices.Clone(options), more...))
	header := fmt.Sprintf("use %q", name)
	if len(lines) == 0 {
		return []string{header + " {}"}
	}
	return []string{blockText(header, lines...)}
}

// options are lines for the variables that are set.
func (e *environmentConfig) options(prefix string, options []environmentOption) []string {
	var lines []string
	for _, o := range options {
		name := prefix + o.variable
		v := e.get(name)
		if v == "" {
			continue
		}
		text := string(hclwrite.TokensForValue(cty.StringVal(v)).Bytes())
		switch {
		case o.kind == asHeaders, secret.Name(o.option), secret.InURL(v):
			text = "env." + name
		case o.kind == asNumber:
			if _, err := strconv.ParseInt(v, 10, 64); err == nil && v[0] != '+' {
				text = v
			} else if b, err := strconv.ParseBool(v); err == nil {
				text = strconv.FormatBool(b)
			}
		}
		lines = append(lines, o.option+" = "+text)
	}
	return lines
}

// transforms are the blocks that TRANSFORM_CONFIG_B64 holds.
func (e *environmentConfig) transforms() string {
	const name = "TRANSFORM_CONFIG_B64"
	const fix = "encode a file that holds only transform blocks: base64 -w0 transforms.hcl"
	encoded := e.get(name)
	if encoded == "" {
		return ""
	}
	src, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		e.refuse(name, "is not base64", fix)
		return ""
	}
	f, ds := config.ParseSyntax("("+name+")", src)
	switch {
	case ds.HasErrors():
		e.ds = append(e.ds, ds...)
		return ""
	case !onlyTransforms(f.Body):
		e.refuse(name, "holds something else than transform blocks", fix)
		return ""
	}
	return strings.TrimSpace(string(bytes.TrimPrefix(src, byteOrderMark)))
}

// credentials says what to do with a variable that no option stands for.
func (e *environmentConfig) credentials() {
	const name = "GOOGLE_APPLICATION_CREDENTIALS_B64"
	if e.get(name) != "" && e.get("GOOGLE_APPLICATION_CREDENTIALS") == "" {
		e.ds = append(e.ds, config.Diagnostic{Severity: config.Warning, What: "environment variable " + name + " is not read",
			Fix: "write the decoded key to a file, and its path to GOOGLE_APPLICATION_CREDENTIALS"})
	}
}
