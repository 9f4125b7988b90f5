package tlsconfig

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/fault"
)

// authority signs certificates for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
	dir  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, _ = x509.ParseCertificate(der)
	a.key = key
	a.file = filepath.Join(a.dir, "ca.pem")
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

// issue writes a certificate for 127.0.0.1 with the given common name.
func (a *authority) issue(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key")
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "PRIVATE KEY", pkcs8)
	return certFile, keyFile
}

func writePEM(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// handshake runs one TLS connection over loopback and returns what each side saw.
func handshake(t *testing.T, server, client *tls.Config) (peer string, serverErr, clientErr error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		s := tls.Server(c, server)
		if err = s.Handshake(); err == nil {
			_, err = s.Write([]byte("x"))
		}
		done <- err
	}()
	if client.ServerName == "" {
		client = client.Clone()
		client.ServerName = "127.0.0.1"
	}
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	c := tls.Client(raw, client)
	// The server's verdict on our certificate arrives with the first read in TLS 1.3.
	_, clientErr = io.ReadFull(c, make([]byte, 1))
	if clientErr == nil {
		peer = c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	raw.Close()
	return peer, <-done, clientErr
}

func TestEachSettingWorksAlone(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cert, key := a.issue(t, "server")
	server, err := Settings{CertFile: cert, KeyFile: key}.Server()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		s    Settings
		ok   bool
	}{
		{"nothing set does not trust a private authority", Settings{}, false},
		{"CA alone", Settings{CAFile: a.file}, true},
		{"skip verify alone", Settings{SkipVerify: true}, true},
		{"wrong server name", Settings{CAFile: a.file, ServerName: "elsewhere.example"}, false},
		{"relative CA from the config's folder", Settings{CAFile: "ca.pem", Dir: a.dir}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			client, err := tc.s.Client()
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = handshake(t, server, client)
			if (err == nil) != tc.ok {
				t.Fatalf("handshake: %v, want success: %v", err, tc.ok)
			}
		})
	}
}

func TestServerWithAuthorityDemandsAClientCertificate(t *testing.T) {
	t.Parallel()
	a, stranger := newAuthority(t), newAuthority(t)
	cert, key := a.issue(t, "server")
	server, err := Settings{CertFile: cert, KeyFile: key, CAFile: a.file}.Server()
	if err != nil {
		t.Fatal(err)
	}
	ours, oursKey := a.issue(t, "client")
	theirs, theirsKey := stranger.issue(t, "client")
	for name, tc := range map[string]struct {
		s  Settings
		ok bool
	}{
		"no certificate":      {Settings{CAFile: a.file}, false},
		"another authority's": {Settings{CAFile: a.file, CertFile: theirs, KeyFile: theirsKey}, false},
		"ours":                {Settings{CAFile: a.file, CertFile: ours, KeyFile: oursKey}, true},
	} {
		client, err := tc.s.Client()
		if err != nil {
			t.Fatal(err)
		}
		_, serverErr, clientErr := handshake(t, server, client)
		if ok := serverErr == nil && clientErr == nil; ok != tc.ok {
			t.Errorf("%s: server %v, client %v, want success: %v", name, serverErr, clientErr, tc.ok)
		}
	}
}

func TestCertificateIsReloaded(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cert, key := a.issue(t, "server")
	synctest.Test(t, func(t *testing.T) {
		s := Settings{CertFile: cert, KeyFile: key}
		kp, err := s.keyPair()
		if err != nil {
			t.Fatal(err)
		}
		before := kp.current()
		// The key of another pair: a half-finished replacement must not be used.
		otherCert, otherKey := a.issue(t, "next")
		replace(t, otherKey, key)
		time.Sleep(recheck)
		if kp.current() != before {
			t.Fatal("a certificate with the wrong key was taken")
		}
		replace(t, otherCert, cert)
		if kp.current() != before {
			t.Fatal("files were looked at before the recheck time")
		}
		time.Sleep(recheck)
		if kp.current() == before {
			t.Fatal("the new certificate was not taken")
		}
		if err := os.Remove(cert); err != nil {
			t.Fatal(err)
		}
		time.Sleep(recheck)
		if kp.current() == nil {
			t.Fatal("the certificate vanished with its file")
		}
	})
}

// replace copies from over to, with a modification time that differs for certain.
func replace(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(time.Hour)
	if err := os.Chtimes(to, at, at); err != nil {
		t.Fatal(err)
	}
}

func TestErrorsAreSetupFaultsAndSayWhat(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cert, key := a.issue(t, "one")
	empty := filepath.Join(a.dir, "empty.pem")
	if err := os.WriteFile(empty, []byte("no pem here"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		s    Settings
		want string
	}{
		{Settings{CertFile: cert}, "cert_file is set without key_file"},
		{Settings{KeyFile: key}, "key_file is set without cert_file"},
		{Settings{CAFile: filepath.Join(a.dir, "absent.pem")}, "read ca_file"},
		{Settings{CAFile: empty}, "holds no certificate"},
		{Settings{CertFile: empty, KeyFile: key}, "load cert_file and key_file"},
	} {
		_, err := tc.s.Client()
		if err == nil || !strings.Contains(err.Error(), tc.want) || fault.Of(err) != fault.Setup {
			t.Errorf("Client(%+v) = %v (%v), want a setup fault with %q", tc.s, err, fault.Of(err), tc.want)
		}
	}
	if _, err := (Settings{}).Server(); err == nil || !strings.Contains(err.Error(), "cert_file and key_file are not set") {
		t.Errorf("Server without a certificate: %v", err)
	}
	if _, err := (Settings{CAFile: filepath.Join(a.dir, "absent.pem"), CertFile: cert, KeyFile: key}).Server(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Server with an absent CA: %v", err)
	}
}
