//go:build unix

package cli_test

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/weirdata/weir/internal/enginetest"
)

// visitors tells by which key somebody came.
type visitors chan string

func (v visitors) came(key string) {
	select {
	case v <- key:
	default: // enough has been seen
	}
}

// door is what a connector comes to, and what it says there.
type door struct {
	options string              // of the connector
	file    string              // that holds the key
	holds   func(string) string // the contents of the file, with a key by this name
	env     []string
	came    visitors
}

// googleDoor is a service of Google's and where tokens are given out, behind TLS: it refuses everybody,
// and tells by which key an assertion was signed.
func googleDoor(t *testing.T, servers *authority, options string) door {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	d := door{file: "key.json", came: make(visitors, 1<<16)}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if token == "" {
			token = r.PostFormValue("assertion")
		}
		head, _, _ := strings.Cut(token, ".")
		text, _ := base64.RawURLEncoding.DecodeString(head)
		var of struct{ Kid string }
		if json.Unmarshal(text, &of) == nil {
			d.came.came(of.Kid)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	s.EnableHTTP2, s.TLS = true, &tls.Config{Certificates: []tls.Certificate{servers.pair("google")}}
	s.StartTLS()
	t.Cleanup(s.Close)
	d.options = options + fmt.Sprintf("    credentials_path = \"key.json\"\n    endpoint = %q\n", s.Listener.Addr())
	d.holds = func(key string) string {
		text, err := json.Marshal(map[string]string{
			"type": "service_account", "project_id": "p", "private_key_id": key, "client_email": "me@p.iam.gserviceaccount.com", "client_id": "1",
			"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": s.URL + "/token",
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	return d
}

var signature = regexp.MustCompile(`SharedAccessSignature sr=([^&]+)&sig=([^&]+)&se=(\d+)&skn=([A-Za-z-]+)`)

// tunnel leads to an address, in the clear or behind TLS, and gives what clients say to saw, as much
// as there is of it on a connection.
func tunnel(t *testing.T, to string, behind *tls.Config, saw func(said []byte)) (at string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	at = l.Addr().String()
	if behind != nil {
		l = tls.NewListener(l, behind)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				s, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", to)
				if err != nil {
					return
				}
				defer s.Close()
				go func() { _, _ = io.Copy(c, s); _ = c.Close() }()
				var said []byte
				for piece := make([]byte, 32<<10); ; {
					n, err := c.Read(piece)
					said = append(said, piece[:n]...)
					saw(said)
					said = said[max(0, len(said)-4096):]
					if _, broken := s.Write(piece[:n]); err != nil || broken != nil {
						return
					}
				}
			}()
		}
	}()
	return at
}

// azureDoors are the ways to a hub, by the attribute that the key is in.
func azureDoors(t *testing.T, servers *authority, hub enginetest.EventHub, way string) door {
	t.Helper()
	d := door{file: "secret", came: make(visitors, 1<<16), holds: func(key string) string { return key + "\n" }}
	name := fmt.Sprintf("    name = %q\n", hub.Name)
	certificate := &tls.Config{Certificates: []tls.Certificate{servers.pair("acme.servicebus.windows.net")}}
	switch way {
	case "connection_string":
		at := tunnel(t, hub.Address, nil, func(said []byte) {
			for _, m := range signature.FindAllSubmatch(said, -1) {
				d.came.came(string(m[4]))
			}
		})
		d.options = name + "    namespace = \"emulator\"\n    credentials {\n      connection_string = file(\"secret\")\n    }\n"
		d.holds = func(key string) string {
			return fmt.Sprintf("Endpoint=sb://%s;SharedAccessKeyName=%s;SharedAccessKey=aXQtaXMtYS1zZWNyZXQ=;UseDevelopmentEmulator=true\n", at, key)
		}
	case "key_value":
		at := tunnel(t, hub.Address, certificate, func(said []byte) {
			for _, m := range signature.FindAllSubmatch(said, -1) {
				for _, key := range []string{"first-key", "second-key"} {
					h := hmac.New(sha256.New, []byte(key))
					_, _ = h.Write([]byte(string(m[1]) + "\n" + string(m[3])))
					if got, err := url.QueryUnescape(string(m[2])); err == nil && got == base64.StdEncoding.EncodeToString(h.Sum(nil)) {
						d.came.came(key)
					}
				}
			}
		})
		d.options = name + fmt.Sprintf("    namespace = \"acme\"\n    custom_endpoint = %q\n    credentials {\n      key_name = \"k\"\n      key_value = file(\"secret\")\n    }\n", at)
	case "client_secret":
		at := tunnel(t, hub.Address, certificate, func([]byte) {})
		d.options = name + fmt.Sprintf("    namespace = \"acme\"\n    custom_endpoint = %q\n    credentials {\n      tenant_id = \"t\"\n      client_id = \"c\"\n      client_secret = file(\"secret\")\n    }\n", at)
		d.env = []string{"HTTPS_PROXY=" + entra(t, servers, d.came)}
	}
	return d
}

// entra is a proxy behind which Microsoft Entra ID refuses every application, and tells its secret.
func entra(t *testing.T, servers *authority, came visitors) (proxy string) {
	t.Helper()
	const host = "login.microsoftonline.com"
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		at := "https://" + host + "/t"
		switch {
		case strings.HasSuffix(r.URL.Path, "/openid-configuration"):
			fmt.Fprintf(w, `{"issuer":"%[1]s/v2.0","authorization_endpoint":"%[1]s/oauth2/v2.0/authorize","token_endpoint":"%[1]s/oauth2/v2.0/token"}`, at)
		case strings.HasSuffix(r.URL.Path, "/instance"):
			fmt.Fprintf(w, `{"tenant_discovery_endpoint":"%s/v2.0/.well-known/openid-configuration","metadata":[]}`, at)
		default:
			came.came(r.PostFormValue("client_secret"))
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":"invalid_client","error_description":"no"}`)
		}
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{servers.pair(host)}}
	s.StartTLS()
	t.Cleanup(s.Close)
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != host+":443" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		to, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", s.Listener.Addr().String())
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			_ = to.Close()
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(to, c); _ = to.Close() }()
		go func() { _, _ = io.Copy(c, to); _ = c.Close() }()
	}))
	t.Cleanup(p.Close)
	return p.URL
}

// TestKeysOfGoogleAndAzureRotate: a reload with the same config has what speaks to Pub/Sub and Event
// Hubs use the keys that files hold now.
func TestKeysOfGoogleAndAzureRotate(t *testing.T) {
	t.Parallel()
	servers := newAuthority(t)
	hub := func(way string) func(t *testing.T) door {
		return func(t *testing.T) door { t.Helper(); return azureDoors(t, servers, enginetest.NewEventHub(t, 1), way) }
	}
	google := func(options string) func(t *testing.T) door {
		return func(t *testing.T) door { t.Helper(); return googleDoor(t, servers, options) }
	}
	for name, at := range map[string]func(t *testing.T) door{
		"source pubsub":                     google("    project_id = \"p\"\n    subscription_id = \"s\"\n"),
		"target pubsub":                     google("    project_id = \"p\"\n    topic_name = \"t\"\n"),
		"source eventhub connection_string": hub("connection_string"),
		"target eventhub connection_string": hub("connection_string"),
		"source eventhub key_value":         hub("key_value"),
		"target eventhub key_value":         hub("key_value"),
		"source eventhub client_secret":     hub("client_secret"),
		"target eventhub client_secret":     hub("client_secret"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := at(t)
			words := strings.Fields(name)
			kind, use := words[0], words[1]
			other := map[string]string{"target": "  source {\n    use \"generate\" {\n      kind = \"events\"\n      rate = 20\n    }\n  }\n", "source": "  target {\n    use \"file\" {\n      path = \"out\"\n    }\n  }\n"}[kind]
			config := fmt.Sprintf("pipeline \"p\" {\n  on_failure = \"restart\"\n%s  %s {\n    use %q {\n%s    }\n  }\n  failure_target {\n    use \"file\" {\n      path = \"failed\"\n    }\n  }\n"+
				"  retry {\n    setup {\n      max_attempts = 1\n    }\n    transient {\n      delay_ms = 100\n      max_attempts = 1\n    }\n  }\n}\n", other, kind, use, d.options)
			w := weir(t, files(t, "p.hcl", config, d.file, d.holds("first-key"), "servers.crt", servers.pem()), "run", "p.hcl")
			w.Env = append(append(w.Env, "SSL_CERT_FILE="+filepath.Join(w.Dir, "servers.crt"), "PUBSUB_EMULATOR_HOST=", "NO_PROXY=127.0.0.1"), d.env...)
			p := launch(t, w)
			wait := func(key string) { t.Helper(); p.untilSeen(d.came, key) }
			wait("first-key")
			write(t, filepath.Join(p.dir, d.file), d.holds("second-key"))
			for n := 1; !strings.Contains(p.err.String(), "the new config runs"); n++ {
				p.reloads(n) // before the first attempt to open has failed nothing runs that could be replaced
			}
			wait("second-key")
			secrets := []string{"aXQtaXMtYS1zZWNyZXQ", "PRIVATE KEY"}
			if len(words) == 3 && words[2] != "connection_string" { // where it is the name of the key
				secrets = append(secrets, "first-key", "second-key")
			}
			for _, secret := range secrets {
				if strings.Contains(p.err.String(), secret) {
					t.Errorf("%q is in the log:\n%s", secret, p.err)
				}
			}
			p.signal(syscall.SIGKILL)
		})
	}
}
