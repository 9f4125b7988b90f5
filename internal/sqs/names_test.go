package sqs

import (
	"strings"
	"testing"
)

// TestNames: attributes may be called, and be of types, as SQS documents it.
func TestNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 256)
	for name, want := range map[string]bool{
		"a": true, "a.b-c_D9": true, "-": true, long: true, long + "a": false, "": false, ".a": false, "a.": false, "a..b": false, "ä": false, "a b": false, "a\n": false,
		"AWS.x": false, "amazon.y": false, "awsx": true, RestAttribute: false,
	} {
		if legalName(name) != want {
			t.Errorf("the name %.40q: %t", name, !want)
		}
	}
	for kind, want := range map[string]bool{
		"String": true, "Number.price": true, "Binary.a.b": true, "String.": false, "string": false, "Text": false, "": false, "Number.ä": false, "String." + long[:249]: true, "String." + long[:250]: false,
	} {
		if legalType(kind) != want {
			t.Errorf("the type %.40q: %t", kind, !want)
		}
	}
}
