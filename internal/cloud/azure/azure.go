// Package azure is how the product comes to Azure: one way to the credentials of every client
// of the SDK, to a hub of Event Hubs and to a container of Blob storage, and one table of what
// their errors mean.
//
// # Credentials
//
// A key is for one service, a connection string or a name and a value; an identity of Microsoft
// Entra ID is for all of them. What a config says counts first; then the environment, keys before
// identities: EVENTHUB_CONNECTION_STRING, EVENTHUB_KEY_NAME with EVENTHUB_KEY_VALUE,
// AZURE_TENANT_ID and AZURE_CLIENT_ID with AZURE_CLIENT_SECRET, AZURE_CERTIFICATE_PATH or
// AZURE_CLIENT_CERTIFICATE_PATH; then the standard chain of the SDK (workload identity, managed
// identity, the Azure CLI).
//
// # Rules
//
//   - Making a client touches no network, and asks for no token.
//   - The SDK does not try again what failed, but for a link of AMQP that the other side has
//     ended, which it opens once more: what is tried again, and when, the engine decides.
//   - No error says a secret: keys in use are hidden in it.
package azure

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/weirdata/weir/internal/connector"
)

// Credentials are who asks, where the environment does not say so.
type Credentials struct {
	// Connection string of the namespace or of the hub, with the name and the value of a key.
	// With UseDevelopmentEmulator=true in it the connection is not encrypted.
	ConnectionString string `hcl:"connection_string,optional"`
	// Name of a shared access key, as in RootManageSharedAccessKey.
	KeyName string `hcl:"key_name,optional"`
	// Value of the shared access key.
	KeyValue string `hcl:"key_value,optional"`
	// Tenant of an application that is registered in Microsoft Entra ID.
	TenantID string `hcl:"tenant_id,optional"`
	// Client ID of the application; of a managed identity when tenant_id is not set.
	ClientID string `hcl:"client_id,optional"`
	// Secret of the application.
	ClientSecret string `hcl:"client_secret,optional"`
	// Certificate of the application with its private key, PEM or PKCS#12, in place of a
	// secret. A relative path means from the directory of the config file.
	CertFile string `hcl:"cert_file,optional"`
	// Password of cert_file, if it has one.
	CertPassword string `hcl:"cert_password,optional"`
}

// Validate names what could never work.
func (c *Credentials) Validate() []connector.Problem {
	if c == nil {
		return nil
	}
	var ps []connector.Problem
	add := func(field, what, fix string) {
		ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix})
	}
	ways := 0
	for _, set := range []bool{c.ConnectionString != "", c.KeyName != "" || c.KeyValue != "", c.TenantID != "" || c.ClientID != ""} {
		if set {
			ways++
		}
	}
	if ways > 1 {
		add("", "there is more than one way to credentials", "keep one of connection_string, key_name with key_value, and client_id with what belongs to it")
	}
	if (c.KeyName == "") != (c.KeyValue == "") {
		add("key_name", "key_name and key_value belong together", "set both; check that their environment variables have values")
	}
	if c.ConnectionString != "" {
		if err := ParseConnection(c.ConnectionString).check(); err != nil {
			add("connection_string", err.Error(), "copy it whole: Endpoint=sb://NAMESPACE.servicebus.windows.net/;SharedAccessKeyName=...;SharedAccessKey=...")
		}
	}
	proven := c.ClientSecret != "" || c.CertFile != ""
	switch {
	case c.TenantID != "" && c.ClientID == "":
		add("tenant_id", "tenant_id needs client_id", "add client_id and client_secret or cert_file")
	case c.TenantID != "" && !proven:
		add("client_id", "an application needs a secret or a certificate", "add client_secret or cert_file; for a managed identity leave out tenant_id")
	case c.TenantID == "" && proven:
		add("tenant_id", "an application needs its tenant", "add tenant_id")
	case c.ClientSecret != "" && c.CertFile != "":
		add("cert_file", "there are a secret and a certificate", "keep one of client_secret and cert_file")
	}
	return ps
}

// Environment is where credentials are looked for that a config does not have; tests have their own.
type Environment func(name string) string

// from completes c from the environment: only as a whole, so that no half of one identity
// meets a half of another.
func (c *Credentials) from(env Environment) Credentials {
	if c != nil && *c != (Credentials{}) {
		return *c
	}
	if s := env("EVENTHUB_CONNECTION_STRING"); s != "" {
		return Credentials{ConnectionString: s}
	}
	if name, value := env("EVENTHUB_KEY_NAME"), env("EVENTHUB_KEY_VALUE"); name != "" && value != "" {
		return Credentials{KeyName: name, KeyValue: value}
	}
	return application(env)
}

// application is the identity of the environment; without one there is the standard chain.
func application(env Environment) Credentials {
	var c Credentials
	tenant, client := env("AZURE_TENANT_ID"), env("AZURE_CLIENT_ID")
	if tenant == "" || client == "" {
		return c
	}
	secret, file := env("AZURE_CLIENT_SECRET"), first(env("AZURE_CERTIFICATE_PATH"), env("AZURE_CLIENT_CERTIFICATE_PATH"))
	switch {
	case secret != "":
		return Credentials{TenantID: tenant, ClientID: client, ClientSecret: secret}
	case file != "":
		return Credentials{TenantID: tenant, ClientID: client, CertFile: file, CertPassword: first(env("AZURE_CERTIFICATE_PASSWORD"), env("AZURE_CLIENT_CERTIFICATE_PASSWORD"))}
	}
	return c
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// identity is the identity of Microsoft Entra ID that c names. read reads a file that a config
// names; the files of the environment are read where it says.
func (c Credentials) identity(configured bool, read func(field, name string) ([]byte, error)) (azcore.TokenCredential, error) {
	switch {
	case c.ClientSecret != "":
		cred, err := azidentity.NewClientSecretCredential(c.TenantID, c.ClientID, c.ClientSecret, nil)
		return cred, told(err)
	case c.CertFile != "":
		if !configured {
			read = func(_, name string) ([]byte, error) { return os.ReadFile(name) }
		}
		data, err := read("credentials.cert_file", c.CertFile)
		if err != nil {
			return nil, connector.Blame("credentials.cert_file", "name a file that can be read", fmt.Errorf("read the certificate: %w", err))
		}
		var password []byte
		if c.CertPassword != "" {
			password = []byte(c.CertPassword)
		}
		certs, key, err := azidentity.ParseCertificates(data, password)
		if err != nil {
			return nil, connector.Blame("credentials.cert_file", "the file has to hold a certificate and its private key, PEM or PKCS#12, and cert_password has to be its password", fmt.Errorf("read the certificate %s: %w", c.CertFile, err))
		}
		cred, err := azidentity.NewClientCertificateCredential(c.TenantID, c.ClientID, certs, key, nil)
		return cred, told(err)
	case c.ClientID != "":
		cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(c.ClientID)})
		return cred, told(err)
	}
	cred, err := azidentity.NewDefaultAzureCredential(nil)
	return cred, told(err)
}

func told(err error) error {
	if err == nil {
		return nil
	}
	return connector.Blame("credentials", "correct the credentials", fmt.Errorf("use the credentials: %w", err))
}

// Connection is what a connection string says.
type Connection struct {
	Host      string // with a port, if it has one
	Hub       string // EntityPath; may be empty
	KeyName   string
	KeyValue  string
	Signature string
	Emulator  bool

	bad string
}

// ParseConnection reads a connection string of Event Hubs. Names of its parts have no case.
func ParseConnection(s string) Connection {
	var c Connection
	for part := range strings.SplitSeq(s, ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, found := strings.Cut(part, "=")
		if !found {
			c.bad = "a part of the connection string has no \"=\""
			continue
		}
		switch strings.ToLower(name) {
		case "endpoint":
			_, host, whole := strings.Cut(value, "://")
			if !whole {
				host = value
			}
			c.Host = strings.TrimRight(host, "/")
		case "entitypath":
			c.Hub = value
		case "sharedaccesskeyname":
			c.KeyName = value
		case "sharedaccesskey":
			c.KeyValue = value
		case "sharedaccesssignature":
			c.Signature = value
		case "usedevelopmentemulator":
			c.Emulator = strings.EqualFold(value, "true")
		}
	}
	return c
}

func (c Connection) check() error {
	switch {
	case c.bad != "":
		return errors.New(c.bad)
	case c.Host == "":
		return errors.New("the connection string has no Endpoint")
	case c.Signature == "" && (c.KeyName == "" || c.KeyValue == ""):
		return errors.New("the connection string has no SharedAccessKeyName with SharedAccessKey, and no SharedAccessSignature")
	}
	return nil
}

// text is c as a connection string for one hub.
func (c Connection) text(hub string) string {
	var b strings.Builder
	b.WriteString("Endpoint=sb://" + c.Host + "/;")
	if c.Signature != "" {
		b.WriteString("SharedAccessSignature=" + c.Signature + ";")
	} else {
		b.WriteString("SharedAccessKeyName=" + c.KeyName + ";SharedAccessKey=" + c.KeyValue + ";")
	}
	b.WriteString("EntityPath=" + hub)
	if c.Emulator {
		b.WriteString(";UseDevelopmentEmulator=true")
	}
	return b.String()
}
