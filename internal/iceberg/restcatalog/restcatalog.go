// Package restcatalog comes to catalogs that speak the REST protocol of Iceberg: Polaris, Lakekeeper,
// Gravitino, Nessie, Unity Catalog, those of AWS (Glue and S3 Tables, whose requests are signed),
// and others. What is asked of them package iceberg says.
//
// Nothing is sent twice here: what became of a request that nobody answered is looked into.
package restcatalog

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/iceberg"
	"github.com/weirdata/weir/internal/secret"
)

// Access is how a catalog is reached.
type Access struct {
	// URL is where the catalog is, without "/v1": "https://catalog.example.com/api/catalog".
	URL string `hcl:"url"`
	// Warehouse is which of the catalog's warehouses; its only one by default.
	Warehouse string `hcl:"warehouse,optional"`
	// Token is a bearer token that requests have; none by default.
	Token string `hcl:"token,optional"`
	// OAuth2 gets tokens that requests have.
	OAuth2 *httpclient.OAuthClient `hcl:"oauth2,block"`
	// SigV4 signs requests, as the catalogs of AWS ask for it.
	SigV4 *SigV4 `hcl:"sigv4,block"`
}

// SigV4 signs requests with the credentials of the environment, profile or role.
type SigV4 struct {
	// Service is what is asked: "glue" (default) or "s3tables".
	Service string `hcl:"service,optional"`
	// Region is the AWS region of the catalog; the one of the environment or profile by default.
	Region string `hcl:"region,optional"`
	// RoleARN is a role to assume; none by default.
	RoleARN string `hcl:"role_arn,optional"`
}

// Problems are what is wrong, as far as can be known without a network. Fields are those of the
// block.
func (a Access) Problems() []connector.Problem {
	var ps []connector.Problem
	if !httpclient.Whole(a.URL) {
		ps = append(ps, connector.Problem{Field: "url", What: fmt.Sprintf("%q is not the address of a catalog", secret.URL(a.URL)), Fix: "write a whole URL, such as https://catalog.example.com/api/catalog"})
	}
	ways := 0
	for _, there := range []bool{a.Token != "", a.OAuth2 != nil, a.SigV4 != nil} {
		if there {
			ways++
		}
	}
	if ways > 1 {
		ps = append(ps, connector.Problem{Field: "url", What: "requests have one of token, oauth2 and sigv4", Fix: "leave the others out"})
	}
	if a.OAuth2 != nil {
		ps = append(ps, connector.Under("oauth2", a.OAuth2.Validate())...)
	}
	if s := a.SigV4; s != nil {
		for _, p := range (aws.Access{Region: s.Region, RoleARN: s.RoleARN}).Problems() {
			p.Field = "sigv4." + p.Field
			ps = append(ps, p)
		}
	}
	return ps
}

// requestTime bounds a request.
const requestTime = time.Minute

// mostBytes is how large an answer may be.
const mostBytes = 256 << 20

// dialled is a catalog that is reached.
type dialled struct {
	client *httpclient.Client
	auth   httpclient.Auth
	base   *url.URL
	agent  string
}

// Open is the catalog that a leads to. It asks nothing of it.
func Open(ctx context.Context, a Access, version string) (iceberg.Catalog, error) {
	base, err := url.Parse(strings.TrimRight(a.URL, "/") + "/")
	if err != nil {
		return nil, fault.New(fault.Setup, fmt.Errorf("the address of the catalog is none: %s", secret.Text(err.Error())))
	}
	d := &dialled{client: httpclient.New(httpclient.Options{Timeout: requestTime}), base: base, agent: "weir/" + version}
	switch {
	case a.Token != "":
		d.auth = httpclient.Header{Name: "Authorization", Value: "Bearer " + a.Token}
	case a.OAuth2 != nil:
		d.auth = httpclient.NewOAuthClient(*a.OAuth2, httpclient.New(httpclient.Options{Timeout: requestTime, Secret: true}))
	case a.SigV4 != nil:
		cfg, err := aws.Load(ctx, aws.Access{Region: a.SigV4.Region, RoleARN: a.SigV4.RoleARN, Version: version})
		if err != nil {
			return nil, err
		}
		service := a.SigV4.Service
		if service == "" {
			service = "glue"
		}
		d.auth = httpclient.NewSigV4(cfg.Region, service, cfg.Credentials)
	}
	return iceberg.REST(d, a.Warehouse), nil
}

// Do implements iceberg.Requests.
func (d *dialled) Do(ctx context.Context, method, path string, query url.Values, body []byte) (status int, answer []byte, err error) {
	u := d.base.String() + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return 0, nil, d.failed(err)
	}
	req.Header.Set("User-Agent", d.agent)
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := d.client.Do(req, d.auth)
	if err != nil {
		return 0, nil, d.failed(err)
	}
	defer resp.Body.Close()
	if answer, err = httpclient.Body(resp, mostBytes); err != nil {
		return 0, nil, d.failed(err)
	}
	if resp.StatusCode == http.StatusUnauthorized && d.auth != nil {
		d.auth.Drop(req) // the next request gets another token
	}
	return resp.StatusCode, answer, nil
}

func (d *dialled) failed(err error) error {
	text := secret.Text(err.Error())
	if d.auth != nil {
		for _, s := range d.auth.Secrets() {
			if s != "" {
				text = strings.ReplaceAll(text, s, "***")
			}
		}
	}
	return fault.New(fault.Of(err), fmt.Errorf("ask the catalog at %s: %s", secret.URL(d.base.String()), text))
}

// Close implements iceberg.Requests.
func (d *dialled) Close() error {
	d.client.Close()
	return nil
}
