package azure

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/secret"
)

// ContainerName says which container of Blob storage, and how to come to it.
type ContainerName struct {
	// URL is https://ACCOUNT.blob.core.windows.net/CONTAINER; that of an emulator has the account
	// in its path. It may carry a shared access signature.
	URL string
	// ConnectionString or AccountKey are the key of the account; with neither, the identity of
	// Credentials or of the environment is used.
	ConnectionString string
	AccountKey       string
	Credentials      *Credentials
	Read             func(field, name string) ([]byte, error)
	Environment      Environment
	// Client sends the requests; nil is one of the SDK's own.
	Client policy.Transporter
}

// Validate names what could never work.
func (n ContainerName) Validate() []connector.Problem {
	var ps []connector.Problem
	u, err := url.Parse(n.URL)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		ps = append(ps, connector.Problem{Field: "container_url", What: "container_url is not the URL of a container", Fix: `write container_url = "https://ACCOUNT.blob.core.windows.net/CONTAINER"`})
	case strings.Trim(u.Path, "/") == "":
		ps = append(ps, connector.Problem{Field: "container_url", What: "container_url names no container", Fix: `add the container: container_url = "` + u.Scheme + "://" + u.Host + `/CONTAINER"`})
	}
	if n.ConnectionString != "" && n.AccountKey != "" {
		ps = append(ps, connector.Problem{Field: "account_key", What: "there are connection_string and account_key", Fix: "keep one of them"})
	}
	return ps
}

// Container is a container that clients can be made to.
type Container struct {
	*container.Client
	name   string // its URL without what is secret
	hidden secret.Values
}

// Container makes the client of a container. It touches no network.
func (n ContainerName) Container() (*Container, error) {
	u, err := url.Parse(n.URL)
	if err != nil {
		return nil, connector.Blame("container_url", "write the URL of a container", errors.New("container_url is not a URL"))
	}
	c := &Container{name: u.Scheme + "://" + u.Host + u.Path}
	c.hidden.Add(n.AccountKey)
	if u.RawQuery != "" {
		c.hidden.AddURL(u)
	}
	o := &container.ClientOptions{}
	o.Transport = n.Client
	o.Retry = policy.RetryOptions{MaxRetries: -1}
	segments := strings.Split(strings.Trim(u.Path, "/"), "/")
	account, _, _ := strings.Cut(u.Host, ".")
	if len(segments) > 1 {
		account = segments[0]
	}
	key := n.AccountKey
	if n.ConnectionString != "" {
		if key = keyOf(n.ConnectionString); key == "" {
			return nil, connector.Blame("connection_string", "copy it whole from the storage account's access keys", errors.New("the connection string has no AccountKey"))
		}
		c.hidden.Add(key, n.ConnectionString)
	}
	switch {
	case key != "":
		shared, err := container.NewSharedKeyCredential(account, key)
		if err != nil {
			return nil, connector.Blame("account_key", "copy it whole from the storage account's access keys", errors.New("the key of the storage account is not base64"))
		}
		c.Client, err = container.NewClientWithSharedKeyCredential(n.URL, shared, o)
		return c, told(err)
	case u.RawQuery != "":
		c.Client, err = container.NewClientWithNoCredential(n.URL, o)
		return c, told(err)
	}
	env := n.Environment
	if env == nil {
		env = os.Getenv
	}
	configured := n.Credentials != nil && n.Credentials.ClientID != ""
	who := application(env)
	if configured {
		who = *n.Credentials
	}
	identity, err := who.identity(configured, n.Read)
	if err != nil {
		return nil, err
	}
	c.hidden.Add(who.ClientSecret, who.CertPassword)
	c.Client, err = container.NewClient(n.URL, identity, o)
	return c, told(err)
}

// keyOf is the key in a connection string of a storage account; empty if it has none.
func keyOf(s string) string {
	for part := range strings.SplitSeq(s, ";") {
		if name, value, _ := strings.Cut(strings.TrimSpace(part), "="); strings.EqualFold(name, "AccountKey") {
			return value
		}
	}
	return ""
}

// Fault gives an error of the SDK its meaning, as [Hub.Fault] does.
func (c *Container) Fault(what string, err error) error {
	if err == nil {
		return nil
	}
	kind, after, fix := weigh(err)
	text := fmt.Sprintf("%s %s: %s", what, c.name, c.hidden.Hide(secret.Text(plain(err))))
	if fix != "" {
		text += "; " + fix
	}
	return &fault.Error{Kind: kind, Err: &said{text, err}, After: after}
}
