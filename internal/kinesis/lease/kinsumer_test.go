package lease

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// makeKinsumer makes the tables that a Snowbridge makes.
func makeKinsumer(t *testing.T, client *dynamodb.Client, name string) {
	t.Helper()
	for suffix, key := range map[string]string{"_checkpoints": "Shard", "_clients": "ID", "_metadata": "Key"} {
		table := table{client: client, name: name + suffix, key: key, fault: plainFault}
		if err := table.open(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
}
