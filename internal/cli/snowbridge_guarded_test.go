//go:build unix

package cli_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/enginetest"
)

// before3 makes a file one that only releases before 3.0.0 read: certificates turn TLS on there.
const before3 = "transform {\n  use \"js\" {\n    source_b64 = \"ZnVuY3Rpb24gbWFpbihpbnB1dCkgewogIHJldHVybiBpbnB1dDsKfQo=\"\n  }\n}\n"

// TestSnowbridgeGuardedKafka: the blocks for Kafka with every option there is, that sign in and
// show certificates, in the forms of 1.0 and 2.2, where certificates were enough for TLS, and of
// 3.0 and 5.0, where enable_tls says so.
func TestSnowbridgeGuardedKafka(t *testing.T) {
	t.Parallel()
	b := enginetest.GuardedKafka(t, "")
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Plain))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	fill := strings.NewReplacer("CERTIFICATE", b.Certificate, "KEY", b.Key, "AUTHORITY", b.Authority, "USER", b.User)
	const (
		where        = "    brokers = \"ADDRESS\"\n    topic_name = \"NAME\"\n    target_version = \"2.7.0\"\n"
		signed       = "    enable_sasl = true\n    sasl_username = \"USER\"\n    sasl_password = env.SASL_PASSWORD\n"
		certificates = "    cert_file = \"CERTIFICATE\"\n    key_file = \"KEY\"\n    ca_file = \"AUTHORITY\"\n    skip_verify_tls = true\n"
		sure         = "    compress = true\n    wait_for_all = true\n    idempotent = true\n    max_retries = 11\n    force_sync_producer = true\n"
		sizes        = "    byte_limit = 1000000\n    flush_frequency = 2\n    flush_messages = 2\n    flush_bytes = 2\n"
		group        = "    consumer_name = \"snowbridge\"\n    offsets_initial = -2\n    assignor = \"sticky\"\n"
		batching     = "    batching {\n      max_batch_messages = 2\n      max_batch_bytes = 10000000\n      max_message_bytes = 10000000\n      max_concurrent_batches = 2\n      flush_period_millis = 20\n    }\n"
	)
	for name, r := range map[string]roundTrip{
		"1-0": {also: before3,
			target: where + signed + "    sasl_algorithm = \"sha256\"\n" + certificates + sure + sizes,
			source: where + signed + "    sasl_algorithm = \"sha256\"\n" + certificates + group + "    concurrent_writes = \"15\"\n"},
		"3-0": {
			target: where + signed + "    sasl_algorithm = \"plaintext\"\n    enable_tls = true\n" + certificates + sure + sizes,
			source: where + signed + "    sasl_algorithm = \"plaintext\"\n    enable_tls = true\n" + certificates + group + "    concurrent_writes = 15\n"},
		"5-0": {
			target: where + signed + "    sasl_algorithm = \"sha512\"\n    sasl_version = 1\n    enable_tls = true\n" + certificates + sure + batching,
			source: where + signed + "    sasl_algorithm = \"sha512\"\n    sasl_version = 1\n    enable_tls = true\n" + certificates + group},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic := "snowbridge-guarded-" + name
			if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 2, 1, nil, topic); err != nil {
				t.Fatal(err)
			}
			r.target = fill.Replace("  use \"kafka\" {\n" + r.target + "  }\n")
			r.source = fill.Replace("  use \"kafka\" {\n" + r.source + "  }\n")
			r.run(t, b.Signed, topic, "SASL_PASSWORD="+b.Password)
		})
	}
}

// guardedServer takes requests over TLS from whoever shows a certificate, and keeps what they
// are. Its path /token gives tokens.
type guardedServer struct {
	*httptest.Server
	certificate, key string // PEM files

	mu       sync.Mutex
	requests []request
	refuse   int // so many requests are answered 401
}

type request struct {
	header http.Header
	body   string
}

func newGuardedServer(t *testing.T) *guardedServer {
	t.Helper()
	s := &guardedServer{}
	s.Server = httptest.NewUnstartedServer(s)
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	key, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := files(t, "server.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})),
		"server.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	s.certificate, s.key = filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	return s
}

func (s *guardedServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.URL.Path == "/token" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"short-lived","token_type":"Bearer","expires_in":3600}`)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse > 0 {
		s.refuse--
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	s.requests = append(s.requests, request{header: r.Header, body: string(body)})
}

// got is the bodies of the requests that were taken.
func (s *guardedServer) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var bodies []string
	for _, r := range s.requests {
		bodies = append(bodies, r.body)
	}
	return bodies
}

// TestSnowbridgeGuardedHTTP: the blocks of the http target with every option that each age has
// had, over TLS with certificates.
func TestSnowbridgeGuardedHTTP(t *testing.T) {
	t.Parallel()
	const common = `    url                 = "ADDRESS/collect"
    basic_auth_username = "me"
    basic_auth_password = env.MY_PASSWORD
    cert_file           = "CERTIFICATE"
    key_file            = "KEY"
    ca_file             = "CERTIFICATE"
    skip_verify_tls     = true
    headers             = "{\"Accept-Language\":\"en-GB\"}"
`
	payloads := []string{`{"number":0}`, `{"number":1}`}
	for name, test := range map[string]struct {
		options       string
		bodies        []string
		authorization string
		contentType   string
		refuse        int
	}{
		"1.0": {options: `    byte_limit                 = 1000000
    request_timeout_in_seconds = 60
    content_type               = "application/json"
`, bodies: payloads, authorization: "Basic bWU6c2VjcmV0", contentType: "application/json"},
		"3.3": {options: `    enable_tls                 = true
    request_max_messages       = 20
    request_byte_limit         = 1000000
    message_byte_limit         = 1000000
    request_timeout_in_seconds = 60
    content_type               = "text/html"
    template_file              = "body.tmpl"
    response_rules {
      invalid {
        http_codes = [400]
      }
      setup {
        http_codes = [401, 403]
      }
    }
`, bodies: []string{`<{"number":0}{"number":1}>`}, authorization: "Basic bWU6c2VjcmV0", contentType: "text/html", refuse: 2},
		"5.0": {options: `    enable_tls                    = true
    request_timeout_in_millis     = 60000
    request_timeout_in_seconds    = 1
    content_type                  = "text/html"
    dynamic_headers               = true
    oauth2_client_id              = env.MY_PASSWORD
    oauth2_client_secret          = env.MY_PASSWORD
    oauth2_refresh_token          = env.MY_PASSWORD
    oauth2_token_url              = "ADDRESS/token"
    template_file                 = "body.tmpl"
    include_timing_headers        = true
    rejection_threshold_in_millis = 100
    metadata_safe_mode            = true
    batching {
      max_batch_messages     = 20
      max_batch_bytes        = 10000000
      max_message_bytes      = 10000000
      max_concurrent_batches = 2
      flush_period_millis    = 600000
    }
    response_rules {
      rule {
        type       = "invalid"
        http_codes = [400]
        body       = "no such field"
      }
      rule {
        type       = "throttle"
        http_codes = [429]
      }
      rule {
        type       = "setup"
        http_codes = [401, 403]
      }
      rule {
        type       = "throttle"
        http_codes = [0]
        body       = "context deadline exceeded"
      }
    }
`, bodies: []string{`<{"number":0}{"number":1}>`}, authorization: "Bearer short-lived", contentType: "text/html", refuse: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newGuardedServer(t)
			s.refuse = test.refuse
			fill := strings.NewReplacer("CERTIFICATE", s.certificate, "KEY", s.key, "ADDRESS", s.URL)
			dir := files(t, "body.tmpl", `<{{ range . }}{{ prettyPrint . }}{{ end }}>`,
				"p.hcl", fill.Replace("target {\n  use \"http\" {\n"+common+test.options+"  }\n}\nretry {\n  setup {\n    delay_ms = 1\n  }\n}\n"))
			c := weir(t, dir, "run", "p.hcl")
			c.Env, c.Stdin = append(c.Env, "MY_PASSWORD=secret"), strings.NewReader(strings.Join(payloads, "\n")+"\n")
			p := launch(t, c)
			p.exits(0)
			if p.out.String() != "" {
				t.Errorf("there are failures: %s", p.out)
			}
			same(t, s.got(), test.bodies)
			for _, r := range s.requests {
				if r.header.Get("Authorization") != test.authorization || r.header.Get("Content-Type") != test.contentType || !slices.Equal(r.header.Values("Accept-Language"), []string{"en-GB"}) {
					t.Errorf("%v", r.header)
				}
			}
		})
	}
}

// TestSnowbridgeLocalBlocks: the sources http and stdin, and the target stdout, with the options
// of each age.
func TestSnowbridgeLocalBlocks(t *testing.T) {
	t.Parallel()
	payloads := []string{`{"number":0}`, `{"number":1}`}
	for name, options := range map[string]string{
		"experimental": "    concurrent_writes = 15\n",
		"3.0":          "    concurrent_writes = 15\n    request_batch_limit = 15\n",
	} {
		t.Run("http "+name, func(t *testing.T) {
			t.Parallel()
			at := addresstest.Free(t)
			p := launch(t, weir(t, files(t, "p.hcl", fmt.Sprintf("source {\n  use \"http\" {\n    url = %q\n    path = \"/receiver\"\n%s  }\n}\n", at, options)), "run", "p.hcl"))
			listening(t, at)
			r, err := http.Post("http://"+at+"/receiver", "text/plain", strings.NewReader(strings.Join(payloads, "\n")))
			if err != nil {
				t.Fatal(err)
			}
			_ = r.Body.Close()
			if r.StatusCode != http.StatusAccepted {
				t.Errorf("answered %s", r.Status)
			}
			p.stops(0)
			same(t, printed(t, p.out.String(), false), payloads)
		})
	}
	for name, blocks := range map[string]string{
		"1.0": "source {\n  use \"stdin\" {\n    concurrent_writes = 20\n  }\n}\ntarget {\n  use \"stdout\" {}\n}\nfailure_target {\n  use \"stdout\" {}\n}\n",
		"5.0": "source {\n  use \"stdin\" {}\n}\ntarget {\n  use \"stdout\" {\n    batching {\n      max_batch_messages = 1\n      max_batch_bytes = 1000000\n      max_message_bytes = 1000000\n      max_concurrent_batches = 1\n      flush_period_millis = 100\n    }\n    data_only_output = true\n  }\n}\n",
	} {
		t.Run("stdin and stdout "+name, func(t *testing.T) {
			t.Parallel()
			c := weir(t, files(t, "p.hcl", blocks), "run", "p.hcl")
			c.Stdin = strings.NewReader(strings.Join(payloads, "\n") + "\n")
			p := launch(t, c)
			p.exits(0)
			if name == "5.0" {
				same(t, split(p.out.String()), payloads)
				return
			}
			same(t, printed(t, p.out.String(), false), payloads)
		})
	}
}
