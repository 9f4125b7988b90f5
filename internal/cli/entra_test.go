//go:build linux

// Only there a variable of the environment names the authorities that a process trusts.

package cli_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/cloud/azure"
	"github.com/weirdata/weir/internal/enginetest"
)

// TestEntra: with each way in which Microsoft Entra ID knows a process, it gets tokens there, and
// a hub behind TLS that looks at them, and a container that does, let it read, write and keep
// checkpoints. Who shows something wrong is told what to do.
func TestEntra(t *testing.T) {
	t.Parallel()
	e := enginetest.NewEntra(t)
	container := entraContainer(t, e)
	front := e.TLS(t, enginetest.EventHubs(t))
	application := func(more string) string {
		return fmt.Sprintf("      credentials {\n        client_id = %q\n%s      }\n", e.Client, more)
	}
	tenant := fmt.Sprintf("        tenant_id = %q\n", e.Tenant)
	for name, row := range map[string]struct {
		how         string
		credentials string
		environment []string
	}{
		"secret":      {"secret", application(tenant + fmt.Sprintf("        client_secret = %q\n", e.Secret)), nil},
		"certificate": {"certificate", application(tenant + fmt.Sprintf("        cert_file = %q\n", e.Certificate)), nil},
		"environment": {"secret", "", []string{"AZURE_TENANT_ID=" + e.Tenant, "AZURE_CLIENT_ID=" + e.Client, "AZURE_CLIENT_SECRET=" + e.Secret}},
		"workload":    {"federated", "", []string{"AZURE_TENANT_ID=" + e.Tenant, "AZURE_CLIENT_ID=" + e.Client, "AZURE_FEDERATED_TOKEN_FILE=" + e.Federated}},
		"machine":     {"machine", application(""), e.Machine()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := trustingHub(t, e), trustingHub(t, e)
			p := entraProcess(t, e, entraConfig(front, container, row.credentials, from, to), row.environment, "check", "--connect", "weir.hcl")
			if p.wait() != 0 {
				t.Fatalf("check --connect is not content:\n%s\n%s", p.out, p.err)
			}
			from.Append(t, 0, "one", "two", "three")
			before := e.Issued(row.how)
			p = entraProcess(t, e, entraConfig(front, container, row.credentials, from, to), row.environment, "run", "weir.hcl")
			eventually(t, "the events to arrive", func() bool { return len(to.Events(t, 0)) >= 3 })
			p.stops(0)
			if n := e.Issued(row.how) - before; n == 0 {
				t.Errorf("no token was given out for %s", row.how)
			}
			if n := to.Do(t, "state", nil)["tokens"].(float64); n == 0 {
				t.Error("the hub has seen no token")
			}
			from.Append(t, 0, "four")
			p = entraProcess(t, e, entraConfig(front, container, row.credentials, from, to), row.environment, "run", "weir.hcl")
			eventually(t, "another event to arrive", func() bool { return len(to.Events(t, 0)) >= 4 })
			p.stops(0)
			var got []string
			for _, one := range to.Events(t, 0) {
				got = append(got, one.Body)
			}
			if strings.Join(got, " ") != "one two three four" {
				t.Errorf("%q have arrived", got)
			}
		})
	}
	t.Run("a wrong secret", func(t *testing.T) {
		t.Parallel()
		from, to := trustingHub(t, e), trustingHub(t, e)
		p := entraProcess(t, e, entraConfig(front, container, application(tenant+"        client_secret = \"wrong-4711-word\"\n"), from, to), nil, "check", "--connect", "weir.hcl")
		if p.wait() == 0 {
			t.Error("it is content")
		}
		said := p.out.String() + p.err.String()
		if !strings.Contains(said, "AADSTS7000215") || !strings.Contains(said, "client_secret") || strings.Contains(said, "4711") {
			t.Errorf("it says:\n%s", said)
		}
	})
	t.Run("a token that the hub does not take", func(t *testing.T) {
		t.Parallel()
		from, to := trustingHub(t, e), trustingHub(t, e)
		to.Do(t, "trust", map[string]any{"keys": string(e.Keys()), "audience": "https://somebody.example.com"})
		p := entraProcess(t, e, entraConfig(front, container, application(tenant+fmt.Sprintf("        client_secret = %q\n", e.Secret)), from, to), nil, "check", "--connect", "weir.hcl")
		if p.wait() == 0 {
			t.Error("it is content")
		}
		if said := p.out.String() + p.err.String(); !strings.Contains(said, "Azure Event Hubs Data Sender") {
			t.Errorf("it says:\n%s", said)
		}
	})
}

// trustingHub takes the tokens of e.
func trustingHub(t *testing.T, e *enginetest.Entra) enginetest.EventHub {
	t.Helper()
	hub := enginetest.NewEventHub(t, 1)
	hub.Do(t, "trust", map[string]any{"keys": string(e.Keys()), "audience": "https://eventhubs.azure.net"})
	return hub
}

func entraConfig(front, container, credentials string, from, to enginetest.EventHub) string {
	const hub = "      namespace = \"acme.servicebus.windows.net\"\n      custom_endpoint = %q\n      name = %q\n%s"
	return fmt.Sprintf("pipeline \"p\" {\n  source {\n    use \"eventhub\" {\n"+hub+"      checkpoints {\n        container_url = %q\n      }\n    }\n  }\n  target {\n    use \"eventhub\" {\n"+hub+"    }\n  }\n}\n",
		front, from.Name, credentials, container, front, to.Name, credentials)
}

func entraProcess(t *testing.T, e *enginetest.Entra, config string, environment []string, args ...string) *process {
	t.Helper()
	c := weir(t, files(t, "weir.hcl", config), args...)
	c.Env = append(append(c.Env, e.Environment()...), environment...)
	return launch(t, c)
}

// entraContainer makes a container of a Blob storage that takes the tokens of e.
func entraContainer(t *testing.T, e *enginetest.Entra) string {
	t.Helper()
	account, key := enginetest.AzuriteAccount()
	at := enginetest.AzuriteFor(t, e) + "/" + account + "/checkpoints"
	authority, err := os.ReadFile(e.Authority)
	if err != nil {
		t.Fatal(err)
	}
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM(authority)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS12}}}
	defer client.CloseIdleConnections()
	c, err := azure.ContainerName{URL: at, AccountKey: key, Client: client}.Container()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return at
}
