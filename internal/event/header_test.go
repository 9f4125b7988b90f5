package event_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/event"
)

// TestHeaders does at random what can be done to headers, beside a plain list of pairs: what
// is there is the same, and no list that was there before has changed.
func TestHeaders(t *testing.T) {
	t.Parallel()
	names := rapid.SampledFrom([]string{"", "a", "A", "b", "long name"})
	rapid.Check(t, func(t *rapid.T) {
		var h event.Headers
		var model [][2]string
		type kept struct {
			h    event.Headers
			text string
		}
		var before []kept
		show := func(h event.Headers) string {
			var b strings.Builder
			for _, x := range h {
				fmt.Fprintf(&b, "%q=%q ", x.Name, x.Value)
			}
			return b.String()
		}
		for range rapid.IntRange(0, 12).Draw(t, "steps") {
			before = append(before, kept{h, show(h)})
			name, value := names.Draw(t, "name"), rapid.StringN(0, 3, 9).Draw(t, "value")
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				h, model = h.Add(name, []byte(value)), append(model, [2]string{name, value})
			case 1:
				h = h.Set(name, []byte(value))
				var next [][2]string
				set := false
				for _, x := range model {
					if x[0] != name {
						next = append(next, x)
					} else if !set {
						next, set = append(next, [2]string{name, value}), true
					}
				}
				if !set {
					next = append(next, [2]string{name, value})
				}
				model = next
			case 2:
				h = h.Del(name)
				var next [][2]string
				for _, x := range model {
					if x[0] != name {
						next = append(next, x)
					}
				}
				model = next
			}
			var want event.Headers
			size := 0
			count := map[string]int{}
			for _, x := range model {
				want = append(want, event.Header{Name: x[0], Value: []byte(x[1])})
				size += len(x[0]) + len(x[1])
				count[x[0]]++
			}
			if show(h) != show(want) || h.Size() != size || h.Repeats() != (len(count) < len(model)) {
				t.Fatalf("headers are %s, want %s", show(h), show(want))
			}
			vs := h.Values(name)
			first, ok := h.Get(name)
			if len(vs) != count[name] || ok != (len(vs) > 0) || ok && !bytes.Equal(first, vs[0]) || h.Text(name) != string(first) {
				t.Fatalf("%q: first %q, values %q of %s", name, first, vs, show(h))
			}
			for _, k := range before {
				if show(k.h) != k.text {
					t.Fatalf("a list that was %s is now %s", k.text, show(k.h))
				}
			}
		}
	})
}

func TestFold(t *testing.T) {
	t.Parallel()
	h := event.Headers{{Name: "X-ID", Value: []byte("1")}, {Name: "x-id", Value: []byte("2")}, {Name: "Other", Value: []byte("3")}}
	for name, want := range map[string]string{"x-id": "2", "X-Id": "1", "OTHER": "3"} {
		if got := h.Fold(name); got == nil || got.Text() != want {
			t.Errorf("%s: %v, want %s", name, got, want)
		}
	}
	if h.Fold("none") != nil || h.Fold("") != nil {
		t.Error("a header is found that is not there")
	}
	if _, ok := h.Get("OTHER"); ok {
		t.Error("Get does not look at case")
	}
}

// TestHeadersJSON: headers of any names and values are the same after JSON, and are an
// object where an object can say them.
func TestHeadersJSON(t *testing.T) {
	t.Parallel()
	texts := rapid.OneOf(rapid.SampledFrom([]string{"", "a", "b", "<&>", "\xff"}), rapid.String(),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
	rapid.Check(t, func(t *rapid.T) {
		h := event.Headers{}
		for range rapid.IntRange(0, 4).Draw(t, "headers") {
			h = h.Add(texts.Draw(t, "name"), []byte(texts.Draw(t, "value")))
		}
		var text bytes.Buffer
		e := json.NewEncoder(&text)
		e.SetEscapeHTML(false)
		if err := e.Encode(h); err != nil {
			t.Fatal(err)
		}
		var got event.Headers
		if err := json.Unmarshal(text.Bytes(), &got); err != nil {
			t.Fatalf("%s: %v", &text, err)
		}
		if diff := cmp.Diff(h, got); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", &text, diff)
		}
	})
	for _, c := range []struct{ in, out string }{
		{`{}`, `{}`}, {`null`, `{}`}, {`[]`, `{}`},
		{`{"b":"1","a":"2"}`, `{"b":"1","a":"2"}`},
		{`{"a":"1","b":"2","a":"3"}`, `{"a":"3","b":"2"}`},
		{`[["a","1"],["a","2"]]`, `[["a","1"],["a","2"]]`},
		{`[["a","1"]]`, `{"a":"1"}`},
		{`{"a":{"base64":"/w=="}}`, `{"a":{"base64":"/w=="}}`},
		{`[["a"]]`, "a header is [name, value], not 1 texts"}, {`3`, "headers are an object"}, {`{"a":1}`, "want a string"},
	} {
		var h event.Headers
		err := json.Unmarshal([]byte(c.in), &h)
		if err != nil {
			if !strings.Contains(err.Error(), c.out) {
				t.Errorf("%s: %v, want %s", c.in, err, c.out)
			}
			continue
		}
		if text, err := json.Marshal(h); err != nil || string(text) != c.out {
			t.Errorf("%s became %s, %v; want %s", c.in, text, err, c.out)
		}
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	b := event.Batch{event.New(nil), event.New(nil), event.New(nil)}
	numbers := []uint64{255, 256, 1 << 60}
	event.Origins(b, "stream", "p", func(i int) uint64 { return numbers[i] })
	for i, m := range b {
		o := m.Meta.Origin
		if o.Stream != "stream" || o.Partition != "p" || len(o.Position) != 8 || cap(o.Position) != 8 || o.Earliest() != o {
			t.Errorf("origin %d is %+v", i, o)
		}
		if i > 0 && (b[i-1].Meta.Origin.Compare(o) != -1 || o.Compare(b[i-1].Meta.Origin) != 1) {
			t.Errorf("origins %d and %d are not in the order of their numbers", i-1, i)
		}
	}
	sub := *b[0].Meta.Origin
	sub.Sub++
	if sub.Compare(b[0].Meta.Origin) != 1 || b[0].Meta.Origin.Compare(&sub) != -1 || sub.Compare(&sub) != 0 || sub.Compare(b[1].Meta.Origin) != -1 {
		t.Error("the sub-position does not order what has one position")
	}
	again := event.Origin{Stream: "queue", First: b[0].Meta.Origin}
	if again.Earliest() != b[0].Meta.Origin || (*event.Origin)(nil).Earliest() != nil {
		t.Error("the earliest origin is not found")
	}
}
