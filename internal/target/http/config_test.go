package httptarget

import (
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/httpclient"
)

var quiet = log.New(io.Discard, "", 0)

// decode reads the use block of a config text over the defaults.
func decode(t *testing.T, name, text string) Config {
	t.Helper()
	f, diags := hclsyntax.ParseConfig([]byte(text), name, hcl.InitialPos)
	var root struct {
		Target struct {
			Use struct {
				Name string   `hcl:"name,label"`
				Body hcl.Body `hcl:",remain"`
			} `hcl:"use,block"`
		} `hcl:"target,block"`
	}
	diags = append(diags, gohcl.DecodeBody(f.Body, nil, &root)...)
	c := Entry.Default().(*Config)
	diags = append(diags, gohcl.DecodeBody(root.Target.Use.Body, nil, c)...)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if root.Target.Use.Name != Entry.Name {
		t.Errorf("%s uses %q", name, root.Target.Use.Name)
	}
	return *c
}

func example(t *testing.T, name string) Config {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, name, string(text))
}

func TestMinimalExampleHasTheDefaults(t *testing.T) {
	t.Parallel()
	want := defaults()
	want.URL = "https://example.com/events"
	got := example(t, "examples_minimal.hcl")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if ps := got.Validate(); len(ps) > 0 {
		t.Error(ps)
	}
}

func TestFullExampleSetsEveryOption(t *testing.T) {
	t.Parallel()
	c := example(t, "examples_full.hcl")
	nonZero(t, "config", reflect.ValueOf(c))
	// It shows the ways to get a token side by side, which one config cannot have.
	var fields []string
	for _, p := range c.Validate() {
		fields = append(fields, p.Field)
	}
	if diff := cmp.Diff([]string{"oauth_jwt", "", "sigv4"}, fields); diff != "" {
		t.Error(diff)
	}
}

func nonZero(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			t.Errorf("%s is not set", path)
			return
		}
		nonZero(t, path, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			nonZero(t, path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case reflect.Slice, reflect.Map:
		if v.Len() == 0 {
			t.Errorf("%s is empty", path)
		}
	default:
		if v.IsZero() {
			t.Errorf("%s is zero", path)
		}
	}
}

func TestPartialBatchingKeepsTheOtherDefaults(t *testing.T) {
	t.Parallel()
	c := decode(t, "x.hcl", `target {
  use "http" {
    url = "http://localhost"
    batching { max_batch_bytes = 1000 }
  }
}`)
	if ps := c.Validate(); len(ps) > 0 {
		t.Errorf("max_batch_bytes below the default max_message_bytes is refused: %v", ps)
	}
	want := *defaults().Batching
	want.MaxBatchBytes = 1000
	if diff := cmp.Diff(want, *c.Batching); diff != "" {
		t.Error(diff)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		change      func(*Config)
		field, what string
	}{
		{func(c *Config) { c.URL = "user:pw@example" }, "url", "invalid url for HTTP target"},
		{func(c *Config) { c.URL = "ftp://x/y?secret" }, "url", "'ftp://x'"},
		{func(c *Config) { c.Method = "GET" }, "method", "GET"},
		{func(c *Config) { c.Compression = "br" }, "compression", "br"},
		{func(c *Config) { c.BodyFormat = "array" }, "body_format", "array"},
		{func(c *Config) { c.BodyFormat, c.TemplateFile = raw, "x" }, "body_format", "template_file"},
		{func(c *Config) { c.RequestTimeoutInMillis = 0 }, "request_timeout_in_millis", "at least 1"},
		{func(c *Config) { c.IncludeTimingHeaders, c.RejectionThresholdInMillis = true, 6000 }, "rejection_threshold_in_millis", "6000"},
		{func(c *Config) { c.Headers = map[string]string{"a b": "c"} }, "headers", "a b"},
		{func(c *Config) { c.ContentType = "a\nb" }, "content_type", "not a valid"},
		{func(c *Config) { c.EnableTLS, c.CertFile = true, "x" }, "cert_file", "without key_file"},
		{rules(Rule{Type: "x", HTTPCodes: []int{400}}), "response_rules.rule.type", "Invalid response rule type 'x'. Valid types are: 'invalid', 'setup'"},
		{rules(Rule{HTTPCodes: []int{400}}), "response_rules.rule.type", "Invalid response rule type ''"},
		{rules(Rule{Type: "setup", HTTPCodes: []int{201}}), "response_rules.rule.body", "2XX response rule must have 'body' setting set"},
		{rules(Rule{Type: "setup", HTTPCodes: []int{4000}}), "response_rules.rule.http_codes", "4000"},
		{func(c *Config) { c.Batching.MaxBatchMessages = 0 }, "batching.max_batch_messages", "at least 1"},
		{func(c *Config) { c.Batching.MaxBatchBytes = 51 }, "batching.max_batch_bytes", "leaves no room"},
		{func(c *Config) { c.OAuth2ClientID = "x" }, "oauth2_token_url", "token endpoint"},
		{func(c *Config) { c.OAuthClient = &httpclient.OAuthClient{TokenURL: "http://x"} }, "oauth_client.client_id", "empty"},
		{func(c *Config) {
			c.SigV4 = &SigV4{Region: "r", Service: "s", AccessKeyID: "a", SecretAccessKey: "b"}
			c.BasicAuthUsername = "u"
		}, "sigv4", "another way"},
		{func(c *Config) { c.SigV4 = &SigV4{Region: "r", Service: "s", AccessKeyID: "a"} }, "sigv4.secret_access_key", "empty"},
		{func(c *Config) { c.OAuthJWT = &httpclient.OAuthJWT{TokenURL: "http://x"} }, "oauth_jwt", "one of private_key"},
		{func(c *Config) {
			c.OAuth2ClientID, c.OAuth2TokenURL = "x", "http://x"
			c.OAuthClient = &httpclient.OAuthClient{ClientID: "x", TokenURL: "http://x"}
		}, "", "more than one way"},
	} {
		c := defaults()
		c.URL = "http://localhost"
		tc.change(&c)
		ps := c.Validate()
		if len(ps) != 1 || ps[0].Field != tc.field || !strings.Contains(ps[0].What, tc.what) || ps[0].Fix == "" {
			t.Errorf("%s %s: got %+v", tc.field, tc.what, ps)
		}
		if _, err := New(context.Background(), connector.Deps{}, c); fault.Of(err) != fault.Setup {
			t.Errorf("%s %s: New says %v", tc.field, tc.what, err)
		}
	}
}

func TestNewReportsItsFiles(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.TemplateFile = "/absent" }, "read template_file"},
		{func(c *Config) { c.TemplateFile = writeTemplate(t, "{{nope}}") }, "parse template_file"},
		{func(c *Config) {
			c.TemplateFile, c.Batching.MaxBatchBytes = writeTemplate(t, strings.Repeat("x", 200)), 200
		}, "Template must be smaller"},
		{func(c *Config) { c.EnableTLS, c.CAFile = true, "/absent" }, "read ca_file"},
	} {
		c := defaults()
		c.URL = "http://localhost"
		tc.change(&c)
		if _, err := New(context.Background(), connector.Deps{}, c); err == nil || !strings.Contains(err.Error(), tc.want) || fault.Of(err) != fault.Setup {
			t.Errorf("want %q, got %v", tc.want, err)
		}
	}
}

func TestSettingsWithoutEffectAreNamed(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := defaults()
	c.URL, c.SkipVerifyTLS, c.Headers = "http://localhost", true, map[string]string{"host": "x"}
	rules(Rule{Type: "setup"})(&c)
	if _, err := New(context.Background(), connector.Deps{Log: slog.New(slog.NewTextHandler(&out, nil))}, c); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"enable_tls", "Host header", "without http_codes"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no warning about %s in %s", want, &out)
		}
	}
}

func TestLifeCycle(t *testing.T) {
	t.Parallel()
	c := defaults()
	c.URL = "http://localhost:1"
	target, err := Entry.Build(context.Background(), connector.Deps{}, func(into any) error { *into.(*Config) = c; return nil })
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := target.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}
