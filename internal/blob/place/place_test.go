package place_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/blob/place"
	"github.com/weirdata/weir/internal/blob/s3"
	"github.com/weirdata/weir/internal/connector"
)

func TestFolder(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, address := range []string{"lake", "a/b c", "s3:/x", "://x", "1s3://x"} {
		p, err := place.Parse(address)
		if err != nil || !p.Local() || p.String() != address {
			t.Errorf("Parse(%q) = %v, %v", address, p, err)
			continue
		}
		p = p.In(func(name string) string { return filepath.Join(root, name) })
		if _, err := p.Open(t.Context(), place.Options{}); err == nil {
			t.Errorf("the folder %s is not there, and opens", p)
		}
		b, err := p.Open(t.Context(), place.Options{Make: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Create(t.Context(), "n", nil); err != nil {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestUnknownScheme(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"s4://bucket/x", "ftp://host/x", "S3A://b", "file:///x", "hdfs://n/x"} {
		_, err := place.Parse(address)
		scheme, _, _ := strings.Cut(strings.ToLower(address), "://")
		if err == nil || !strings.Contains(err.Error(), scheme+"://") {
			t.Errorf("Parse(%q): %v, which does not name the scheme", address, err)
		}
		ps := place.Access{}.Problems("path", address)
		if len(ps) != 1 || ps[0].Field != "path" || ps[0].Fix == "" {
			t.Errorf("Problems(%q) = %v", address, ps)
		}
	}
	if len(place.Access{}.Problems("path", "")) != 1 {
		t.Error("an empty address has no problem")
	}
}

func TestStores(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"s3://bucket": "s3://bucket", "S3://bucket/": "s3://bucket", "s3://bucket/a/b/": "s3://bucket/a/b",
		"s3://": "", "s3:///a": "", "s3://b": "", "s3://bucket/a//b": "", "s3://bucket/../x": "", "s3://bucket/x?region=eu": "", "s3://key:secret@bucket/x": "",
		"gs://a_bucket/x": "gs://a_bucket/x", "gs://UPPER": "", "azblob://box/x/y/": "azblob://box/x/y", "azblob://a--b": "",
		"https://acc.blob.core.windows.net/box/x": "https://acc.blob.core.windows.net/box/x", "https://acc.blob.core.windows.net/": "", "https://example.com/box": "",
		"https://acc.blob.core.windows.net/box?sig=secret": "", "http://127.0.0.1/x": "",
		"s3://bucket/" + strings.Repeat("long/", 30): "",
	} {
		p, err := place.Parse(address)
		if (err == nil) != (want != "") || err == nil && (p.String() != want || p.Local()) {
			t.Errorf("Parse(%q) = %q, %v, want %q", address, p, err, want)
		}
		if err == nil && p.In(func(string) string { return "elsewhere" }) != p {
			t.Errorf("%s is a path", p)
		}
	}
	for _, address := range []string{"https://acc.blob.core.windows.net/box?sig=s3cret", "s3://key:s3cret@bucket/x", "https://u:s3cret@host/x"} {
		if _, err := place.Parse(address); err == nil || strings.Contains(err.Error()+connector.Remedy(err, ""), "s3cret") {
			t.Errorf("Parse(%q): %v", address, err)
		}
	}
	ps := place.Access{S3: &s3.Access{Checksums: "x"}}.Problems("path", "folder")
	if len(ps) != 2 || ps[0].Field != "s3" || ps[1].Field != "s3.checksums" {
		t.Errorf("Problems = %v", ps)
	}
}
