// Package tlsconfig turns the TLS settings of a connector's config into a [tls.Config].
//
// Rules that hold for every connector that uses it:
//
//   - Each setting works alone: a CA without a client certificate, a client certificate
//     without a CA, and skipping verification without either.
//   - A CA file adds to the system's pool on the client side, and is the only pool on the
//     server side, where naming it makes a client certificate mandatory.
//   - A certificate and its key come together; one without the other is refused.
//   - A certificate that is replaced on disk is used from the next handshake on, without
//     a restart. While the new files cannot be read, the old certificate stays in use.
//   - TLS 1.2 is the oldest version spoken.
package tlsconfig

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
)

// Settings are the TLS options of one connector. Paths are PEM files.
type Settings struct {
	// CertFile and KeyFile are our own certificate chain and its private key.
	CertFile, KeyFile string
	// CAFile holds the certificates of the authorities the other side may be signed by.
	CAFile string
	// SkipVerify accepts any certificate of the server. Client side only.
	SkipVerify bool
	// ServerName is checked against the server's certificate instead of the name dialled.
	ServerName string
	// Dir is where relative paths start: the directory of the config file.
	Dir string
}

// Validate names what could never work, by the attribute names every connector uses.
func (s Settings) Validate() []connector.Problem {
	switch {
	case s.CertFile != "" && s.KeyFile == "":
		return []connector.Problem{{Field: "cert_file", What: "cert_file is set without key_file", Fix: "set key_file to the private key of the certificate, or remove cert_file"}}
	case s.KeyFile != "" && s.CertFile == "":
		return []connector.Problem{{Field: "key_file", What: "key_file is set without cert_file", Fix: "set cert_file to the certificate of the key, or remove key_file"}}
	}
	return nil
}

// Identity is equal for settings with the same files; it is empty without a certificate.
func (s Settings) Identity() string {
	if s.CertFile == "" {
		return ""
	}
	return strings.Join([]string{connector.Path(s.Dir, s.CertFile), connector.Path(s.Dir, s.KeyFile), connector.Path(s.Dir, s.CAFile)}, "\n")
}

// Client is the configuration of a connection we open. It reads the named files, so that
// a wrong path is found when the connector is built; its error is a Setup fault.
func (s Settings) Client() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: s.SkipVerify, ServerName: s.ServerName}
	kp, err := s.keyPair()
	if err != nil {
		return nil, err
	}
	if kp != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return kp.current(), nil }
	}
	if s.CAFile != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if c.RootCAs, err = s.authorities(pool); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Server is the configuration of a listener; it needs a certificate. With CAFile set,
// clients must present a certificate signed by one of its authorities.
func (s Settings) Server() (*tls.Config, error) {
	if s.CertFile == "" && s.KeyFile == "" {
		return nil, fault.New(fault.Setup, errors.New("serve TLS: cert_file and key_file are not set"))
	}
	kp, err := s.keyPair()
	if err != nil {
		return nil, err
	}
	c := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return kp.current(), nil },
	}
	if s.CAFile != "" {
		if c.ClientCAs, err = s.authorities(x509.NewCertPool()); err != nil {
			return nil, err
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return c, nil
}

// authorities adds the certificates of CAFile to pool.
func (s Settings) authorities(pool *x509.CertPool) (*x509.CertPool, error) {
	name := connector.Path(s.Dir, s.CAFile)
	pem, err := connector.ReadFile(s.Dir, "ca_file", s.CAFile)
	if err != nil {
		return nil, connector.Blame("ca_file", "name a PEM file that can be read", fmt.Errorf("read ca_file: %w", err))
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, connector.Blame("ca_file", "name a file of certificates in PEM form", fmt.Errorf("read ca_file %s: it holds no certificate in PEM form", name))
	}
	return pool, nil
}

// keyPair loads the certificate, or returns nil when none is configured.
func (s Settings) keyPair() (*keyPair, error) {
	if ps := s.Validate(); len(ps) > 0 {
		return nil, fault.New(fault.Setup, fmt.Errorf("%s: %s", ps[0].What, ps[0].Fix))
	}
	if s.CertFile == "" {
		return nil, nil
	}
	certFile, cerr := connector.File(s.Dir, "cert_file", s.CertFile)
	keyFile, kerr := connector.File(s.Dir, "key_file", s.KeyFile)
	if err := cmp.Or(cerr, kerr); err != nil {
		return nil, err
	}
	kp := &keyPair{certFile: certFile, keyFile: keyFile}
	if err := kp.load(); err != nil {
		return nil, connector.Blame("cert_file", "name PEM files that can be read, of one certificate and its key", fmt.Errorf("load cert_file and key_file: %w", err))
	}
	return kp, nil
}
