package kafkasource_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/kafka"
)

// TestSigningIn: with each mechanism, and with a password that is wrong, which no error shows.
func TestSigningIn(t *testing.T) {
	t.Parallel()
	const password = "pass-8217-word"
	c := cluster(t, kfake.SeedTopics(1, "events"), kfake.EnableSASL(), kfake.User("PLAIN", "weir", password), kfake.User("SCRAM-SHA-256", "weir", password),
		kfake.User("SCRAM-SHA-512", "weir", password), kfake.Superuser("PLAIN", "admin", "admin"))
	cl := client(t, brokers(c), kgo.SASL(plain.Auth{User: "admin", Pass: "admin"}.AsMechanism()))
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "events", Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	for _, algorithm := range []string{"plaintext", "sha256", "sha512"} {
		conf := config(brokers(c), "events")
		conf.Connection.EnableSASL, conf.Connection.SASLAlgorithm, conf.Connection.SASLUsername, conf.Connection.SASLPassword = true, algorithm, "weir", password
		log := &notes{}
		s := opened(t, conf, log.log())
		read(t, s, 1, true)
		if !strings.Contains(log.String(), "SASL without TLS") {
			t.Errorf("%s: nothing warns of a password that anybody can read", algorithm)
		}
		conf.Connection.SASLPassword = "wrong-4711-word"
		wrong := newSource(t, conf, log.log())
		err := wrong.Open(t.Context())
		if err == nil { // the fake hangs up; a broker says SASL_AUTHENTICATION_FAILED, as in TestTokens
			t.Errorf("%s with a wrong password: %v", algorithm, err)
		}
		if text := err.Error() + log.String(); strings.Contains(text, "4711") || strings.Contains(text, "8217") {
			t.Errorf("%s shows a password: %s", algorithm, text)
		}
	}
}

// TestTokens: OAUTHBEARER signs in with what the token endpoint gives out.
func TestTokens(t *testing.T) {
	t.Parallel()
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"access_token":"token-8217","token_type":"bearer","expires_in":3600}`))
	}))
	defer endpoint.Close()
	c := cluster(t, kfake.SeedTopics(1, "events"), kfake.EnableSASL())
	// The fake knows no OAUTHBEARER: the test has the part of the broker.
	got := make(chan string, 100)
	c.ControlKey(int16(kmsg.SASLHandshake), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := r.ResponseKind().(*kmsg.SASLHandshakeResponse)
		resp.SupportedMechanisms = []string{"OAUTHBEARER"}
		return resp, nil, true
	})
	c.ControlKey(int16(kmsg.SASLAuthenticate), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		got <- string(r.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes)
		resp := r.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return resp, nil, true
	})
	conf := config(brokers(c), "events")
	conf.Connection.EnableSASL, conf.Connection.SASLAlgorithm = true, "oauthbearer"
	conf.Connection.SASLOAuth = &kafka.OAuth{ClientID: "client", ClientSecret: "secret", TokenURL: endpoint.URL}
	if err := newSource(t, conf, nil).Open(t.Context()); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "correct the user name, the password") || strings.Contains(err.Error(), "8217") {
		t.Errorf("a token that is refused: %v", err)
	}
	if text := <-got; !strings.Contains(text, "auth=Bearer token-8217") {
		t.Errorf("the broker got %q", text)
	}
}

// certificate is an authority, in a file, and the settings of a server that it signed.
func certificate(t *testing.T) (ca string, server *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return ca, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// TestTLS: with the authority of the brokers, and without, which is said.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca, server := certificate(t)
	c := cluster(t, kfake.SeedTopics(1, "events"), kfake.TLS(server))
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	cl := client(t, brokers(c), kgo.DialTLSConfig(&tls.Config{RootCAs: pool}))
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "events", Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	conf := config(brokers(c), "events")
	conf.Connection.EnableTLS = true
	if err := newSource(t, conf, nil).Open(t.Context()); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "set ca_file") {
		t.Errorf("an authority that nobody knows: %v", err)
	}
	conf.Connection.CAFile = ca
	read(t, opened(t, conf, nil), 1, true)
	conf.Connection.CAFile, conf.Connection.SkipVerifyTLS = "", true
	conf.ConsumerName = fresh("consumer")
	read(t, opened(t, conf, nil), 1, true)
}
