package spelling_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/spelling"
)

func TestNearest(t *testing.T) {
	t.Parallel()
	names := []string{"kafka", "kinesis", "http", "max_batch_bytes", "max_batch_messages", "url"}
	for name, want := range map[string]string{
		"kafak": "kafka", "Kafka": "kafka", "htpt": "http", "max-batch-bytes": "max_batch_bytes", "max_batch": "max_batch_bytes",
		"kinesis_stream": "kinesis", "rabbit": "", "": "", "u": "", "zzz": "", strings.Repeat("x", 1<<16): "",
	} {
		if got := spelling.Nearest(name, names); got != want {
			t.Errorf("Nearest(%.20q) = %q, want %q", name, got, want)
		}
	}
}

// TestOneWrongLetter draws a name with one letter lost, doubled or changed.
func TestOneWrongLetter(t *testing.T) {
	t.Parallel()
	names := []string{"request_timeout", "bearer_token", "stream_name", "worker_pool", "position_file"}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(names).Draw(t, "name")
		at := rapid.IntRange(0, len(name)-1).Draw(t, "at")
		wrong := rapid.SampledFrom([]string{"", name[at:at+1] + name[at:at+1], "#"}).Draw(t, "instead")
		if got := spelling.Nearest(name[:at]+wrong+name[at+1:], names); got != name {
			t.Fatalf("got %q", got)
		}
	})
}

func TestOr(t *testing.T) {
	t.Parallel()
	for want, names := range map[string][]string{"": nil, `"a"`: {"a"}, `"a" or "b"`: {"a", "b"}, `"a", "b" or "c"`: {"a", "b", "c"}} {
		if got := spelling.Or(names); got != want {
			t.Errorf("Or(%q) = %s, want %s", names, got, want)
		}
	}
}
