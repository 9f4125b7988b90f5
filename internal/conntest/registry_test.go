package conntest_test

import (
	"testing"

	"github.com/weirdata/weir/internal/all"
	"github.com/weirdata/weir/internal/conntest"
)

// TestRegistry: every connector that Weir has shows all of its options.
func TestRegistry(t *testing.T) {
	conntest.Examples(t, all.Connectors(), "../..", conntest.Exclusive{
		Connector: "target http", Why: "three ways to get OAuth tokens, and two to give a private key, stand side by side to be compared",
	}, conntest.Exclusive{
		Connector: "source eventhub", Why: "the ways to credentials, and to checkpoints, stand side by side to be compared",
	}, conntest.Exclusive{
		Connector: "target eventhub", Why: "the ways to credentials stand side by side to be compared",
	})
}
