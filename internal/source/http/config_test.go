package httpsource

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
)

func example(t *testing.T, name string) Config {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	f, diags := hclsyntax.ParseConfig(text, name, hcl.InitialPos)
	var root struct {
		Source struct {
			Use struct {
				Name string   `hcl:"name,label"`
				Body hcl.Body `hcl:",remain"`
			} `hcl:"use,block"`
		} `hcl:"source,block"`
	}
	diags = append(diags, gohcl.DecodeBody(f.Body, nil, &root)...)
	c := Entry.Default().(*Config)
	diags = append(diags, gohcl.DecodeBody(root.Source.Use.Body, nil, c)...)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if root.Source.Use.Name != Entry.Name {
		t.Errorf("%s uses %q", name, root.Source.Use.Name)
	}
	return *c
}

func TestExamples(t *testing.T) {
	t.Parallel()
	want := defaults()
	want.URL = "0.0.0.0:8080"
	minimal := example(t, "examples_minimal.hcl")
	if diff := cmp.Diff(want, minimal); diff != "" {
		t.Error(diff)
	}
	full := example(t, "examples_full.hcl")
	for v, i := reflect.ValueOf(full), 0; i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("examples_full.hcl leaves %s out", v.Type().Field(i).Name)
		}
		if d := reflect.ValueOf(defaults()).Field(i); !d.IsZero() && reflect.DeepEqual(d.Interface(), v.Field(i).Interface()) {
			t.Errorf("examples_full.hcl shows only the default of %s", v.Type().Field(i).Name)
		}
	}
	for _, c := range []Config{minimal, full} {
		if ps := c.Validate(); len(ps) > 0 {
			t.Error(ps)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		change      func(*Config)
		field, what string
	}{
		{func(c *Config) { c.URL = "http://localhost:80" }, "url", "scheme"},
		{func(c *Config) { c.URL = "localhost" }, "url", "missing port"},
		{func(c *Config) { c.URL = "localhost:99999" }, "url", "not a port"},
		{func(c *Config) { c.Path = "events" }, "path", "slash"},
		{func(c *Config) { c.Path = "/a/{" }, "path", "cannot be served"},
		{func(c *Config) { c.RequestBatchLimit = 0 }, "request_batch_limit", "at least 1"},
		{func(c *Config) { c.MaxInFlightBytes = 10 }, "max_in_flight_bytes", "max_body_bytes"},
		{func(c *Config) { c.BasicAuthPassword = "x" }, "basic_auth_password", "without"},
		{func(c *Config) { c.BasicAuthUsername = "x" }, "basic_auth_username", "without"},
		{func(c *Config) { c.CertFile = "x" }, "cert_file", "without key_file"},
		{func(c *Config) { c.CAFile = "x" }, "ca_file", "without cert_file"},
		{func(c *Config) { c.ForwardHeaders = []string{"a b"} }, "forward_headers", "a b"},
		{func(c *Config) { c.ForwardHeaders = []string{"authorization"} }, "forward_headers", "credentials"},
	} {
		c := defaults()
		c.URL = "127.0.0.1:0"
		tc.change(&c)
		ps := c.Validate()
		if len(ps) != 1 || ps[0].Field != tc.field || !strings.Contains(ps[0].What, tc.what) || ps[0].Fix == "" {
			t.Errorf("%s: got %+v", tc.field, ps)
		}
		if _, err := New(context.Background(), connector.Deps{}, c); fault.Of(err) != fault.Setup {
			t.Errorf("%s: New says %v", tc.field, err)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, b []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	p := start(t, func(c *Config) {
		c.CertFile, c.KeyFile = write("server.crt", "CERTIFICATE", der), write("server.key", "PRIVATE KEY", pkcs8)
	}).run(t, nil)
	if r := p.post(t, strings.NewReader("1"), nil); r.code != 202 {
		t.Errorf("over TLS: %+v", r)
	}
	if got := p.payloads(); len(got) != 1 {
		t.Errorf("messages: %q", got)
	}
	guarded := start(t, func(c *Config) { c.CertFile, c.KeyFile, c.CAFile = p.c.CertFile, p.c.KeyFile, p.c.CertFile })
	if r, err := guarded.client.Post(guarded.url, "text/plain", strings.NewReader("1")); err == nil {
		_ = r.Body.Close()
		t.Errorf("a client without a certificate is answered %s", r.Status)
	}
}
