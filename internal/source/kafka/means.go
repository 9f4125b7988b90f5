package kafkasource

import (
	"time"

	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/kafka"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/tlsconfig"
)

// means are what a connection is made by. Files are read from dir.
func means(c kafka.Connection, dir string) (by kafka.Means, err error) {
	if c.EnableTLS {
		settings := tlsconfig.Settings{CertFile: c.CertFile, KeyFile: c.KeyFile, CAFile: c.CAFile, SkipVerify: c.SkipVerifyTLS, Dir: dir}
		if by.TLS, err = settings.Client(); err != nil {
			return by, err
		}
	}
	if c.SASLOAuth != nil {
		client := httpclient.New(httpclient.Options{Timeout: 10 * time.Second})
		by.Token = httpclient.NewOAuthClient(httpclient.OAuthClient(*c.SASLOAuth), client).Bearer
	}
	return by, nil
}

// Measure implements meter.Measured.
func (s *Source) Measure(emit meter.Emit) { meter.Certificate(s.tls, emit) }
