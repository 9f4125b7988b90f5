package aws

import (
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// Closable gives cfg an HTTP client of its own whose idle connections can be closed, by the
// function that it returns. Clients are to be made from cfg after that.
func Closable(cfg *aws.Config) (closeIdle func()) {
	b, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		return func() {}
	}
	c := &http.Client{Transport: b.GetTransport(), Timeout: b.GetTimeout(), CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // a signed request is for one host
	}}
	cfg.HTTPClient = c
	return c.CloseIdleConnections
}
