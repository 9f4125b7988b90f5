package snowbridge

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/weirdata/weir/internal/config"
)

// variables reads the environment of a fixture: NAME=value, a line each.
func variables(t *testing.T, path string) map[string]string {
	t.Helper()
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for line := range strings.Lines(string(src)) {
		if name, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			env[name] = v
		}
	}
	return env
}

func lookupIn(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}
}

// TestFromEnvironment holds each NAME.env against the file it stands for, NAME.hcl, and
// what users are told, NAME.txt.
func TestFromEnvironment(t *testing.T) {
	t.Parallel()
	paths, _ := filepath.Glob("testdata/environment/*.env")
	if len(paths) < 4 {
		t.Fatalf("%d fixtures", len(paths))
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			env := variables(t, path)
			cfg, ds := config.Load(nil, config.Options{Older: Older, Env: lookupIn(env)})
			compareFile(t, strings.TrimSuffix(path, ".env")+".txt", []byte(ds.Text()))
			src, more := FromEnvironment(lookupIn(env))
			if strings.Contains(string(src)+ds.Text()+more.Text(), "s3cret") {
				t.Errorf("a secret is shown:\n%s%s", src, ds.Text())
			}
			if (cfg == nil) != ds.HasErrors() {
				t.Fatalf("config %v with\n%s", cfg, ds.Text())
			}
			if strings.Contains(path, ".bad.") {
				if !ds.HasErrors() {
					t.Error("it is accepted")
				}
				return
			}
			if ds.HasErrors() || len(cfg.Files) > 0 || cfg.Dir != "" {
				t.Fatalf("refused, or of the files %q:\n%s", cfg.Files, ds.Text())
			}
			compareFile(t, strings.TrimSuffix(path, ".env")+".hcl", src)
			if again, warnings := Convert("x.hcl", src); !bytes.Equal(again, src) || len(warnings) > 0 {
				t.Errorf("the file is not in the present form:\n%s\n%s", again, warnings.Text())
			}
			if _, ds := config.ParseFiles([]config.File{{Name: "x.hcl", Src: src}}, config.Options{Older: Older, Env: lookupIn(env)}); len(ds) > 0 {
				t.Errorf("the file is not read in silence:\n%s", ds.Text())
			}
		})
	}
}

// TestEnvironmentVariablesAreAllRead sets every variable there is, of each component.
func TestEnvironmentVariablesAreAllRead(t *testing.T) {
	t.Parallel()
	count := map[string]bool{}
	try := func(name, prefix, component string, options []environmentOption) {
		env := map[string]string{name: component}
		for i, o := range options {
			v := fmt.Sprintf("value-%d", i)
			if o.kind == asNumber {
				v = fmt.Sprint(1000 + i)
			}
			if o.option == "headers" {
				v = `{"a":"b"}`
			}
			env[prefix+o.variable] = v
			count[prefix+o.variable] = true
		}
		e := environmentConfig{lookup: lookupIn(env)}
		text := e.write()
		for variable, v := range env {
			if !strings.Contains(text, v) && !strings.Contains(text, "env."+variable) {
				t.Errorf("%s is not in the file:\n%s", variable, text)
			}
		}
		if _, ds := FromEnvironment(lookupIn(env)); ds.HasErrors() {
			t.Errorf("%s %s: %s", name, component, ds.Text())
		}
	}
	for component, options := range environmentSources {
		try("SOURCE_NAME", "", component, options)
	}
	for component, options := range environmentTargets {
		try("TARGET_NAME", "", component, options)
		try("FAILURE_TARGET_NAME", "FAILURE_", component, options)
	}
	if len(count) < 90 {
		t.Errorf("%d variables, want at least 90", len(count))
	}
}

func TestEnvironmentOfOthersIsNoConfig(t *testing.T) {
	t.Parallel()
	env := map[string]string{"LOG_LEVEL": "debug", "SENTRY_DSN": "https://x@sentry.io/1", "SOURCE_NAME": ""}
	cfg, ds := config.Load(nil, config.Options{Older: Older, Env: lookupIn(env)})
	if len(ds) > 0 || cfg.LogLevel != "info" || cfg.Sentry != nil {
		t.Errorf("%+v\n%s", cfg, ds.Text())
	}
}

// TestMigratingIsGenerated holds docs/migrating.md against the dialects.
func TestMigratingIsGenerated(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(migratingStart)
	for _, d := range Dialects() {
		fmt.Fprintf(&b, "### %s (before %s)\n\n", strings.ToUpper(d.Name[:1])+d.Name[1:], d.Since)
		if d.Note != "" {
			fmt.Fprintf(&b, "%s\n\n", d.Note)
		}
		fmt.Fprintf(&b, "```hcl\n%s```\n\nis today\n\n```hcl\n%s```\n\n", d.Old, d.New)
	}
	b.WriteString(migratingEnvironment)
	writeVariables(&b, "SOURCE_NAME", environmentSources)
	writeVariables(&b, "TARGET_NAME", environmentTargets)
	b.WriteString(migratingEnd)
	compareFile(t, "../../../docs/migrating.md", []byte(b.String()))
}

func writeVariables(b *strings.Builder, variable string, components map[string][]environmentOption) {
	fmt.Fprintf(b, "| `%s` | variable | option |\n| --- | --- | --- |\n", variable)
	for _, name := range slices.Sorted(maps.Keys(components)) {
		if len(components[name]) == 0 {
			fmt.Fprintf(b, "| `%s` | | |\n", name)
		}
		for _, o := range components[name] {
			fmt.Fprintf(b, "| `%s` | `%s` | `%s` |\n", name, o.variable, o.option)
		}
	}
	b.WriteString("\n")
}

// broken reports whether a component in a config that is read has a value that cannot be
// evaluated, which only its connector would find.
func broken(src []byte) bool {
	c, _ := config.ParseFiles([]config.File{{Name: "x.hcl", Src: src}}, config.Options{Older: Older, Env: dialectLookup})
	found := false
	for _, p := range c.Pipelines {
		for _, u := range p.Uses() {
			body, ok := u.Body.(*hclsyntax.Body)
			if !ok {
				continue
			}
			visitAttributes(body, func(a *hclsyntax.Attribute) {
				_, ds := u.Evaluate(a.Expr)
				found = found || ds.HasErrors()
			})
		}
	}
	return found
}

func visitAttributes(b *hclsyntax.Body, fn func(*hclsyntax.Attribute)) {
	for _, a := range b.Attributes {
		fn(a)
	}
	for _, block := range b.Blocks {
		visitAttributes(block.Body, fn)
	}
}

const migratingStart = `<!-- Written by the tests of internal/config/snowbridge from its dialects: go test ./internal/config/snowbridge -update -->

# Migrating from Snowbridge

A config file of Snowbridge 2.0 to 5.2 runs as it is, and so does one with the blocks that 6.0
announces:

    weir check snowbridge.hcl
    weir run snowbridge.hcl

` + "`SNOWBRIDGE_CONFIG_FILE`" + ` names the file when the command line does not. No licence is asked for:
` + "`license { accept = true }`" + ` is read, and not needed.

An older form gives one warning, with its place and what to write instead. To have it written:

    weir convert snowbridge.hcl        # prints the file in the present form
    weir convert -w snowbridge.hcl     # changes the file
    weir convert --env > weir.hcl      # the file that environment variables stand for

The converted file means what the old one does, keeps its comments, and converting it again changes
nothing. Options that are left out have the defaults of Snowbridge 5.1, whatever the age of the file.

What Snowbridge accepts and then stops at is refused by ` + "`weir check`" + `, with the reason: periods and
intervals of 0 (` + "`flush_period_millis`, `buffer_sec`, `heartbeat_interval_seconds`" + `), no writers at all
(` + "`max_concurrent_batches = 0`" + `), and empty batches (` + "`max_batch_messages = 0`" + `).

## Relative paths

A relative path in a config file means from the directory of that file, whatever the working
directory: scripts, templates, certificates, the store, position files and what is written.
Snowbridge took the working directory. A file that is there only is not taken in silence: the
config is refused, with the whole path to write. Where the config is environment variables, there
is no file, and the working directory counts.

## The log

Snowbridge's line of statistics, which begins with TargetResults and comes each buffer_sec seconds,
is logged at level debug. At level info one summary tells what changed, and nothing where nothing did.

## Sources and targets

The options that each release had for these blocks are checked as they are, and written and read with by tests
(` + "`TestSnowbridgeStreams`" + `, ` + "`TestSnowbridgeGuardedKafka`" + `, ` + "`TestSnowbridgeGuardedHTTP`" + `, ` + "`TestSnowbridgeLocalBlocks`" + `), but for those that need more than
the engine has:

| block | in the forms of | run against | only checked here |
| --- | --- | --- | --- |
| ` + "`kafka`" + `, source and target | 1.0 and 2.2, 3.0, 5.0 | Apache Kafka, open and with SASL and certificates | |
| ` + "`kinesis`" + `, source and target | 2.0, 5.0 | moto: streams, tables of leases, roles | |
| ` + "`sqs`" + `, source and target | 2.0, 5.0 | moto, with roles | |
| ` + "`pubsub`" + `, source and target | 1.0, 3.0, 5.0 | Google's fake | ` + "`credentials_path`" + ` |
| ` + "`eventhub`" + `, target | 1.0, 2.0, 5.0 | a stand-in | keys and Microsoft Entra ID in the environment |
| ` + "`http`" + `, target | 1.0, 3.3, 5.0 | a server that wants certificates, with OAuth 2 | |
| ` + "`http`" + `, source | 3.0, 5.0 | requests | |
| ` + "`stdin`" + ` and ` + "`stdout`" + ` | 1.0, 5.0 | | |

## The files in its repository

The public repository of Snowbridge has had 270 configuration files, of its pages, examples and tests. Of the 267 that
were tried, in one version each and with the files and variables that they name, 203 pass ` + "`weir check`" + `. The others
are refused where the mistake is:

| files | what is refused |
| --- | --- |
| 40 | forms from between releases, that no release is known to have: certificates as text (` + "`tls_cert`" + `, ` + "`tls_key`" + `, ` + "`tls_ca`" + `), options of the source in a ` + "`target`" + ` for Kafka, ` + "`shard_check_frequency`" + `, ` + "`monitoring`" + ` without ` + "`webhook`" + `, ` + "`timeout_sec`" + ` and ` + "`hash`" + ` without a method in ` + "`jq`" + `, rotation of the target ` + "`file`" + `, blocks called ` + "`engine`" + `, ` + "`field`" + ` of a filter, ` + "`rabbitmq`" + `, ` + "`pulsar`" + `, ` + "`response_handler`" + ` and the transforms from and to Thrift |
| 8 | what its own tests expect to be refused, or have made up: ` + "`fakeHCL`" + `, ` + "`mock`" + ` |
| 8 | values that cannot work: ` + "`testUrl`" + ` as a URL, ` + "`testDsn`" + ` or a URL without a key as a DSN of Sentry, a statsd address without a port |
| 6 | slips of the pen: ` + "`custom_aws_edpoint`" + `, a block that is never closed |
| 2 | look-ahead in the regular expression of a [filter](#filters-before-200) |

## Older forms

`

const migratingEnvironment = `## Environment variables alone (before 3.0.0)

Snowbridge up to 2.4.2 could be configured by environment variables, without a file. They are read
when no file is named and one of ` + "`SOURCE_NAME`, `TARGET_NAME`, `FAILURE_TARGET_NAME`, `STATS_RECEIVER_NAME`" + `
and ` + "`TRANSFORM_CONFIG_B64`" + ` is set. ` + "`weir convert --env`" + ` prints the file they stand for; passwords, tokens
and headers are not written into it: the file reads their variables.

| variable | what it sets |
| --- | --- |
| ` + "`TRANSFORM_CONFIG_B64`" + ` | a file of ` + "`transform`" + ` blocks, in base64 |
| ` + "`SOURCE_CONCURRENT_WRITES`" + ` | ` + "`transform.worker_pool`" + ` and ` + "`batching.max_concurrent_batches`" + ` of the target |
| ` + "`FAILURE_TARGET_NAME`" + ` | the failure target; its options are those of a target, with ` + "`FAILURE_`" + ` before the variable |
| ` + "`FAILURE_TARGETS_FORMAT`" + ` | ` + "`failure_parser.format`" + ` |
| ` + "`STATS_RECEIVER_NAME`" + ` | ` + "`statsd`" + `, with ` + "`STATS_RECEIVER_STATSD_ADDRESS`, `_PREFIX`, `_TAGS`" + ` |
| ` + "`STATS_RECEIVER_BUFFER_SEC`" + ` | ` + "`stats_receiver.buffer_sec`" + ` |
| ` + "`SENTRY_DSN`, `SENTRY_TAGS`, `SENTRY_DEBUG`" + ` | the block ` + "`sentry`" + ` |
| ` + "`LOG_LEVEL`, `USER_PROVIDED_ID`, `DISABLE_TELEMETRY`" + ` | the options of these names |

`

const migratingEnd = `## What stays as it is

` + "`oauth2_client_id`, `oauth2_client_secret`, `oauth2_refresh_token` and `oauth2_token_url`" + ` of ` + "`http`" + ` are read
beside the blocks ` + "`oauth_client` and `oauth_jwt`" + ` of 6.0, and so is the transform ` + "`lua`" + `, with
` + "`snowplow_mode`" + `, which Snowbridge removed.
`
