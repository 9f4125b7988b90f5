package config_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/config/snowbridge"
	"github.com/weirdata/weir/internal/connector"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// golden compares got with a file, or writes the file with -update.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run the test with -update to write it)", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// The environment of the tests.
var environment = map[string]string{
	"BROKERS":      "b1:9092,b2:9092",
	"BATCH":        "250",
	"TLS":          "true",
	"PASSWORD":     "hunter2-from-env",
	"NOT_A_NUMBER": "seventeen",
	"ZERO":         "0",
	"REGION":       "mars-north-1",
	"URL":          "ftp://user:hunter2-in-url@example.com/x",
}

func lookup(name string) (string, bool) {
	v, ok := environment[name]
	return v, ok
}

var known = config.Known{
	Sources:    []string{"stdin", "kafka", "http"},
	Transforms: []string{"js", "base64Decode", "spEnrichedFilter"},
	Targets:    []string{"stdout", "silent", "kafka", "http"},
	Stores:     []string{"embedded", "postgres"},
}

type empty struct{}

type kafkaTarget struct {
	Brokers  string              `hcl:"brokers"`
	Topic    string              `hcl:"topic_name"`
	Password string              `hcl:"sasl_password,optional"`
	TLS      bool                `hcl:"enable_tls,optional"`
	Acks     int8                `hcl:"acks,optional"`
	Ratio    float64             `hcl:"ratio,optional"`
	Region   string              `hcl:"region,optional"`
	Topics   []string            `hcl:"topics,optional"`
	Batching *connector.Batching `hcl:"batching,block"`
}

func (k *kafkaTarget) Validate() []connector.Problem {
	ps := connector.Under("batching", k.Batching.Validate())
	if k.Region != "" && k.Region != "eu-west-1" {
		ps = append(ps, connector.Problem{Field: "region", What: "unknown region " + k.Region, Fix: "write eu-west-1"})
	}
	if k.Password == "bad" || k.Password == environment["PASSWORD"] {
		ps = append(ps, connector.Problem{Field: "sasl_password", What: "password " + k.Password + " is too weak", Fix: "not " + k.Password})
	}
	return ps
}

func newKafkaTarget() *kafkaTarget {
	return &kafkaTarget{Acks: -1, Batching: &connector.Batching{
		MaxBatchMessages: 100, MaxBatchBytes: 1048576, MaxMessageBytes: 1048576,
		MaxConcurrentBatches: 5, FlushPeriodMillis: 200,
	}}
}

type httpTarget struct {
	URL     string            `hcl:"url"`
	Headers map[string]string `hcl:"headers,optional"`
	Rules   *responseRules    `hcl:"response_rules,block"`
	OAuth   *oauthClient      `hcl:"oauth_client,block"`
	Shared  sharedTLS         `hcl:",remain"`
}

type sharedTLS struct {
	CAFile string `hcl:"ca_file,optional"`
}

type responseRules struct {
	Rules []*responseRule `hcl:"rule,block"`
}

type responseRule struct {
	Type  string `hcl:"type"`
	Codes []int  `hcl:"http_codes,optional"`
	Body  string `hcl:"body,optional"`
}

func (r *responseRule) SetDefaults() { r.Codes = []int{500} }

type oauthClient struct {
	ClientID string `hcl:"client_id"`
	TokenURL string `hcl:"token_url,optional"`
}

func (o *oauthClient) SetDefaults() { o.TokenURL = "https://login.example/token" }

func (h *httpTarget) Validate() []connector.Problem {
	var ps []connector.Problem
	if h.Rules != nil {
		for i, r := range h.Rules.Rules {
			if r.Type != "setup" && r.Type != "invalid" {
				field := []string{"response_rules.rule[0].type", "response_rules.rule.1.type"}[min(i, 1)]
				ps = append(ps, connector.Problem{Field: field, What: "unknown rule type " + r.Type, Fix: "write setup or invalid"})
			}
		}
	}
	if h.Headers["accept"] == "nothing" {
		ps = append(ps, connector.Problem{Field: "headers.accept", What: "accept cannot be nothing", Fix: "leave it out"})
	}
	return ps
}

type jsTransform struct {
	Script     string `hcl:"script,optional"`
	ScriptPath string `hcl:"script_path,optional"`
	TimeoutMS  int    `hcl:"timeout_ms,optional"`
}

func (j *jsTransform) Validate() []connector.Problem {
	if j.Script == "" && j.ScriptPath == "" {
		return []connector.Problem{{What: "js needs a script", Fix: `add script_path = "script.js"`}}
	}
	return nil
}

type filterTransform struct {
	AtomicField string `hcl:"atomic_field"`
	Regex       string `hcl:"regex"`
	Action      string `hcl:"filter_action"`
}

// fixture is the config struct, with defaults, of a component in the tests.
func fixture(u *config.Use) any {
	switch string(u.Kind) + " " + u.Name {
	case "target kafka", "source kafka":
		return newKafkaTarget()
	case "target http":
		return &httpTarget{}
	case "transform js":
		return &jsTransform{TimeoutMS: 15}
	case "transform spEnrichedFilter":
		return &filterTransform{}
	}
	return &empty{}
}

// load reads a config and decodes every component in it, as the engine's assembly does.
func load(files []config.File) (*config.Config, []any, config.Diagnostics) {
	c, ds := config.ParseFiles(files, config.Options{Env: lookup, Known: known, Older: snowbridge.Older})
	if ds.HasErrors() {
		return nil, nil, ds
	}
	var decoded []any
	for _, p := range c.Pipelines {
		for _, u := range p.Uses() {
			into := fixture(u)
			if err := u.Decode(into); err != nil {
				ds = append(ds, u.Diagnose(err)...)
			}
			decoded = append(decoded, into)
		}
	}
	return c, decoded, ds
}

// fuzzSeeds are the good and bad configs.
func fuzzSeeds(tb testing.TB) [][]byte {
	tb.Helper()
	var seeds [][]byte
	for _, pattern := range []string{"testdata/*.hcl", "testdata/bad/*.hcl", "testdata/*/*.hcl", "testdata/bad/*/*.hcl"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			tb.Fatal(err)
		}
		for _, p := range paths {
			src, err := os.ReadFile(p)
			if err != nil {
				tb.Fatal(err)
			}
			seeds = append(seeds, src)
		}
	}
	return seeds
}
