package postgres

import (
	"crypto/sha256"
	"fmt"
	"testing"
)

// TestSchemaVersion notices tables that change without their version: a program that knows the version
// before must not find them, and one that knows the new one must bring them there (migrate).
func TestSchemaVersion(t *testing.T) {
	t.Parallel()
	got := fmt.Sprintf("%d %x", schemaVersion, sha256.Sum256([]byte(tablesSQL+sharesSQL+logSQL+commitSQL)))
	if want := schemaDigest; got != want {
		t.Errorf("the tables are %s, and were %s. If a program of the version before would read or write anything wrong, raise schemaVersion, bring the tables there, and say so in docs/compatibility.md; if not, write the new digest here", got, want)
	}
}

// schemaDigest is of the version and the tables.
const schemaDigest = "2 a12be3a5a9885d94c8cf4f55d9482514c143e37d2f1b84cacc6ef5cf9028f35d"
