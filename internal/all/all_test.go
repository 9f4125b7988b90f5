package all_test

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/all"
	"github.com/weirdata/weir/internal/connector"
)

// listed is a connector without its kind's type.
type listed struct {
	kind, name string
	config     reflect.Type
}

func entries[T any](t *testing.T, kind string, list []connector.Entry[T]) []listed {
	t.Helper()
	ls := make([]listed, len(list))
	for i, e := range list {
		if !strings.Contains(e.Config.PkgPath(), "/internal/"+kind+"/") {
			t.Errorf("%s %q: its config struct is in %s, not in a package of internal/%s", kind, e.Name, e.Config.PkgPath(), kind)
		}
		ls[i] = listed{kind: kind, name: e.Name, config: e.Config}
	}
	return ls
}

func connectors(t *testing.T) []listed {
	t.Helper()
	set := all.Connectors()
	return slices.Concat(entries(t, "source", set.Sources), entries(t, "transform", set.Transforms), entries(t, "target", set.Targets))
}

// options lists the paths of what the config struct c allows: "batching.max_batch_bytes".
func options(prefix string, c reflect.Type) []string {
	for c.Kind() == reflect.Pointer || c.Kind() == reflect.Slice {
		c = c.Elem()
	}
	var paths []string
	for f := range c.Fields() {
		tag, ok := f.Tag.Lookup("hcl")
		if !ok {
			continue
		}
		name, kind, _ := strings.Cut(tag, ",")
		switch kind {
		case "block":
			paths = append(paths, options(prefix+name+".", f.Type)...)
		case "", "attr", "optional":
			paths = append(paths, prefix+name)
		}
	}
	return paths
}

func TestNamesAreUnique(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range connectors(t) {
		key := c.kind + " " + c.name
		if seen[key] {
			t.Errorf("%s is listed twice", key)
		}
		seen[key] = true
	}
}

// spellings are names that an option must not have, each with the way out. An option that
// several connectors have is spelt one way; where Snowbridge has a name, it is the one.
var spellings = []struct {
	wrong *regexp.Regexp
	fix   string
}{
	{regexp.MustCompile(`^(endpoint_url|uri)$`), "others call it url, or address where it is listened at"},
	{regexp.MustCompile(`^(aws_region|location)$`), "others call it region"},
	{regexp.MustCompile(`^topic$`), "others call it topic_name"},
	{regexp.MustCompile(`^stream$`), "others call it stream_name"},
	{regexp.MustCompile(`^queue$`), "others call it queue_name"},
	{regexp.MustCompile(`^(aws_role|assume_role)$`), "others call it role_arn"},
	{regexp.MustCompile(`^(batch|buffering)$`), "others call it batching"},
	{regexp.MustCompile(`^(tls|use_tls|tls_enabled)$`), "others call it enable_tls"},
	{regexp.MustCompile(`^(tls_cert|certificate_file|client_cert)$`), "others call it cert_file"},
	{regexp.MustCompile(`^(tls_key|client_key)$`), "others call it key_file"},
	{regexp.MustCompile(`^(tls_ca|ca_cert|root_ca)$`), "others call it ca_file"},
	{regexp.MustCompile(`^(insecure|insecure_skip_verify|tls_insecure)$`), "others call it skip_verify_tls"},
	{regexp.MustCompile(`^(max_message_size|message_byte_limit)$`), "others call it max_message_bytes"},
	{regexp.MustCompile(`_(sec|secs|second|minute|minutes|millis_?seconds)$`), "durations end in _ms or _seconds"},
	{regexp.MustCompile(`_(str|string|int|bool|list|map)$`), "a name does not repeat its type"},
	{regexp.MustCompile(`[^a-z0-9_]|^[^a-z]`), "names are in snake_case"},
}

// snowbridge keeps its spelling where it differs from ours: its configs are read unchanged.
var snowbridge = map[string]bool{
	"timeout_sec": true, "expiry_sec": true,
}

// terms are what the field calls a thing, whatever the rules above say.
var terms = map[string]bool{"connection_string": true}

func TestOptionsHaveOneSpelling(t *testing.T) {
	t.Parallel()
	for _, c := range connectors(t) {
		for _, o := range options("", c.config) {
			for name := range strings.SplitSeq(o, ".") {
				if snowbridge[name] || terms[name] {
					continue
				}
				for _, rule := range spellings {
					if rule.wrong.MatchString(name) {
						t.Errorf("%s %q: option %s: %s", c.kind, c.name, o, rule.fix)
					}
				}
			}
		}
	}
}

func TestOptionsOfAStruct(t *testing.T) {
	t.Parallel()
	type inner struct {
		A int `hcl:"a"`
	}
	type outer struct {
		B      string  `hcl:"b,optional"`
		Block  *inner  `hcl:"block,block"`
		Many   []inner `hcl:"many,block"`
		Hidden int
	}
	want := "[b block.a many.a]"
	if got := fmt.Sprint(options("", reflect.TypeFor[outer]())); got != want {
		t.Errorf("options: %s, want %s", got, want)
	}
}
