//go:build unix

package cli_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/addresstest"
)

// authority signs certificates of one test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var serials struct {
	sync.Mutex
	last int64
}

func serial() *big.Int {
	serials.Lock()
	defer serials.Unlock()
	serials.last++
	return big.NewInt(serials.last)
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "authority " + rand.Text()}, NotBefore: time.Unix(0, 0),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, text, text, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, cert, key}
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// issue is a certificate for this machine with a name, and its key.
func (a *authority) issue(name string) (cert, key string) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	text := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name}, NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, text, a.cert, &private.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

func (a *authority) pair(name string) tls.Certificate {
	a.t.Helper()
	cert, key := a.issue(name)
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

// reloads sends SIGHUP and waits until the log has told n times in all that a config runs, or was
// refused.
func (p *process) reloads(n int) {
	p.t.Helper()
	p.signal(syscall.SIGHUP)
	p.until(p.err, fmt.Sprintf(`(?s)((the new config runs|the old one runs on).*){%d}`, n))
}

// TestDoorsRotate: a reload with the same config has a door serve the certificate that its files
// hold now, and let in whom its authorities sign now, also over connections that were open before.
// What cannot be used is refused by file and line, and changes nothing.
func TestDoorsRotate(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]string{
		"http":    "source {\n  use \"http\" {\n    url = %q\n    cert_file = \"server.crt\"\n    key_file = \"server.key\"\n    ca_file = \"clients.crt\"\n  }\n}\n",
		"gateway": "source {\n  use \"gateway\" {\n    address = %q\n    cert_file = \"server.crt\"\n    key_file = \"server.key\"\n    ca_file = \"clients.crt\"\n    workspace_config = \"workspace.json\"\n  }\n}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers, clients, others := newAuthority(t), newAuthority(t), newAuthority(t)
			at := addresstest.Free(t)
			cert, key := servers.issue("first")
			p := launch(t, weir(t, files(t, "p.hcl", fmt.Sprintf(config, at)+toFiles, "server.crt", cert, "server.key", key, "clients.crt", clients.pem(), "workspace.json", workspaceOfKey1), "run", "p.hcl"))
			listening(t, at)
			before, after := visitor(t, servers, clients.pair("before")), visitor(t, servers, others.pair("after"))
			want := func(c *http.Client, served string) {
				t.Helper()
				if got := visit(t, c, at); got != served {
					t.Errorf("served by %q, want %q\n%s", got, served, p.err)
				}
			}
			want(before, "first")
			want(after, "")
			// Each of the files may be broken by itself.
			for i, broken := range []struct{ file, good, field string }{{"server.crt", cert, "cert_file"}, {"server.key", key, "cert_file"}, {"clients.crt", clients.pem(), "ca_file"}} {
				write(t, filepath.Join(p.dir, broken.file), "-----BEGIN CERTIFICATE-----\nhalf of it")
				p.reloads(i + 1)
				if !regexp.MustCompile(`p\.hcl:\d+:\d+: error: .*` + broken.field).MatchString(p.err.String()) {
					t.Errorf("%s is broken, and the log names no %s by file and line:\n%s", broken.file, broken.field, p.err)
				}
				want(before, "first")
				want(visitor(t, servers, clients.pair("new")), "first")
				write(t, filepath.Join(p.dir, broken.file), broken.good)
			}
			cert, key = servers.issue("second")
			write(t, filepath.Join(p.dir, "server.crt"), cert)
			write(t, filepath.Join(p.dir, "server.key"), key)
			p.reloads(4)
			want(visitor(t, servers, clients.pair("new")), "second")
			write(t, filepath.Join(p.dir, "clients.crt"), others.pem())
			p.reloads(5)
			want(after, "second")
			// The connection of before ends when the pipeline of before has.
			eventually(t, "the client of the old authority is turned away", func() bool { return visit(t, before, at) == "" })
			p.stops(0)
		})
	}
}

// visitor is a client that keeps its connection.
func visitor(t *testing.T, servers *authority, pair tls.Certificate) *http.Client {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: servers.pool(), Certificates: []tls.Certificate{pair}}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// visit is the name in the certificate that a client is served by; empty when it is turned away.
func visit(t *testing.T, c *http.Client, at string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+at+"/health", nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Do(req)
	if err != nil {
		return ""
	}
	_, _ = io.Copy(io.Discard, r.Body)
	_ = r.Body.Close()
	return r.TLS.PeerCertificates[0].Subject.CommonName
}

// guest is somebody who came to a listener.
type guest struct{ certificate, authorization, token string }

// TestCallersRotate: a reload with the same config has whoever calls others show the certificate
// and say the secrets that their files hold now.
func TestCallersRotate(t *testing.T) {
	t.Parallel()
	servers, clients := newAuthority(t), newAuthority(t)
	const tlsOptions = "    enable_tls = true\n    cert_file = \"own.crt\"\n    key_file = \"own.key\"\n    ca_file = \"servers.crt\"\n"
	kafka := "    brokers = %q\n" + tlsOptions
	for name, block := range map[string]string{
		"target http": "    url = \"https://%[1]s\"\n" + tlsOptions +
			"    basic_auth_username = \"me\"\n    basic_auth_password = file(\"secret\")\n    headers = jsondecode(\"{\\\"X-Api-Token\\\": \\\"${file(\"secret\")}\\\"}\")\n",
		"target kafka": strings.Replace(kafka, "%q", "%[1]q", 1) + "    topic_name = \"t\"\n",
		"source kafka": strings.Replace(kafka, "%q", "%[1]q", 1) + "    topic_name = \"t\"\n    consumer_name = \"g\"\n    offsets_initial = -1\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at, came := callers(t, servers, clients)
			kind, use, _ := strings.Cut(name, " ")
			other := map[string]string{"target": "  source {\n    use \"generate\" {\n      kind = \"events\"\n      rate = 20\n    }\n  }\n", "source": "  target {\n    use \"file\" {\n      path = \"out\"\n    }\n  }\n"}[kind]
			config := fmt.Sprintf("pipeline \"p\" {\n  on_failure = \"restart\"\n%s  %s {\n    use %q {\n%s    }\n  }\n  failure_target {\n    use \"file\" {\n      path = \"failed\"\n    }\n  }\n}\n", other, kind, use, fmt.Sprintf(block, at))
			cert, key := clients.issue("first")
			p := launch(t, weir(t, files(t, "p.hcl", config, "own.crt", cert, "own.key", key, "servers.crt", servers.pem(), "secret", "one-of-two-secrets\n"), "run", "p.hcl"))
			wait := func(certificate, secret string) {
				t.Helper()
				late := time.After(patience)
				for {
					select {
					case c := <-came:
						if c.certificate == certificate && (use != "http" || c.token == secret && c.authorization == "me:"+secret) {
							return
						}
					case <-p.ended:
						t.Fatalf("it has ended:\n%s", p.err)
					case <-late:
						t.Fatalf("nobody came with %s and %s:\n%s", certificate, secret, p.err)
					}
				}
			}
			wait("first", "one-of-two-secrets")
			write(t, filepath.Join(p.dir, "own.key"), "half of it")
			p.reloads(1)
			if !regexp.MustCompile(`p\.hcl:\d+:\d+: error: .*key_file`).MatchString(p.err.String()) {
				t.Errorf("the broken key is not named by file and line:\n%s", p.err)
			}
			cert, key = clients.issue("second")
			write(t, filepath.Join(p.dir, "own.crt"), cert)
			write(t, filepath.Join(p.dir, "own.key"), key)
			write(t, filepath.Join(p.dir, "secret"), "another-secret\n")
			p.reloads(2)
			wait("second", "another-secret")
			if strings.Contains(p.err.String(), "secrets") || strings.Contains(p.err.String(), "another-secret") {
				t.Errorf("a secret is in the log:\n%s", p.err)
			}
			p.signal(syscall.SIGKILL)
		})
	}
}

// callers is an address that serves HTTP to whoever has a certificate, and tells who came.
func callers(t *testing.T, servers, clients *authority) (at string, came <-chan guest) {
	t.Helper()
	seen := make(chan guest, 1<<16)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		_, _ = io.Copy(io.Discard, r.Body)
		tell(seen, guest{r.TLS.PeerCertificates[0].Subject.CommonName, user + ":" + password, r.Header.Get("X-Api-Token")})
		w.WriteHeader(http.StatusOK)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{
		Certificates: []tls.Certificate{servers.pair("server")}, ClientCAs: clients.pool(), ClientAuth: tls.RequireAndVerifyClientCert,
		VerifyConnection: func(c tls.ConnectionState) error {
			tell(seen, guest{certificate: c.PeerCertificates[0].Subject.CommonName})
			return nil
		},
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), seen
}

func tell(seen chan<- guest, c guest) {
	select {
	case seen <- c:
	default: // enough has been seen
	}
}

// TestAdminTokenRotates: a reload changes the token that the admin server asks for.
func TestAdminTokenRotates(t *testing.T) {
	t.Parallel()
	at, admin := addresstest.Free(t), addresstest.Free(t)
	config := stamping(at, 1) + fmt.Sprintf("admin {\n  address = %q\n  token = file(\"token\")\n}\n", admin)
	p := launch(t, weir(t, files(t, "p.hcl", config, "stamp.js", stamp(1), "token", "first-token\n"), "run", "p.hcl"))
	listening(t, at)
	ask := func(token string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, r.Body)
		if err = errors.Join(err, r.Body.Close()); err != nil {
			t.Fatal(err)
		}
		return r.StatusCode
	}
	for i, token := range []string{"first-token", "second-token"} {
		if i > 0 {
			write(t, filepath.Join(p.dir, "token"), token+"\n")
			p.reloads(i)
		}
		for _, said := range []string{"first-token", "second-token"} {
			if got := ask(said); (got == http.StatusOK) != (said == token) {
				t.Errorf("%s is asked for, and %s is answered %d", token, said, got)
			}
		}
	}
	if strings.Contains(p.err.String(), "changes at the next start only") {
		t.Errorf("the token has changed, and the log says that nothing did:\n%s", p.err)
	}
	p.stops(0)
}

// TestReloadOfSettings: options of the store that a reload changes count at once; a setting that
// counts from the next start on is named, once each reload and in one line.
func TestReloadOfSettings(t *testing.T) {
	t.Parallel()
	at, admin := addresstest.Free(t), addresstest.Free(t)
	config := func(limit int, format, process string) string {
		return fmt.Sprintf("queue \"q\" {}\npipeline \"in\" {\n  source {\n    use \"http\" {\n      url = %q\n    }\n  }\n  target {\n    use \"queue\" {\n      name = \"q\"\n    }\n  }\n}\n"+
			"store {\n  use \"embedded\" {\n    max_bytes = %d\n  }\n}\nadmin {\n  address = %q\n%s}\nlog_format = %q\n", at, limit, admin, process, format)
	}
	p := launch(t, weir(t, files(t, "p.hcl", config(100<<20, "json", "")), "run", "p.hcl"))
	listening(t, at)
	listening(t, admin)
	limit := func() string {
		_, text := get(t, "http://"+admin+"/metrics")
		return regexp.MustCompile(`(?m)^weir_store_limit_bytes.*$`).FindString(text)
	}
	before := limit()
	write(t, filepath.Join(p.dir, "p.hcl"), config(200<<20, "json", ""))
	p.reloads(1)
	if after := limit(); after == before || !strings.Contains(after, "2.097152e+08") {
		t.Errorf("the limit was %q, and is %q", before, after)
	}
	const later = "changes at the next start only"
	if strings.Contains(p.err.String(), later) {
		t.Errorf("max_bytes counts at once:\n%s", p.err)
	}
	write(t, filepath.Join(p.dir, "p.hcl"), config(200<<20, "text", "  path = \"/ops\"\n"))
	p.reloads(2)
	if n := strings.Count(p.err.String(), later); n != 1 || !strings.Contains(p.err.String(), `"settings":["log_format","admin.path"]`) {
		t.Errorf("log_format and admin.path are named %d times:\n%s", n, p.err)
	}
	p.stops(0)
}
