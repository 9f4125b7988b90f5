package gatewaysource

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pair is a certificate for this machine that signs itself, its key, and both as files.
func pair(t *testing.T) (cert tls.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, text, text, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, b []byte) (string, []byte) {
		name = filepath.Join(dir, name)
		text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return name, text
	}
	certFile, certText := write("server.crt", "CERTIFICATE", der)
	keyFile, keyText := write("server.key", "PRIVATE KEY", pkcs8)
	if cert, err = tls.X509KeyPair(certText, keyText); err != nil {
		t.Fatal(err)
	}
	return cert, certFile, keyFile
}

// TestTLS: HTTP/1.1 and HTTP/2 over TLS, and with ca_file only clients that have a certificate.
func TestTLS(t *testing.T) {
	t.Parallel()
	cert, certFile, keyFile := pair(t)
	for _, row := range []struct {
		name    string
		caFile  string
		client  []tls.Certificate
		http2   bool
		refused bool
	}{
		{name: "HTTP/1.1"},
		{name: "HTTP/2", http2: true},
		{name: "no client certificate", caFile: certFile, refused: true},
		{name: "client certificate", caFile: certFile, client: []tls.Certificate{cert}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(c *Config) { c.CertFile, c.KeyFile, c.CAFile = certFile, keyFile, row.caFile })
			s.run(t, nil)
			roots := x509.NewCertPool()
			roots.AddCert(cert.Leaf)
			tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: row.client}, ForceAttemptHTTP2: row.http2}
			defer tr.CloseIdleConnections()
			r, err := http.NewRequest(http.MethodPost, "https://"+s.Addr().String()+"/v1/track", strings.NewReader(track))
			if err != nil {
				t.Fatal(err)
			}
			r.SetBasicAuth("KEY1", "")
			resp, err := tr.RoundTrip(r)
			if row.refused {
				if err == nil {
					t.Errorf("answered %s", resp.Status)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if resp.StatusCode != http.StatusOK || string(text) != "ok" || err != nil || (resp.ProtoMajor == 2) != row.http2 {
				t.Errorf("%s %s %q, %v", resp.Proto, resp.Status, text, err)
			}
			s.empty(t)
		})
	}
}
