// Package gcp is what connectors to Google Cloud have in common: where a service is and as whom
// it is called ([Access]), what its errors mean for delivery ([Failed]), and a connection that
// is made anew when it does not answer any more ([Link]).
//
// # Credentials
//
// Without a file named by the config they are Google's Application Default Credentials:
// GOOGLE_APPLICATION_CREDENTIALS, what `gcloud auth application-default login` has written, the
// service account of the machine or the pod, federation with another cloud's identity. They are
// looked for when a connector is opened, and never sent over a connection that is not encrypted.
//
// # Emulators
//
// A service's variable, PUBSUB_EMULATOR_HOST, leads everything to an emulator, without
// credentials and in the clear, whatever the config says: what is started for a test must not
// reach the real service.
package gcp

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/secret"
)

// Access is where a service is and as whom it is called.
type Access struct {
	// Emulator is the variable of the environment that names the address of an emulator.
	Emulator string
	// Credentials is the path of a file of credentials; empty for the default ones.
	Credentials string
	// Field is the attribute of the config that named it.
	Field string
	// Endpoint is another address of the service than its own: host and port, or a URL; empty
	// for its own. What begins with http:// is called in the clear and without credentials.
	Endpoint string
	// Connections is how many connections share the calls; 0 for what the client takes.
	Connections int
}

// keepalive is how often an idle connection is asked whether it still is one: more often than
// every five minutes, servers refuse.
const keepaliveInterval = 5 * time.Minute

// kinds of files of credentials, each with what the client needs to know of it.
var kinds = []option.CredentialsType{option.ServiceAccount, option.AuthorizedUser, option.ImpersonatedServiceAccount, option.ExternalAccount}

// CheckEndpoint says what is wrong with an endpoint of a config.
func CheckEndpoint(endpoint string) []connector.Problem {
	if endpoint == "" {
		return nil
	}
	address, _, _ := address(endpoint)
	if host, port, err := net.SplitHostPort(address); err == nil && host != "" && port != "" {
		return nil
	}
	return []connector.Problem{{Field: "endpoint", What: fmt.Sprintf("endpoint %q is no address", secret.URL(endpoint)),
		Fix: `write host and port, such as "europe-west1-pubsub.googleapis.com:443", or "http://localhost:8085" for an emulator`}}
}

// address is the host and port of an endpoint, and whether it is called in the clear.
func address(endpoint string) (address string, plain, ok bool) {
	if !strings.Contains(endpoint, "://") {
		return endpoint, false, true
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.User != nil {
		return "", false, false
	}
	plain = u.Scheme == "http"
	switch {
	case u.Port() != "":
		return u.Host, plain, true
	case plain:
		return net.JoinHostPort(u.Hostname(), "80"), plain, true
	}
	return net.JoinHostPort(u.Hostname(), "443"), plain, true
}

// Emulated is the address of the emulator that the environment names; empty when it names none.
func (a Access) Emulated() string { return os.Getenv(a.Emulator) }

// Options are those of a client. The file of credentials is read.
func (a Access) Options() ([]option.ClientOption, error) {
	opts := []option.ClientOption{
		option.WithTelemetryDisabled(), // traces are the pipeline's, not each call's
		option.WithGRPCDialOption(grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveInterval})),
	}
	if a.Connections > 0 {
		opts = append(opts, option.WithGRPCConnectionPool(a.Connections))
	}
	if a.Emulated() != "" {
		return opts, nil // the client reads the variable
	}
	if a.Endpoint != "" {
		to, plain, ok := address(a.Endpoint)
		if !ok {
			return nil, fault.New(fault.Setup, fmt.Errorf("endpoint %q is no address", secret.URL(a.Endpoint)))
		}
		opts = append(opts, option.WithEndpoint(to))
		if plain {
			return append(opts, option.WithoutAuthentication(), option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials()))), nil
		}
	}
	if a.Credentials == "" {
		return opts, nil
	}
	file, err := a.file()
	if err != nil {
		return nil, err
	}
	return append(opts, file), nil
}

// Inspect says what keeps the file of credentials that the config names from being used. It asks
// nobody.
func (a Access) Inspect() error {
	_, err := a.Options()
	return err
}

// file is the option of the file of credentials.
func (a Access) file() (option.ClientOption, error) {
	text, err := os.ReadFile(a.Credentials)
	if err != nil {
		return nil, connector.Blame(a.Field, "create a key of a service account and write its path, or leave the line out to use the default credentials", fmt.Errorf("read the credentials: %w", err))
	}
	var kind struct {
		Type option.CredentialsType `json:"type"`
	}
	if err := json.Unmarshal(text, &kind); err != nil {
		return nil, connector.Blame(a.Field, "write the path of a key of a service account, in JSON", fmt.Errorf("%s holds no credentials: it is not JSON", a.Credentials))
	}
	if !slices.Contains(kinds, kind.Type) {
		return nil, connector.Blame(a.Field, "write the path of a key of a service account, or of another file that gcloud has written",
			fmt.Errorf("%s holds credentials of type %q, not one of %q", a.Credentials, kind.Type, kinds))
	}
	return option.WithAuthCredentialsFile(kind.Type, a.Credentials), nil
}
