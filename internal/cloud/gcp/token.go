package gcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/option"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/secret"
)

// Web is the base address of a service that is called by HTTP: the emulator that the environment
// names, the endpoint of the config, or own. plain says that it is called without credentials.
func (a Access) Web(own string) (base string, plain bool, err error) {
	at := a.Emulated()
	if at == "" {
		at = a.Endpoint
	}
	if at == "" {
		return own, false, nil
	}
	to, open, ok := address(at)
	if !ok {
		return "", false, fault.New(fault.Setup, fmt.Errorf("endpoint %q is no address", secret.URL(at)))
	}
	if open || a.Emulated() != "" {
		return "http://" + to, true, nil
	}
	return (&url.URL{Scheme: "https", Host: to}).String(), false, nil
}

// Tokens are those of the credentials, which are looked for now.
func (a Access) Tokens(ctx context.Context, scope string) (oauth2.TokenSource, error) {
	if a.Credentials == "" {
		c, err := google.FindDefaultCredentials(ctx, scope)
		if err != nil {
			return nil, dialled(err)
		}
		return c.TokenSource, nil
	}
	text, err := os.ReadFile(a.Credentials)
	if err != nil {
		return nil, connector.Blame(a.Field, "create a key of a service account and write its path, or leave the line out to use the default credentials", fmt.Errorf("read the credentials: %w", err))
	}
	var kind struct {
		Type google.CredentialsType `json:"type"`
	}
	if err := json.Unmarshal(text, &kind); err != nil || !slices.Contains(kinds, option.CredentialsType(kind.Type)) {
		return nil, connector.Blame(a.Field, "write the path of a key of a service account, or of another file that gcloud has written", fmt.Errorf("%s holds no credentials of a type in %q", a.Credentials, kinds))
	}
	c, err := google.CredentialsFromJSONWithType(ctx, text, kind.Type, scope)
	if err != nil {
		return nil, connector.Blame(a.Field, "write the path of a key of a service account", fmt.Errorf("%s holds no credentials that can be used: %w", a.Credentials, errors.New(secret.Text(err.Error()))))
	}
	return c.TokenSource, nil
}
