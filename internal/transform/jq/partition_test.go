package jq

import (
	"context"
	"errors"
	"testing"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/firehose"
)

// TestPartitionKeys: the members of the program's object become partition keys, and the payload stays
// as it is; what is no key is the message's failure, without a part of its keys.
func TestPartitionKeys(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		command, in string
		want        map[string]string
	}{
		{`{shop: .shop, year: (.at | strftime("%Y")), n: .n, b: true}`, `{"shop":"a/b","at":1767225600,"n":12345678901234567890}`,
			map[string]string{"shop": "a/b", "year": "2026", "n": "12345678901234567890", "b": "true"}},
		{`{x: 1.5}`, `{}`, map[string]string{"x": "1.5"}},
		{`{}`, `{}`, map[string]string{}},
		{`{a: .a, shop: .shop}`, `{"a":"x"}`, nil},
		{`{shop: ""}`, `{}`, nil},
		{`{shop: [1]}`, `{}`, nil},
		{`.shop`, `{"shop":"a"}`, nil},
		{`{shop: .shop}`, `no JSON`, nil},
		{`error("x")`, `{}`, nil},
		{`[range(51) | {key: tostring, value: "v"}] | from_entries`, `{}`, nil},
	} {
		w := build(t, PartitionKeys, row.command)
		m := event.New([]byte(row.in))
		out, err := w.Apply(context.Background(), nil, m)
		if row.want == nil {
			if f, ok := errors.AsType[*firehose.Failure](err); !ok || fault.Of(err) != fault.Invalid || f.Code != codeMetadata || len(m.Meta.Headers) > 0 {
				t.Errorf("%s: %v, %v", row.command, err, m.Meta.Headers)
			}
			continue
		}
		if err != nil || len(out) != 1 || out[0] != m || string(m.Data) != row.in || len(m.Meta.Headers) != len(row.want) {
			t.Errorf("%s: %v, %v", row.command, err, m.Meta.Headers)
		}
		for name, want := range row.want {
			if got := firehose.FromQuery.Of(m, name); got != want {
				t.Errorf("%s: %s is %q, want %q", row.command, name, got, want)
			}
		}
	}
}
