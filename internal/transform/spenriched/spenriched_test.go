package spenriched

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/snowplow"
	"github.com/weirdata/weir/internal/snowplow/sampletest"
)

// build makes a worker as the engine does.
func build[C any](t testing.TB, entry connector.Entry[connector.Transform], set func(*C)) connector.Worker {
	t.Helper()
	return conntest.Worker(t, compile(t, entry, set))
}

// build makes a transform as the engine does, with decode setting what a config would.
func compile[C any](t testing.TB, entry connector.Entry[connector.Transform], set func(*C)) connector.Transform {
	t.Helper()
	tr, err := entry.Build(context.Background(), connector.Deps{}, func(into any) error {
		c := into.(*C)
		set(c)
		if v, ok := any(*c).(connector.Validator); ok {
			if ps := v.Validate(); len(ps) > 0 {
				t.Fatalf("%s: %+v", entry.Name, ps)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func toJSONTransform(t testing.TB) connector.Worker {
	return build(t, ToJSON, func(*ToJSONConfig) {})
}

func setPkTransform(t testing.TB, field string) connector.Worker {
	return build(t, SetPk, func(c *SetPkConfig) { c.AtomicField = field })
}

func filterTransform(t testing.TB, field, regex, action string) connector.Worker {
	return build(t, Filter, func(c *FilterConfig) { *c = FilterConfig{field, regex, action} })
}

// lineOf is an event with the given fields, by name, and nothing else.
func lineOf(t testing.TB, pairs ...string) []byte {
	t.Helper()
	var parts [snowplow.NumFields]string
	for i := 0; i < len(pairs); i += 2 {
		f, ok := snowplow.FieldOf(pairs[i])
		if !ok {
			t.Fatal("no field " + pairs[i])
		}
		parts[f] = pairs[i+1]
	}
	return []byte(strings.Join(parts[:], "\t"))
}

func apply(t testing.TB, tr connector.Worker, m *event.Message) (kept bool, err error) {
	t.Helper()
	first := event.New(nil)
	out, err := tr.Apply(context.Background(), event.Batch{first}, m)
	if len(out) == 0 || out[0] != first || (len(out) > 1 && out[1] != m) || len(out) > 2 {
		t.Fatalf("Apply returned %v", out)
	}
	if err != nil && len(out) > 1 {
		t.Fatal("an invalid message was passed on")
	}
	return len(out) == 2, err
}

func TestToJSON(t *testing.T) {
	t.Parallel()
	line := lineOf(t, "app_id", "shop", "collector_tstamp", "2026-03-02 08:00:01.640", "txn_id", "7")
	m := event.New(line)
	before := string(line)
	if kept, err := apply(t, toJSONTransform(t), m); !kept || err != nil {
		t.Fatal(kept, err)
	}
	if got, want := string(m.Data), `{"app_id":"shop","collector_tstamp":"2026-03-02T08:00:01.64Z","txn_id":7}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if string(line) != before || string(m.Raw()) != before {
		t.Error("the payload as read was changed")
	}
}

// TestAfterToJSON keeps the rule that later transforms still see the enriched event.
func TestAfterToJSON(t *testing.T) {
	t.Parallel()
	m := event.New(lineOf(t, "app_id", "shop", "txn_id", "12"))
	chain := []connector.Worker{
		toJSONTransform(t),
		filterTransform(t, "app_id", "^shop$", "keep"),
		setPkTransform(t, "txn_id"),
		toJSONTransform(t),
	}
	for i, tr := range chain {
		if kept, err := apply(t, tr, m); !kept || err != nil {
			t.Fatalf("transform %d: %t %v", i, kept, err)
		}
	}
	if m.Key != "12" || string(m.Data) != `{"app_id":"shop","txn_id":12}` {
		t.Errorf("key %q, data %s", m.Key, m.Data)
	}
	if _, ok := m.View().(*snowplow.Event); !ok {
		t.Errorf("the view is %T", m.View())
	}
}

func TestSetPk(t *testing.T) {
	t.Parallel()
	for field, raw := range map[string]string{"domain_userid": "u-1", "geo_latitude": "52.50", "collector_tstamp": "2026-03-02 08:00:01.640", "br_cookies": "1"} {
		m := event.New(lineOf(t, field, raw))
		if kept, err := apply(t, setPkTransform(t, field), m); !kept || err != nil {
			t.Errorf("%s: %t %v", field, kept, err)
		}
		want := map[string]string{"domain_userid": "u-1", "geo_latitude": "52.5", "collector_tstamp": "2026-03-02 08:00:01.64 +0000 UTC", "br_cookies": "true"}[field]
		if m.Key != want {
			t.Errorf("%s: key %q, want %q", field, m.Key, want)
		}
	}
	m := event.New(lineOf(t, "app_id", "shop"))
	m.Key = "before"
	_, err := apply(t, setPkTransform(t, "user_id"), m)
	if want := "failed to get value of the provided atomic field: field is empty"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if m.Key != "before" {
		t.Errorf("an invalid message got key %q", m.Key)
	}
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	context := func(c *FilterContextConfig) { *c = FilterContextConfig{"contexts_a_b_1", "x", "y", "keep"} }
	unstruct := func(c *FilterUnstructConfig) { *c = FilterUnstructConfig{"n", ".*", "x", "y", "keep"} }
	bad := lineOf(t, "contexts", "{", "event_name", "n", "event_version", "1-0-0", "unstruct_event", "{", "txn_id", "x")
	tests := []struct {
		name, want string
		tr         connector.Worker
		data       []byte
	}{
		{"json", "the enriched event cannot be turned into JSON: field txn_id: \"x\" is not an integer", toJSONTransform(t), bad},
		{"filter", "the value to filter by cannot be read: field txn_id: \"x\" is not an integer", filterTransform(t, "txn_id", "x", "keep"), bad},
		{"pk", "failed to get value of the provided atomic field: field txn_id: \"x\" is not an integer", setPkTransform(t, "txn_id"), bad},
		{"context", "the value to filter by cannot be read: field contexts: invalid JSON at byte 1: expected a member name", build(t, FilterContext, context), bad},
		{"unstruct", "the value to filter by cannot be read: field unstruct_event: invalid JSON at byte 1: expected a member name", build(t, FilterUnstruct, unstruct), bad},
		{"no event_name", "the value to filter by cannot be read: event_name: field is empty", build(t, FilterUnstruct, unstruct), lineOf(t)},
		{"no event_version", "the value to filter by cannot be read: event_version: field is empty", build(t, FilterUnstruct, unstruct), lineOf(t, "event_name", "n")},
	}
	notTSV := "intermediate state cannot be parsed as parsedEvent: cannot parse tsv event - wrong number of fields provided: 4"
	for _, tt := range tests {
		for data, want := range map[string]string{string(tt.data): tt.want, "not\ta\tsnowplow\tevent": notTSV} {
			kept, err := apply(t, tt.tr, event.New([]byte(data)))
			if kept || err == nil || err.Error() != want {
				t.Errorf("%s: %t\n got %v\nwant %s", tt.name, kept, err, want)
				continue
			}
			d := fault.DetailOf(err)
			if fault.Of(err) != fault.Invalid || d.Type != "transformation" || d.Code != "TransformationError" || d.Safe == "" || !strings.HasPrefix(want, d.Safe+": ") {
				t.Errorf("%s: kind %s, detail %+v", tt.name, fault.Of(err), d)
			}
		}
	}
	tombstone := event.New(nil)
	if kept, err := apply(t, toJSONTransform(t), tombstone); kept || fault.Of(err) != fault.Invalid {
		t.Errorf("no payload: %t %v", kept, err)
	}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	data := lineOf(t, "app_id", "shop", "txn_id", "12", "br_cookies", "1", "tr_total", "1000000", "etl_tstamp", "2026-03-02 08:00:01.640")
	tests := []struct {
		field, regex string
		match        bool
	}{
		{"app_id", "^shop$", true},
		{"app_id", "ho", true},
		{"app_id", "^ho", false},
		{"txn_id", "^12$", true},
		{"br_cookies", "^true$", true},
		{"br_cookies", "1", false},
		{"tr_total", `^1e\+06$`, true},
		{"etl_tstamp", `^2026-03-02 08:00:01\.64 \+0000 UTC$`, true},
		{"user_id", "^$", true},
		{"user_id", ".", false},
		{"page_urlport", "^$", true},
		{"contexts", "^$", true},
	}
	for _, tt := range tests {
		for _, action := range []string{"keep", "drop"} {
			m := event.New(data)
			kept, err := apply(t, filterTransform(t, tt.field, tt.regex, action), m)
			reason := map[string]string{"keep": tt.field + " does not match " + tt.regex, "drop": tt.field + " matches " + tt.regex}[action]
			if kept {
				reason = ""
			}
			if m.Dropped() != reason {
				t.Errorf("%s %s %s: reason %q, want %q", action, tt.field, tt.regex, m.Dropped(), reason)
			}
			if err != nil || kept != (tt.match == (action == "keep")) {
				t.Errorf("%s %s %s: kept %t %v", action, tt.field, tt.regex, kept, err)
			}
		}
	}
}

func contextsOf(list ...string) string {
	return `{"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0","data":[` + strings.Join(list, ",") + `]}`
}

func TestFilterContext(t *testing.T) {
	t.Parallel()
	entity := func(data string) string {
		return `{"schema":"iglu:com.acme/page/jsonschema/1-0-0","data":` + data + `}`
	}
	data := lineOf(t, "contexts", contextsOf(entity(`{"n":"one","t":[{"x":5}]}`), entity(`{"n":"two"}`)), "derived_contexts", contextsOf(entity(`{"n":"three","z":null}`)))
	page := "contexts_com_acme_page_1"
	tests := []struct {
		name, path, regex string
		data              []byte
		match             bool
	}{
		{page, "n", "^one$", data, true},
		{page, "n", "^two$", data, true},
		{page, "n", "^three$", data, true},
		{page, "n", "^$", data, false},
		{page, "t[0].x", "^5$", data, true},
		{page, "t[0].x", "^$", data, false},
		{page, "z", "^$", data, true},
		{page, "none", "^$", data, true},
		{page, "none", ".", data, false},
		{"contexts_com_acme_page_2", "n", "^$", data, true},
		{page, "n", "^$", lineOf(t), true},
		{page, "", `^map\[n:two\]$`, data, true},
	}
	for _, tt := range tests {
		for _, action := range []string{"keep", "drop"} {
			tr := build(t, FilterContext, func(c *FilterContextConfig) { *c = FilterContextConfig{tt.name, tt.path, tt.regex, action} })
			kept, err := apply(t, tr, event.New(tt.data))
			if err != nil || kept != (tt.match == (action == "keep")) {
				t.Errorf("%s %s.%s %s: kept %t %v", action, tt.name, tt.path, tt.regex, kept, err)
			}
		}
	}
}

func TestFilterUnstruct(t *testing.T) {
	t.Parallel()
	unstruct := `{"schema":"iglu:x/y/jsonschema/1-0-0","data":{"schema":"iglu:com.acme/go/jsonschema/1-0-2","data":{"a":{"b":[true,"x"]},"z":null}}}`
	data := lineOf(t, "event_name", "go", "event_version", "1-0-2", "unstruct_event", unstruct)
	tests := []struct {
		name, version, path, regex string
		data                       []byte
		match                      bool
	}{
		{"go", ".*", "a.b[1]", "^x$", data, true},
		{"go", "^1-", "a.b[0]", "^true$", data, true},
		{"go", "0-2", "a.b[1]", "^x$", data, true},
		{"go", "^2-", "a.b[1]", "x", data, false},
		{"go", "^2-", "a.b[1]", "^$", data, true},
		{"Go", ".*", "a.b[1]", "^$", data, true},
		{"go", ".*", "none", "^$", data, true},
		{"go", ".*", "z", "^$", data, true},
		{"go", ".*", "a.b[1]", "^$", lineOf(t, "event_name", "go", "event_version", "1-0-0"), true},
		{"go", ".*", "a.b[1]", "x", lineOf(t, "event_name", "page_view", "unstruct_event", "broken"), false},
	}
	for _, tt := range tests {
		for _, action := range []string{"keep", "drop"} {
			tr := build(t, FilterUnstruct, func(c *FilterUnstructConfig) {
				c.UnstructEventName, c.UnstructEventVersionRegex, c.CustomFieldPath, c.Regex, c.FilterAction = tt.name, tt.version, tt.path, tt.regex, action
			})
			kept, err := apply(t, tr, event.New(tt.data))
			if err != nil || kept != (tt.match == (action == "keep")) {
				t.Errorf("%s %s %s.%s %s: kept %t %v", action, tt.name, tt.version, tt.path, tt.regex, kept, err)
			}
		}
	}
	if c := FilterUnstruct.Default().(*FilterUnstructConfig); c.UnstructEventVersionRegex != ".*" {
		t.Errorf("the default version is %q", c.UnstructEventVersionRegex)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	fieldsOf := func(ps []connector.Problem) (names []string) {
		for _, p := range ps {
			if p.What == "" || p.Fix == "" {
				t.Errorf("problem without words: %+v", p)
			}
			names = append(names, p.Field)
		}
		return names
	}
	tests := []struct {
		config connector.Validator
		want   []string
	}{
		{SetPkConfig{"app_id"}, nil},
		{SetPkConfig{"appid"}, []string{"atomic_field"}},
		{FilterConfig{"app_id", "x", "keep"}, nil},
		{FilterConfig{"", "(?=x)", "allow"}, []string{"atomic_field", "regex", "filter_action"}},
		{FilterContextConfig{"c", "", "x", "drop"}, nil},
		{FilterContextConfig{"", "a[", "[", ""}, []string{"context_full_name", "custom_field_path", "regex", "filter_action"}},
		{FilterUnstructConfig{"n", ".*", "a", "", "keep"}, nil},
		{FilterUnstructConfig{"", "(", "a[x]", "(", "Keep"}, []string{"unstruct_event_name", "unstruct_event_version_regex", "custom_field_path", "regex", "filter_action"}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, fieldsOf(tt.config.Validate())); diff != "" {
			t.Errorf("%+v (-want +got)\n%s", tt.config, diff)
		}
	}
	if fix := (SetPkConfig{"collector_timestamp"}).Validate()[0].Fix; fix != `did you mean "collector_tstamp"?` {
		t.Errorf("fix is %s", fix)
	}
}

// TestNewRefuses builds without Validate: a bad config is an error, never a panic.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, entry := range []connector.Entry[connector.Transform]{SetPk, Filter, FilterContext, FilterUnstruct} {
		if _, err := entry.Build(context.Background(), connector.Deps{}, func(any) error { return nil }); err == nil {
			t.Errorf("%s: an empty config was accepted", entry.Name)
		}
		if entry.Config.Kind() != reflect.Struct || entry.Summary == "" {
			t.Errorf("%s: config %s, summary %q", entry.Name, entry.Config, entry.Summary)
		}
	}
}

func TestSample(t *testing.T) {
	t.Parallel()
	tr := toJSONTransform(t)
	for i, line := range sampletest.Lines(7, 200) {
		m := event.New(line)
		if kept, err := apply(t, tr, m); !kept || err != nil || !json.Valid(m.Data) {
			t.Errorf("event %d: %t %v", i, kept, err)
		}
	}
}

func TestAllocations(t *testing.T) {
	line := sampletest.Large(1)
	for name, tt := range map[string]struct {
		tr   connector.Worker
		most float64
	}{
		"json":   {toJSONTransform(t), 2}, // the event and its JSON
		"filter": {filterTransform(t, "app_id", "^acme", "keep"), 1},
		"number": {filterTransform(t, "doc_width", "^1", "keep"), 1},
		"key":    {setPkTransform(t, "event_id"), 2},
		"context": {build(t, FilterContext, func(c *FilterContextConfig) {
			*c = FilterContextConfig{"contexts_com_example_shop_product_entity_1", "tags[0]", "home", "keep"}
		}), 1},
	} {
		if raceEnabled {
			tt.most += 2 // the pools of package regexp keep little then
		}
		var m event.Message
		out := make(event.Batch, 0, 1)
		got := testing.AllocsPerRun(100, func() {
			m = event.Message{Data: line}
			if _, err := tt.tr.Apply(context.Background(), out, &m); err != nil {
				t.Fatal(err)
			}
		})
		if got > tt.most {
			t.Errorf("%s allocates %v times, want at most %v", name, got, tt.most)
		}
	}
}

func BenchmarkToJSON(b *testing.B) {
	benchmark(b, toJSONTransform(b))
}

func BenchmarkFilter(b *testing.B) {
	benchmark(b, filterTransform(b, "app_id", "^acme-web$", "keep"))
}

func BenchmarkFilterContext(b *testing.B) {
	benchmark(b, build(b, FilterContext, func(c *FilterContextConfig) {
		*c = FilterContextConfig{"contexts_com_snowplowanalytics_snowplow_ua_parser_context_1", "useragentFamily", "(?i)bot", "drop"}
	}))
}

func benchmark(b *testing.B, tr connector.Worker) {
	for name, lines := range map[string][][]byte{"size=large": {sampletest.Large(1)}, "size=mixed": sampletest.Lines(1, 100)} {
		b.Run(name, func(b *testing.B) {
			out := make(event.Batch, 0, 1)
			total := event.Batch{}
			for _, l := range lines {
				total = append(total, event.New(l))
			}
			b.SetBytes(int64(total.Bytes() / len(lines)))
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				m := &event.Message{Data: lines[i%len(lines)]}
				i++
				if _, err := tr.Apply(context.Background(), out, m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
