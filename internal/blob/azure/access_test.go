package azure_test

import (
	"testing"

	"github.com/weirdata/weir/internal/blob/azure"
)

// TestContainer: where a container is, and by which key, by the config, the address and the variables of
// the Azure CLI. A key of the environment is of the account that the environment names, and of no other.
func TestContainer(t *testing.T) {
	const connection = "DefaultEndpointsProtocol=http;AccountName=one;AccountKey=c29tZQ==;BlobEndpoint=http://127.0.0.1:10000/one"
	for _, row := range []struct {
		name             string
		env              map[string]string
		access           azure.Access
		account          string // of the address
		url, key, failed string
	}{
		{name: "account", env: map[string]string{"AZURE_STORAGE_ACCOUNT": "one"}, url: "https://one.blob.core.windows.net/c"},
		{name: "key", env: map[string]string{"AZURE_STORAGE_ACCOUNT": "one", "AZURE_STORAGE_KEY": "a2V5"}, url: "https://one.blob.core.windows.net/c", key: "a2V5"},
		{name: "connection string", env: map[string]string{"AZURE_STORAGE_CONNECTION_STRING": connection}, url: "http://127.0.0.1:10000/one/c", key: "c29tZQ=="},
		{name: "address of the account", env: map[string]string{"AZURE_STORAGE_CONNECTION_STRING": connection}, account: "one", url: "http://127.0.0.1:10000/one/c", key: "c29tZQ=="},
		{name: "address of another", env: map[string]string{"AZURE_STORAGE_CONNECTION_STRING": connection, "AZURE_STORAGE_KEY": "a2V5"}, account: "two", url: "https://two.blob.core.windows.net/c"},
		{name: "config of another", env: map[string]string{"AZURE_STORAGE_ACCOUNT": "one", "AZURE_STORAGE_KEY": "a2V5"}, access: azure.Access{Account: "two"}, url: "https://two.blob.core.windows.net/c"},
		{name: "endpoint of the config", env: map[string]string{"AZURE_STORAGE_CONNECTION_STRING": connection}, access: azure.Access{Endpoint: "http://localhost:1/one"}, url: "http://localhost:1/one/c"},
		{name: "key of the config", env: map[string]string{"AZURE_STORAGE_CONNECTION_STRING": connection}, access: azure.Access{AccountKey: "b3du"}, url: "http://127.0.0.1:10000/one/c", key: "b3du"},
		{name: "accounts that differ", env: map[string]string{"AZURE_STORAGE_ACCOUNT": "two", "AZURE_STORAGE_CONNECTION_STRING": connection}, url: "https://two.blob.core.windows.net/c"},
		{name: "nothing", failed: "no storage account is known"},
	} {
		for _, name := range []string{"AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_KEY", "AZURE_STORAGE_CONNECTION_STRING"} {
			t.Setenv(name, row.env[name])
		}
		n, err := row.access.Container(row.account, "c")
		switch {
		case row.failed != "":
			if err == nil || err.Error() != row.failed {
				t.Errorf("%s: %v", row.name, err)
			}
		case err != nil || n.URL != row.url || n.AccountKey != row.key:
			t.Errorf("%s: %s, %q, %v", row.name, n.URL, n.AccountKey, err)
		}
	}
}
