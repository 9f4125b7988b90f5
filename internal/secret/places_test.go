package secret_test

import (
	"testing"

	"github.com/weirdata/weir/internal/secret"
)

// TestPlaces: the names of objects are shown, and nothing else that stands in such an address.
func TestPlaces(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"s3://bucket/raw/shop=1/a.jsonl": "s3://bucket/raw/shop=1/a.jsonl", "gs://a_bucket": "gs://a_bucket",
		"s3://bucket/x?sig=abc": "s3://bucket", "s3://key:word@bucket/x": "s3://bucket", "http://host/x": "http://host",
	} {
		if got := secret.URL(raw); got != want {
			t.Errorf("URL(%q) = %q, want %q", raw, got, want)
		}
	}
	if got := secret.Text("list s3://bucket/in: no"); got != "list s3://bucket/in: no" {
		t.Errorf("Text gives %q", got)
	}
}
