package snowplow

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

func TestParseCountsFields(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 4, 130, 132, 500} {
		_, err := Parse([]byte(strings.Repeat("x\t", n-1)))
		want := fmt.Sprintf("cannot parse tsv event - wrong number of fields provided: %d", n)
		if err == nil || err.Error() != want {
			t.Errorf("%d fields: got %v, want %s", n, err, want)
		}
	}
	if _, err := Parse(nil); err == nil {
		t.Error("no payload was parsed")
	}
}

func TestRawIsTheLineSplit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.StringMatching(`[^\t]{0,9}`), NumFields, NumFields).Draw(t, "parts")
		e, err := Parse([]byte(strings.Join(parts, "\t")))
		if err != nil {
			t.Fatal(err)
		}
		for f := range Field(NumFields) {
			if e.Raw(f) != parts[f] {
				t.Errorf("field %s is %q, want %q", f, e.Raw(f), parts[f])
			}
		}
	})
}

func TestFieldOrder(t *testing.T) {
	t.Parallel()
	if f, _ := FieldOf("true_tstamp"); f != NumFields-1 {
		t.Errorf("true_tstamp is field %d", f)
	}
	for f, name := range map[Field]string{CollectorTstamp: "collector_tstamp", EventID: "event_id", contextsField: "contexts",
		unstructField: "unstruct_event", derivedField: "derived_contexts", EventName: "event_name", EventVersion: "event_version"} {
		if f.String() != name {
			t.Errorf("field %d is %s, want %s", f, f, name)
		}
	}
	seen := map[string]bool{}
	for i, name := range FieldNames() {
		if f, ok := FieldOf(name); !ok || int(f) != i || seen[name] {
			t.Errorf("field %d %q: found %d %t, twice %t", i, name, f, ok, seen[name])
		}
		seen[name] = true
	}
	for typo, want := range map[string]string{"collector_timestamp": "collector_tstamp", "appid": "app_id", "platfrom": "platform", "user_ip": "user_id"} { //nolint:misspell // that is the point
		if got := NearestField(typo); got != want {
			t.Errorf("nearest to %q is %q, want %q", typo, got, want)
		}
	}
	if _, ok := FieldOf(NearestField(strings.Repeat("x", 1<<20))); !ok {
		t.Error("the nearest field is none")
	}
}

func TestValueAndText(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 2, 8, 0, 1, 640e6, time.UTC)
	page := entities(entityOf("com.acme/page/jsonschema/1-0-0", `{"b":[1,true,null],"a":"x"}`), entityOf("com.acme/page/jsonschema/1-0-1", `{}`))
	tests := []struct {
		field, raw string
		want       any
	}{
		{"app_id", "shop\xff", "shop\xff"},
		{"se_value", "1.50", "1.50"},
		{"txn_id", "+7", 7},
		{"geo_latitude", "1000000.50", 1000000.5},
		{"tr_total", "1000000", 1e6},
		{"br_cookies", "0", false},
		{"dvce_ismobile", "1", true},
		{"collector_tstamp", "2026-03-02 08:00:01.640", at},
		{"contexts", page, map[string]any{"contexts_com_acme_page_1": []any{map[string]any{"a": "x", "b": []any{1.0, true, nil}}, map[string]any{}}}},
		{"unstruct_event", entityOf("x", entityOf("com.acme/go/jsonschema/2-0-0", `{"n":12}`)), map[string]any{"unstruct_event_com_acme_go_2": map[string]any{"n": 12.0}}},
	}
	for _, tt := range tests {
		f, _ := FieldOf(tt.field)
		e, err := Parse(lineOf(tt.field, tt.raw))
		if err != nil {
			t.Fatal(err)
		}
		got, err := e.Value(f)
		if err != nil {
			t.Errorf("%s: %v", tt.field, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tt.field, diff)
		}
		text, err := e.AppendText([]byte("="), f)
		if want := "=" + fmt.Sprintf("%v", tt.want); err != nil || string(text) != want {
			t.Errorf("%s: text %q %v, want %q", tt.field, text, err, want)
		}
		if _, err := e.Value(CollectorTstamp); f != CollectorTstamp && !errors.Is(err, ErrEmpty) {
			t.Errorf("an absent field answers %v", err)
		}
	}
	e, _ := Parse(lineOf("collector_tstamp", "2026-03-02 08:00:01.640"))
	if text, _ := e.AppendText(nil, CollectorTstamp); string(text) != "2026-03-02 08:00:01.64 +0000 UTC" {
		t.Errorf("timestamp prints as %s", text)
	}
}

func TestValueErrors(t *testing.T) {
	t.Parallel()
	for field, raw := range map[string]string{"txn_id": "x", "geo_latitude": "x", "br_cookies": "x", "collector_tstamp": "x", "contexts": "x", "unstruct_event": "{}"} {
		f, _ := FieldOf(field)
		e, _ := Parse(lineOf(field, raw))
		_, err := e.Value(f)
		if err == nil || !strings.HasPrefix(err.Error(), "field "+field+": ") {
			t.Errorf("%s: %v", field, err)
		}
		if _, again := e.AppendText(nil, f); again == nil || again.Error() != err.Error() {
			t.Errorf("%s: text answers %v", field, again)
		}
		if _, err := e.Map(); err == nil {
			t.Errorf("%s: Map has no error", field)
		}
	}
}

func TestMapIsTheCallers(t *testing.T) {
	t.Parallel()
	e, _ := Parse(lineOf("app_id", "a", "contexts", entities(entityOf("com.acme/page/jsonschema/1-0-0", `{"a":1}`))))
	m, err := e.Map()
	if err != nil {
		t.Fatal(err)
	}
	m["contexts_com_acme_page_1"].([]any)[0].(map[string]any)["a"] = 2
	again, _ := e.Map()
	want := map[string]any{"app_id": "a", "contexts_com_acme_page_1": []any{map[string]any{"a": 1.0}}}
	if diff := cmp.Diff(want, again); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestNamesOf(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"iglu:com.acme/page/jsonschema/1-0-0":      "com_acme_page_1",
		"iglu:com.acme/PageView/jsonschema/12-3-4": "com_acme_page_view_12",
		"iglu:Com.Acme-X/ABTest/jsonschema/2-0-0":  "com_acme-x_a_b_test_2",
		"iglu:a/Foo_Bar__Baz/x/1-0-0":              "a_foo_bar__baz_1",
		"iglu:a/foo-Bar/x/1-10-0":                  "a_foo-_bar_1",
	}
	for range 2 { // the second time from the cache
		for uri, want := range tests {
			got, err := NamesOf(uri)
			if err != nil || got != (Names{Context: "contexts_" + want, Unstruct: "unstruct_event_" + want}) {
				t.Errorf("%s: %v %v, want %s", uri, got, err, want)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		uri := rapid.OneOf(
			rapid.StringMatching(`iglu:[a-zA-Z0-9_.-]{1,12}/[a-zA-Z0-9_-]{1,12}/[a-z]{1,4}/[0-9]{1,2}-[0-9]{1,2}-[0-9]{1,2}`),
			rapid.StringMatching(`(iglu:)?[a-zA-Zé.]{0,3}/[a-z.]{0,3}/[a-z]{0,2}/[0-9-]{0,7}/?`)).Draw(t, "uri")
		got, err := NamesOf(uri)
		want, wantErr := slowName("contexts", uri)
		if (err == nil) != (wantErr == nil) || got.Context != want {
			t.Errorf("%q: %q %v, want %q %v", uri, got.Context, err, want, wantErr)
		}
	})
}

func TestSchemaCacheIsBounded(t *testing.T) {
	t.Parallel()
	for i := range 3 * cachedSchemas {
		uri := fmt.Sprintf("iglu:flood/n%d/x/1-0-0", i)
		if got, err := NamesOf(uri); err != nil || got.Context != fmt.Sprintf("contexts_flood_n%d_1", i) {
			t.Fatalf("%s: %v %v", uri, got, err)
		}
	}
	long := "iglu:" + strings.Repeat("v", 300) + "/n/x/1-0-0"
	if _, err := NamesOf(long); err != nil {
		t.Fatal(err)
	}
	for i := range schemaCache {
		if c := schemaCache[i].Load(); c != nil && len(c.uri) > maxCachedSchema {
			t.Errorf("%d bytes of URI were kept", len(c.uri))
		}
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	m := event.New(lineOf("app_id", "a"))
	e, err := Of(m)
	if err != nil || e.Raw(0) != "a" {
		t.Fatalf("%v %v", e, err)
	}
	if again, _ := Of(m); again != e {
		t.Error("the line was parsed twice")
	}
	m.Replace([]byte("not\ta\tsnowplow\tevent"))
	_, err = Of(m)
	if want := "intermediate state cannot be parsed as parsedEvent: cannot parse tsv event - wrong number of fields provided: 4"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if fault.Of(err) != fault.Invalid {
		t.Errorf("kind is %s", fault.Of(err))
	}
	want := fault.Detail{Type: "transformation", Code: "TransformationError", Safe: "intermediate state cannot be parsed as parsedEvent"}
	if diff := cmp.Diff(want, fault.DetailOf(err)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestKeysAndGet(t *testing.T) {
	t.Parallel()
	page := func(n string) string { return entityOf("com.acme/page/jsonschema/1-0-0", `{"n":`+n+`}`) }
	other := entityOf("com.acme/other/jsonschema/1-0-0", `{}`)
	e, _ := Parse(lineOf("txn_id", "7", "app_id", "a", "contexts", entities(page("1"), other, other), "derived_contexts", entities(page("2")),
		"unstruct_event", entityOf("x", entityOf("com.acme/go/jsonschema/2-0-0", `{"n":12}`))))
	keys, err := e.Keys()
	want := []string{"app_id", "txn_id", "contexts_com_acme_other_1", "unstruct_event_com_acme_go_2", "contexts_com_acme_page_1"}
	if diff := cmp.Diff(want, keys); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if v, found, err := e.Get("contexts_com_acme_page_1"); !found || err != nil || !cmp.Equal(v, any([]any{map[string]any{"n": 2.0}})) {
		t.Errorf("%v %t %v", v, found, err)
	}
	for _, key := range []string{"", "user_id", "contexts", "unstruct_event", "contexts_x_1", "unstruct_event_x_1", "constructor"} {
		if v, found, err := e.Get(key); v != nil || found || err != nil {
			t.Errorf("%q: %v %t %v", key, v, found, err)
		}
	}
	bad, _ := Parse(lineOf("app_id", "a", "txn_id", "x", "contexts", "{", "unstruct_event", "{"))
	for _, key := range []string{"txn_id", "contexts_x_1", "unstruct_event_x_1"} {
		if _, found, err := bad.Get(key); found || err == nil {
			t.Errorf("%q: %t %v", key, found, err)
		}
	}
	if v, found, err := bad.Get("app_id"); v != "a" || !found || err != nil {
		t.Errorf("a good field of a bad event: %v %t %v", v, found, err)
	}
	if _, err := bad.Keys(); err == nil {
		t.Error("keys of broken contexts")
	}
}
