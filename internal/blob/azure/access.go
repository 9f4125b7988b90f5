package azure

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/weirdata/weir/internal/cloud/azure"
	"github.com/weirdata/weir/internal/connector"
)

// Access is how a container of Azure Blob storage is reached.
type Access struct {
	// Account is the storage account; AZURE_STORAGE_ACCOUNT, or that of
	// AZURE_STORAGE_CONNECTION_STRING, by default.
	Account string `hcl:"account,optional"`
	// AccountKey is a key of the account. By default, for the account that the environment names, it
	// is AZURE_STORAGE_KEY or that of AZURE_STORAGE_CONNECTION_STRING; without one, the identity of the
	// environment counts.
	AccountKey string `hcl:"account_key,optional"`
	// Endpoint is another address of the service than https://ACCOUNT.blob.core.windows.net, such
	// as "http://127.0.0.1:10000/devstoreaccount1" for Azurite.
	Endpoint string `hcl:"endpoint,optional"`
}

var (
	containerName = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9]){2,62}$`)
	accountName   = regexp.MustCompile(`^[a-z0-9]{3,24}$`)
)

// CheckContainer says why a container cannot have the name.
func CheckContainer(name string) error {
	if !containerName.MatchString(name) || len(name) > 63 {
		return fmt.Errorf("%q is not the name of a container of Blob storage, which has 3 to 63 of a-z, 0-9 and single -", name)
	}
	return nil
}

// Problems are what is wrong, as far as can be known without a network. Fields are those of the
// block.
func (a Access) Problems() []connector.Problem {
	var ps []connector.Problem
	refuse := func(field, what, fix string) {
		ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix})
	}
	if a.Account != "" && !accountName.MatchString(a.Account) {
		refuse("account", fmt.Sprintf("account %q is not the name of a storage account", a.Account), "write the name alone, without .blob.core.windows.net")
	}
	if u, err := url.Parse(a.Endpoint); a.Endpoint != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.User != nil) {
		refuse("endpoint", "endpoint is not a whole http or https URL", `write it as "http://127.0.0.1:10000/devstoreaccount1"`)
	}
	return ps
}

// Container is where the container of a name is. account, if it is not empty, is what an address
// says.
func (a Access) Container(account, name string) (azure.ContainerName, error) {
	n := azure.ContainerName{AccountKey: a.AccountKey}
	e := environment()
	account = cmp.Or(account, a.Account)
	base := a.Endpoint
	if account == "" || account == e.account {
		account = e.account
		if base == "" {
			n.AccountKey, base = cmp.Or(n.AccountKey, e.key), e.endpoint
		}
	}
	if base == "" && account == "" {
		return n, connector.Blame("azblob.account", "add azblob { account = \"NAME\" }, or set AZURE_STORAGE_ACCOUNT", errors.New("no storage account is known"))
	}
	if base == "" {
		base = "https://" + account + ".blob.core.windows.net"
	}
	n.URL = strings.TrimRight(base, "/") + "/" + name
	return n, nil
}

// named is what the environment says of a storage account, in the variables of the Azure CLI.
type named struct{ account, key, endpoint string }

func environment() named {
	n := named{account: os.Getenv("AZURE_STORAGE_ACCOUNT"), key: os.Getenv("AZURE_STORAGE_KEY")}
	parts := map[string]string{}
	for part := range strings.SplitSeq(os.Getenv("AZURE_STORAGE_CONNECTION_STRING"), ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		parts[strings.ToLower(name)] = value
	}
	if account := parts["accountname"]; account != "" && (n.account == "" || n.account == account) {
		n.account, n.key, n.endpoint = account, cmp.Or(n.key, parts["accountkey"]), parts["blobendpoint"]
	}
	return n
}
