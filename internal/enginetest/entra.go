package enginetest

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Entra is a stand-in for Microsoft Entra ID with one application, and for the endpoint by which a
// machine of Azure asks for tokens. A process comes to it that has [Entra.Environment]: its
// requests go to the same addresses as in the cloud, by a proxy that answers them itself.
type Entra struct {
	Tenant, Client string
	Secret         string // of the application
	Certificate    string // PEM file of another way to show who it is: certificate and key
	Federated      string // file with the token that a cluster gives a workload
	Authority      string // PEM file to trust; it signed Server
	Server         tls.Certificate
	ServerFiles    [2]string // the same, certificate and key

	key     tokenKey
	own     *rsa.PublicKey // of Certificate
	machine string         // what a machine shows to its endpoint
	at      string

	mu     sync.Mutex
	issued map[string]int // tokens by the way they were asked for
}

const entraHost = "login.microsoftonline.com"

// NewEntra starts one for the test.
func NewEntra(t testing.TB) *Entra {
	t.Helper()
	dir := t.TempDir()
	e := &Entra{
		Tenant: "11111111-2222-3333-4444-555555555555", Client: "66666666-7777-8888-9999-000000000000", Secret: "secret-of-the-application",
		Certificate: filepath.Join(dir, "application.pem"), Federated: filepath.Join(dir, "federated"), Authority: filepath.Join(dir, "authority.pem"),
		ServerFiles: [2]string{filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")}, machine: "header-of-the-machine", issued: map[string]int{},
	}
	err := e.certificates()
	if err == nil {
		e.key, err = newTokenKey()
	}
	if err = errors.Join(err, os.WriteFile(e.Federated, []byte("token-of-the-cluster"), 0o600)); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.at = l.Addr().String()
	s := &http.Server{Handler: http.HandlerFunc(e.serve), ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }() // it ends with the test
	t.Cleanup(func() { _ = s.Close(); <-done })
	return e
}

// certificates makes that of the application, and an authority with that of every server.
func (e *Entra) certificates() error {
	application, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	e.own = &application.PublicKey
	until := time.Now().Add(24 * time.Hour)
	about := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "application"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, about, about, e.own, application)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(application)
	if err != nil {
		return err
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	authority, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "authority of a test"}, NotBefore: about.NotBefore, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	signed, err := x509.CreateCertificate(rand.Reader, root, root, &authority.PublicKey, authority)
	if err != nil {
		return err
	}
	server, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "server of a test"}, NotBefore: about.NotBefore, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: []string{entraHost, "acme.servicebus.windows.net"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	sign, err := x509.CreateCertificate(rand.Reader, leaf, root, &server.PublicKey, authority)
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(server)
	if err != nil {
		return err
	}
	certificate, keyText := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sign}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	if e.Server, err = tls.X509KeyPair(certificate, keyText); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(e.Certificate, text, 0o600), os.WriteFile(e.Authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), 0o600),
		give(e.ServerFiles[0], certificate), give(e.ServerFiles[1], keyText))
}

// Environment has a process on Linux come to it, and to servers with its certificate.
func (e *Entra) Environment() []string {
	return []string{"HTTPS_PROXY=http://" + e.at, "NO_PROXY=", "SSL_CERT_FILE=" + e.Authority}
}

// Machine is the environment of a process on a machine of Azure that has an identity.
func (e *Entra) Machine() []string {
	return []string{"IDENTITY_ENDPOINT=http://" + e.at + "/machine", "IDENTITY_HEADER=" + e.machine}
}

// Keys are the keys that its tokens are signed by, as a JSON Web Key Set.
func (e *Entra) Keys() json.RawMessage { return e.key.set() }

// Issued is how many tokens were given out for what was shown: "secret", "certificate",
// "federated" or "machine".
func (e *Entra) Issued(what string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.issued[what]
}

// serve is a proxy for what is asked of Entra ID, and the endpoint of a machine.
func (e *Entra) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		e.answer(w, r)
		return
	}
	if host, _, _ := net.SplitHostPort(r.Host); host != entraHost {
		http.Error(w, "the test has no "+host, http.StatusBadGateway)
		return
	}
	raw, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = raw.Close() }()
	if _, err := io.WriteString(raw, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{e.Server}, MinVersion: tls.VersionTLS12})
	defer func() { _ = c.Close() }()
	for in := bufio.NewReader(c); ; {
		ask, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		got := &reply{head: http.Header{}, code: http.StatusOK}
		e.answer(got, ask)
		if _, err := fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", got.code, http.StatusText(got.code), len(got.body), got.body); err != nil {
			return
		}
	}
}

// reply is an answer that is written whole.
type reply struct {
	head http.Header
	code int
	body []byte
}

func (r *reply) Header() http.Header         { return r.head }
func (r *reply) WriteHeader(code int)        { r.code = code }
func (r *reply) Write(p []byte) (int, error) { r.body = append(r.body, p...); return len(p), nil }

func (e *Entra) answer(w http.ResponseWriter, r *http.Request) {
	say := func(code int, v any) {
		body, err := json.Marshal(v)
		if err != nil {
			code, body = http.StatusInternalServerError, []byte(err.Error())
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = w.Write(body) // who has gone away does not read it
	}
	base := "https://" + entraHost + "/" + e.Tenant
	switch {
	case r.URL.Path == "/common/discovery/instance":
		say(http.StatusOK, map[string]any{"tenant_discovery_endpoint": base + "/v2.0/.well-known/openid-configuration", "api-version": "1.1",
			"metadata": []any{map[string]any{"preferred_network": entraHost, "preferred_cache": "login.windows.net", "aliases": []string{entraHost, "login.windows.net"}}}})
	case r.URL.Path == "/"+e.Tenant+"/v2.0/.well-known/openid-configuration":
		say(http.StatusOK, map[string]string{"issuer": base + "/v2.0", "authorization_endpoint": base + "/oauth2/v2.0/authorize", "token_endpoint": base + "/oauth2/v2.0/token"})
	case r.URL.Path == "/"+e.Tenant+"/oauth2/v2.0/token" && r.Method == http.MethodPost:
		how, err := e.knows(r)
		if err != nil {
			say(http.StatusUnauthorized, map[string]any{"error": "invalid_client", "error_description": err.Error(), "error_codes": []int{7000215}})
			return
		}
		resource, _, _ := strings.Cut(r.FormValue("scope"), "/.default") // others follow that are no resource's
		token, err := e.token(how, resource)
		if err != nil {
			say(http.StatusInternalServerError, err.Error())
			return
		}
		say(http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": token})
	case r.URL.Path == "/machine" && r.Header.Get("X-Identity-Header") == e.machine && r.FormValue("client_id") == e.Client:
		token, err := e.token("machine", r.FormValue("resource"))
		if err != nil {
			say(http.StatusInternalServerError, err.Error())
			return
		}
		say(http.StatusOK, map[string]any{"token_type": "Bearer", "expires_on": fmt.Sprint(time.Now().Add(time.Hour).Unix()), "resource": r.FormValue("resource"), "access_token": token})
	default:
		say(http.StatusNotFound, map[string]string{"error": "not_found", "error_description": r.Method + " " + r.URL.Path})
	}
}

// knows says by what a request has shown that it is the application's.
func (e *Entra) knows(r *http.Request) (string, error) {
	if r.FormValue("client_id") != e.Client || r.FormValue("grant_type") != "client_credentials" {
		return "", errors.New("AADSTS700016: Application was not found in the directory")
	}
	switch assertion := r.FormValue("client_assertion"); {
	case r.FormValue("client_secret") == e.Secret:
		return "secret", nil
	case assertion == "token-of-the-cluster":
		return "federated", nil
	case assertion == "":
		return "", errors.New("AADSTS7000215: Invalid client secret provided")
	default:
		at := strings.LastIndexByte(assertion, '.')
		if at < 0 {
			return "", errors.New("AADSTS50027: JWT token is invalid or malformed")
		}
		sum := sha256.Sum256([]byte(assertion[:at]))
		signature, err := base64.RawURLEncoding.DecodeString(assertion[at+1:])
		if err == nil && rsa.VerifyPSS(e.own, crypto.SHA256, sum[:], signature, nil) != nil {
			err = rsa.VerifyPKCS1v15(e.own, crypto.SHA256, sum[:], signature)
		}
		if err != nil {
			return "", errors.New("AADSTS700027: The certificate with identifier used to sign the client assertion is not registered on application")
		}
		return "certificate", nil
	}
}

// token is one for a resource.
func (e *Entra) token(how, resource string) (string, error) {
	e.mu.Lock()
	e.issued[how]++
	e.mu.Unlock()
	return e.key.signClaims(map[string]any{
		"aud": strings.TrimRight(resource, "/"), "iss": "https://sts.windows.net/" + e.Tenant + "/", "tid": e.Tenant, "appid": e.Client, "oid": e.Client, "sub": e.Client, "ver": "1.0",
		"iat": time.Now().Unix(), "nbf": time.Now().Add(-time.Minute).Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	})
}

// TLS puts TLS with the certificate of its servers in front of an address.
func (e *Entra) TLS(t testing.TB, address string) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{e.Server}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var open []net.Conn
	var busy sync.WaitGroup
	keep := func(c net.Conn) { mu.Lock(); open = append(open, c); mu.Unlock() }
	busy.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", address)
			if err != nil {
				_ = from.Close()
				continue
			}
			keep(from)
			keep(to)
			for _, c := range [][2]net.Conn{{from, to}, {to, from}} {
				busy.Go(func() {
					_, _ = io.Copy(c[0], c[1]) // it ends with either connection
					_ = c[0].Close()
					_ = c[1].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		busy.Wait()
	})
	return l.Addr().String()
}
