package azure

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/secret"
)

// domain is where namespaces are that are named without one.
const domain = ".servicebus.windows.net"

// HubName says which hub, and how to come to it.
type HubName struct {
	Namespace string // its name, or its whole host name
	Name      string
	// Endpoint is a host to connect to in place of the namespace's own; empty is none.
	Endpoint    string
	Credentials *Credentials
	Version     string // the product's, for the user agent
	// Read reads a file that the config names.
	Read func(field, name string) ([]byte, error)
	// Environment is os.Getenv where it is nil.
	Environment Environment
}

// Validate names what could never work.
func (h HubName) Validate() []connector.Problem {
	var ps []connector.Problem
	add := func(field, what, fix string) {
		ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix})
	}
	if h.Namespace == "" {
		add("namespace", "namespace is empty", `name the namespace: namespace = "acme", or its host acme.servicebus.windows.net`)
	} else if strings.ContainsAny(h.Namespace, "/;= ") {
		add("namespace", fmt.Sprintf("namespace is neither a name nor a host: %s", secret.Text(h.Namespace)), `write the name alone, as in namespace = "acme"`)
	}
	if h.Name == "" {
		add("name", "name is empty", "name the event hub")
	} else if strings.ContainsAny(h.Name, "?#; ") || strings.HasPrefix(h.Name, "/") {
		add("name", fmt.Sprintf("name is no name of an event hub: %q", h.Name), "use letters, digits, dots, dashes and underscores")
	}
	if h.Endpoint != "" && strings.Contains(h.Endpoint, "/") {
		add("custom_endpoint", fmt.Sprintf("custom_endpoint is not a host: %s", secret.URL(h.Endpoint)), `write the host, as in custom_endpoint = "10.0.0.4"`)
	}
	return append(ps, connector.Under("credentials", h.Credentials.Validate())...)
}

// Hub is a hub of a namespace, to which clients can be made. It holds no connection.
type Hub struct {
	// Host is the host name of the namespace, Name that of the hub.
	Host, Name string

	connection string
	identity   azcore.TokenCredential
	endpoint   string
	agent      string
	hidden     secret.Values
	way        string // which credentials were found, for messages
}

// Hub finds the credentials of a hub. It touches no network.
func (h HubName) Hub() (*Hub, error) {
	env := h.Environment
	if env == nil {
		env = os.Getenv
	}
	configured := h.Credentials != nil && *h.Credentials != (Credentials{})
	c := h.Credentials.from(env)
	hub := &Hub{Host: h.Namespace, Name: h.Name, endpoint: h.Endpoint, agent: strings.TrimSuffix("weir/"+h.Version, "/")}
	if !strings.Contains(h.Namespace, ".") && !strings.Contains(h.Namespace, ":") && h.Namespace != "localhost" {
		hub.Host += domain
	}
	hub.hidden.Add(c.KeyValue, c.ClientSecret, c.CertPassword)
	var conn Connection
	switch {
	case c.ConnectionString != "":
		conn, hub.way = ParseConnection(c.ConnectionString), "connection string"
		if err := conn.check(); err != nil {
			return nil, connector.Blame("credentials.connection_string", "copy it whole from the namespace's shared access policies", err)
		}
		// The environment may be that of several configs: of its connection string the key counts.
		if !configured && !conn.Emulator {
			conn.Host = hub.Host
			break
		}
		if err := hub.agrees(conn); err != nil {
			return nil, err
		}
		hub.Host = conn.Host
	case c.KeyName != "":
		conn, hub.way = Connection{Host: hub.Host, KeyName: c.KeyName, KeyValue: c.KeyValue}, "key "+c.KeyName
	default:
		var err error
		hub.way = "identity"
		hub.identity, err = c.identity(configured, h.Read)
		return hub, err
	}
	hub.hidden.Add(conn.KeyValue, conn.Signature)
	hub.connection = conn.text(h.Name)
	return hub, nil
}

// agrees reports whether a connection string is for the hub that the config names.
func (h *Hub) agrees(c Connection) error {
	if c.Hub != "" && !strings.EqualFold(c.Hub, h.Name) {
		return connector.Blame("name", fmt.Sprintf("write name = %q, or use the connection string of the hub %q", c.Hub, h.Name),
			fmt.Errorf("the connection string is for the hub %q (EntityPath), and name is %q", c.Hub, h.Name))
	}
	name, _, _ := strings.Cut(h.Host, ":")
	host, _, _ := strings.Cut(c.Host, ":")
	if !c.Emulator && !strings.EqualFold(name, host) {
		return connector.Blame("namespace", fmt.Sprintf("write namespace = %q, or use the connection string of %s", strings.TrimSuffix(host, domain), name),
			fmt.Errorf("the connection string is for the namespace %s, and namespace is %s", host, name))
	}
	return nil
}

// Way is which credentials were found, without what is secret of them.
func (h *Hub) Way() string { return h.way }

// noRetries leaves it to the engine what is tried again.
var noRetries = azeventhubs.RetryOptions{MaxRetries: -1}

// Consumer makes a client that reads. instance is what the service calls its readers.
func (h *Hub) Consumer(group, instance string) (*azeventhubs.ConsumerClient, error) {
	o := &azeventhubs.ConsumerClientOptions{ApplicationID: h.agent, InstanceID: instance, CustomEndpoint: h.endpoint, RetryOptions: noRetries}
	if h.connection == "" {
		return azeventhubs.NewConsumerClient(h.Host, h.Name, group, h.identity, o)
	}
	return azeventhubs.NewConsumerClientFromConnectionString(h.connection, "", group, o)
}

// Producer makes a client that writes, and sends again up to retries times by itself what the
// service did not answer for.
func (h *Hub) Producer(retries int) (*azeventhubs.ProducerClient, error) {
	o := &azeventhubs.ProducerClientOptions{ApplicationID: h.agent, CustomEndpoint: h.endpoint, RetryOptions: noRetries}
	if retries > 0 {
		o.RetryOptions = azeventhubs.RetryOptions{MaxRetries: int32(min(retries, 100)), RetryDelay: busyPause + time.Second, MaxRetryDelay: 30 * time.Second}
	}
	if h.connection == "" {
		return azeventhubs.NewProducerClient(h.Host, h.Name, h.identity, o)
	}
	return azeventhubs.NewProducerClientFromConnectionString(h.connection, "", o)
}
