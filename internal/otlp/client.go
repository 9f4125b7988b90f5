package otlp

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/httpclient"
)

// defaultTimeout is the specification's, for one export.
const defaultTimeout = 10 * time.Second

// Client sends the exports of a signal by the rules of all our clients, with the certificates
// and the timeout that the environment names for exporters. An error is a setting that could
// never work.
func (s Settings) Client(signal string) (*http.Client, error) { return client(signal, os.Getenv) }

func client(signal string, env func(string) string) (*http.Client, error) {
	// find is the value of the signal's own variable, or of that for all, and its name.
	find := func(name string) (value, from string) {
		own, all := "OTEL_EXPORTER_OTLP_"+strings.ToUpper(signal)+"_"+name, "OTEL_EXPORTER_OTLP_"+name
		if v := env(own); v != "" {
			return v, own
		}
		return env(all), all
	}
	o := httpclient.Options{Timeout: defaultTimeout}
	if v, from := find("TIMEOUT"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%s is %q: write a number of milliseconds", from, v)
		}
		o.Timeout = cmp.Or(time.Duration(n)*time.Millisecond, o.Timeout)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if name, from := find("CERTIFICATE"); name != "" {
		pem, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read the file that %s names: %w", from, err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s names %s, which holds no certificate in PEM form", from, name)
		}
	}
	cert, fromCert := find("CLIENT_CERTIFICATE")
	key, fromKey := find("CLIENT_KEY")
	if (cert == "") != (key == "") {
		return nil, errors.New("one of " + fromCert + " and " + fromKey + " is set without the other: set both, or none")
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("read the files that %s and %s name: %w", fromCert, fromKey, err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	o.TLS = conf
	return httpclient.New(o).HTTP(), nil
}
