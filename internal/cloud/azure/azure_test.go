package azure_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/go-amqp"

	"github.com/weirdata/weir/internal/cloud/azure"
	"github.com/weirdata/weir/internal/fault"
)

const connection = "Endpoint=sb://acme.servicebus.windows.net/;SharedAccessKeyName=send;SharedAccessKey=c2VjcmV0LXNlY3JldA=="

// certificate makes the certificate of an application, in a file.
func certificate(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "weir"}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/application.pem"
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestCredentials: which of the ways to credentials counts, in the config and in the environment.
func TestCredentials(t *testing.T) {
	t.Parallel()
	file := certificate(t)
	app := map[string]string{"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c"}
	with := func(more ...string) map[string]string {
		m := maps.Clone(app)
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	for name, c := range map[string]struct {
		config *azure.Credentials
		env    map[string]string
		want   string // the text of an error, or what the hub says it uses
	}{
		"connection string":                         {&azure.Credentials{ConnectionString: connection}, nil, "connection string"},
		"connection string of this hub":             {&azure.Credentials{ConnectionString: connection + ";EntityPath=EVENTS"}, nil, "connection string"},
		"connection string of another hub":          {&azure.Credentials{ConnectionString: connection + ";EntityPath=orders"}, nil, `for the hub "orders"`},
		"of another namespace":                      {&azure.Credentials{ConnectionString: strings.ReplaceAll(connection, "acme", "other")}, nil, "for the namespace other.servicebus"},
		"half of one":                               {&azure.Credentials{ConnectionString: "Endpoint=sb://acme.servicebus.windows.net/"}, nil, "no SharedAccessKeyName"},
		"key":                                       {&azure.Credentials{KeyName: "send", KeyValue: "value"}, nil, "key send"},
		"environment: connection string":            {nil, with("EVENTHUB_CONNECTION_STRING", connection, "EVENTHUB_KEY_NAME", "k", "EVENTHUB_KEY_VALUE", "v"), "connection string"},
		"environment: of another namespace and hub": {nil, with("EVENTHUB_CONNECTION_STRING", strings.ReplaceAll(connection, "acme", "other")+";EntityPath=orders"), "connection string"},
		"environment: key":                          {nil, with("EVENTHUB_KEY_NAME", "k", "EVENTHUB_KEY_VALUE", "v"), "key k"},
		"environment: half a key":                   {nil, with("EVENTHUB_KEY_NAME", "k", "AZURE_CLIENT_SECRET", "s"), "identity"},
		"environment: secret":                       {nil, with("AZURE_CLIENT_SECRET", "s"), "identity"},
		"environment: certificate":                  {nil, with("AZURE_CERTIFICATE_PATH", file), "identity"},
		"environment: no such certificate":          {nil, with("AZURE_CERTIFICATE_PATH", file+"-not"), "read the certificate"},
		"environment: nothing":                      {nil, nil, "identity"},
		"the config before the environment":         {&azure.Credentials{KeyName: "mine", KeyValue: "v"}, with("EVENTHUB_CONNECTION_STRING", connection), "key mine"},
		"certificate":                               {&azure.Credentials{TenantID: "t", ClientID: "c", CertFile: file}, nil, "identity"},
		"managed identity":                          {&azure.Credentials{ClientID: "c"}, nil, "identity"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, err := azure.HubName{Namespace: "acme", Name: "events", Credentials: c.config, Environment: func(n string) string { return c.env[n] },
				Read: func(_, name string) ([]byte, error) { return os.ReadFile(name) }}.Hub()
			var got string
			if err != nil {
				got = err.Error()
			} else {
				got = h.Way()
				if h.Host != "acme.servicebus.windows.net" || h.Name != "events" {
					t.Errorf("the hub is %s of %s", h.Name, h.Host)
				}
				for _, client := range []func() (io.Closer, error){
					func() (io.Closer, error) { c, err := h.Consumer("$Default", "i"); return closer{c}, err },
					func() (io.Closer, error) { p, err := h.Producer(1); return closer{p}, err },
				} {
					made, err := client()
					if err != nil {
						t.Fatal(err)
					}
					if err := made.Close(); err != nil {
						t.Error(err)
					}
				}
			}
			if !strings.Contains(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
			if strings.Contains(got, "c2VjcmV0") {
				t.Errorf("the key is shown: %s", got)
			}
		})
	}
}

type closer struct {
	c interface{ Close(context.Context) error }
}

func (c closer) Close() error { return c.c.Close(context.Background()) }

// TestValidate: what could never work is named.
func TestValidate(t *testing.T) {
	t.Parallel()
	for want, h := range map[string]azure.HubName{
		"namespace is empty":        {Name: "n"},
		"namespace is neither":      {Namespace: "sb://acme.servicebus.windows.net/", Name: "n"},
		"name is empty":             {Namespace: "acme"},
		"custom_endpoint is not":    {Namespace: "acme", Name: "n", Endpoint: "https://x/y"},
		"more than one way":         {Namespace: "acme", Name: "n", Credentials: &azure.Credentials{ConnectionString: connection, KeyName: "k", KeyValue: "v"}},
		"belong together":           {Namespace: "acme", Name: "n", Credentials: &azure.Credentials{KeyName: "k"}},
		"has no SharedAccessKey":    {Namespace: "acme", Name: "n", Credentials: &azure.Credentials{ConnectionString: "Endpoint=sb://x;SharedAccessKeyName=n"}},
		"tenant_id needs client_id": {Namespace: "acme", Name: "n", Credentials: &azure.Credentials{TenantID: "t"}},
		"a secret or a certificate": {Namespace: "acme", Name: "n", Credentials: &azure.Credentials{TenantID: "t", ClientID: "c"}},
		"needs its tenant":          {Namespace: "acme", Name: "n", Credentials: &azure.Credentials{ClientID: "c", ClientSecret: "s"}},
	} {
		found := false
		for _, p := range h.Validate() {
			found = found || strings.Contains(p.What, want)
			if p.Fix == "" {
				t.Errorf("%s: no way out", p.What)
			}
		}
		if !found {
			t.Errorf("%q is not among %v", want, h.Validate())
		}
	}
	if ps := (azure.HubName{Namespace: "acme", Name: "events", Credentials: &azure.Credentials{ConnectionString: connection}}).Validate(); len(ps) > 0 {
		t.Errorf("what is right: %v", ps)
	}
}

// TestFault: what errors mean, beneath whatever wraps them, and that no secret is in their text.
func TestFault(t *testing.T) {
	t.Parallel()
	h, err := azure.HubName{Namespace: "acme", Name: "events", Credentials: &azure.Credentials{ConnectionString: connection}}.Hub()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		err  error
		want fault.Kind
	}{
		"busy":           {&amqp.Error{Condition: "com.microsoft:server-busy"}, fault.Throttled},
		"busy, detached": {&amqp.LinkError{RemoteErr: &amqp.Error{Condition: "com.microsoft:server-busy"}}, fault.Throttled},
		"unknown":        {&amqp.Error{Condition: "x:y"}, fault.Transient},
		"stolen":         {&amqp.LinkError{RemoteErr: &amqp.Error{Condition: "amqp:link:stolen"}}, fault.Transient},
		"not found":      {&amqp.Error{Condition: "amqp:not-found"}, fault.Setup},
		"cut":            {io.EOF, fault.Transient},
		"cancelled":      {context.Canceled, fault.Transient},
		"no such host":   {&net.DNSError{IsNotFound: true}, fault.Setup},
		"no answer":      {&net.OpError{Op: "dial", Err: errors.New("refused")}, fault.Transient},
		"forbidden blob": {&azcore.ResponseError{StatusCode: http.StatusForbidden, ErrorCode: "AuthorizationFailure"}, fault.Setup},
		"busy storage":   {&azcore.ResponseError{StatusCode: http.StatusServiceUnavailable, ErrorCode: "ServerBusy"}, fault.Throttled},
		"broken storage": {&azcore.ResponseError{StatusCode: http.StatusInternalServerError}, fault.Transient},
	} {
		got := h.Fault("read", fmt.Errorf("around c2VjcmV0LXNlY3JldA==: %w", c.err))
		if fault.Of(got) != c.want || !errors.Is(got, c.err) {
			t.Errorf("%s: %s, want %s: %v", name, fault.Of(got), c.want, got)
		}
		if strings.Contains(got.Error(), "c2VjcmV0") {
			t.Errorf("%s: the key is shown: %v", name, got)
		}
		if c.want == fault.Setup && !strings.Contains(got.Error(), "; ") {
			t.Errorf("%s: nothing says what to do: %v", name, got)
		}
	}
	if h.Fault("read", nil) != nil {
		t.Error("no error became one")
	}
}

// TestContainer: where checkpoints are, and with which key.
func TestContainer(t *testing.T) {
	t.Parallel()
	none := func(string) string { return "" }
	for _, n := range []azure.ContainerName{
		{URL: "https://acme.blob.core.windows.net/checkpoints", AccountKey: "a2V5"},
		{URL: "https://acme.blob.core.windows.net/checkpoints", ConnectionString: "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=a2V5;EndpointSuffix=core.windows.net"},
		{URL: "https://acme.blob.core.windows.net/checkpoints?sv=1&sig=x"},
		{URL: "https://acme.blob.core.windows.net/checkpoints"},
		{URL: "https://acme.blob.core.windows.net/checkpoints", Credentials: &azure.Credentials{TenantID: "t", ClientID: "c", ClientSecret: "s"}},
	} {
		n.Environment = none
		if ps := n.Validate(); len(ps) > 0 {
			t.Errorf("%v", ps)
		}
		if _, err := n.Container(); err != nil {
			t.Error(err)
		}
	}
	for _, n := range []azure.ContainerName{{}, {URL: "acme"}, {URL: "https://acme.blob.core.windows.net/"}, {URL: "https://acme.blob.core.windows.net/c", AccountKey: "a", ConnectionString: "b"}} {
		if len(n.Validate()) == 0 {
			t.Errorf("nothing is wrong with %+v", n)
		}
	}
	if _, err := (azure.ContainerName{URL: "https://acme.blob.core.windows.net/c", AccountKey: "not base64!", Environment: none}).Container(); err == nil {
		t.Error("a key that is none is accepted")
	}
}
