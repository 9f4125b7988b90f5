package workspace_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/workspace"
)

func after(t testing.TB, before *workspace.Workspace, text string) *workspace.Workspace {
	t.Helper()
	w, err := workspace.ParseAfter(before, "test.json", []byte(text), time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestConsentBySourceType: a destination that several types of sources are connected to may ask
// for the consent of each by itself.
func TestConsentBySourceType(t *testing.T) {
	t.Parallel()
	source := func(id, kind string) string {
		return fmt.Sprintf(`{"id":%q,"writeKey":%q,"enabled":true,"sourceDefinition":{"type":%q},"destinations":[{"id":"d","enabled":true,"isProcessorEnabled":true,"destinationDefinition":{"name":"X"},"config":{
			"consentManagement":{"web":[{"provider":"custom","resolutionStrategy":"or","consents":[{"consent":"a"}]}],"cloud":[]},
			"oneTrustCookieCategories":{"web":[{"oneTrustCookieCategory":"ads"}]},"ketchConsentPurposes":[{"purpose":"k"}]}}]}`, id, id, kind)
	}
	w := parse(t, []byte(`{"sources":[`+source("w", "web")+`,`+source("c", "cloud")+`,`+source("o", "other")+`]}`))
	if len(w.Warnings) != 0 {
		t.Errorf("%q", w.Warnings)
	}
	for id, want := range map[string][3]bool{"w": {false, false, false}, "c": {true, true, false}, "o": {true, true, false}} {
		c := w.BySource(id).Connections[0].Consent
		got := [3]bool{
			c.Allows(&workspace.Denial{Provider: "custom", IDs: []string{"a"}}),
			c.Allows(&workspace.Denial{Provider: "oneTrust", IDs: []string{"ads"}}),
			c.Allows(&workspace.Denial{Provider: "ketch", IDs: []string{"k"}}),
		}
		if got != want {
			t.Errorf("%s: %v, want %v", id, got, want)
		}
	}
}

// TestOddParts: a part of a file in a form that nobody knows costs that part only, and is named.
func TestOddParts(t *testing.T) {
	t.Parallel()
	const good = `{"id":"good","writeKey":"g","enabled":true,"destinations":[{"id":"d","enabled":true,"isProcessorEnabled":true,"destinationDefinition":{"name":"X"}}]}`
	for text, want := range map[string]string{
		`{"sources":[` + good + `,{"id":5}]}`:                                            `sources[1] cannot be loaded: "sources.id" is a number, and must be a text`,
		`{"sources":[` + good + `,7]}`:                                                   `sources[1] cannot be loaded: "sources" is a number, and must be an object`,
		`{"sources":[` + good + `,{}]}`:                                                  `sources[1] has no id`,
		`{"sources":[` + good + `,{"id":"b","writeKey":"b","enabled":"yes"}]}`:           `"sources.enabled" is a string, and must be true or false`,
		`{"sources":[` + good + `,{"id":"b","writeKey":"b","geoEnrichment":[]}]}`:        `source "b" (sources[1]) "geoEnrichment" cannot be read, and is as if it were not there`,
		`{"sources":[` + good + `,{"id":"b","writeKey":"b","sourceDefinition":"HTTP"}]}`: `"sourceDefinition" cannot be read`,
		`{"connections":[],"sources":[` + good + `]}`:                                    `"connections" cannot be read`,
		`{"connections":{"c":{"enabled":"x"}},"sources":[` + good + `]}`:                 `connection "c" has no effect: "connections.c.enabled" is a string`,
		`{"settings":5,"sources":[` + good + `]}`:                                        `"settings" cannot be read`,
		`{"settings":{"eventBlocking":[]},"sources":[` + good + `]}`:                     `"settings" cannot be read`,
		`{"workspaceId":5,"sources":[` + good + `]}`:                                     `"workspaceId" cannot be read`,
		`{"eventReplays":{"r":{}},"sources":[` + good + `]}`:                             `asks for what is not built, eventReplays`,
		`{"settings":{"eventAuditEnabled":true},"sources":[` + good + `]}`:               `asks for what is not built, settings.eventAuditEnabled`,
	} {
		w := parse(t, []byte(text))
		if !strings.Contains(strings.Join(w.Warnings, "\n"), want) || len(w.Warnings) != 1 {
			t.Errorf("%s\n  got  %q\n  want %s", text, w.Warnings, want)
		}
		if s := w.ByWriteKey("g"); s == nil || len(s.Connections) != 1 || !s.Connections[0].Destination.Enabled {
			t.Errorf("%s: the other source is not whole", text)
		}
	}
}

// TestOddPartStays: a source or destination that cannot be read any more stays as it was, for as
// long as that is so.
func TestOddPartStays(t *testing.T) {
	t.Parallel()
	file := func(enabled, url string) string {
		return `{"sources":[{"id":"s","writeKey":"k","enabled":` + enabled + `,"destinations":[{"id":"d","enabled":true,"isProcessorEnabled":true,"config":` + url + `,"destinationDefinition":{"name":"X"}}]}]}`
	}
	w := after(t, nil, file("true", `{"u":1}`))
	for range 2 {
		w = after(t, w, file(`"yes"`, `{"u":1}`))
		if s := w.ByWriteKey("k"); s == nil || !s.Enabled || len(w.Warnings) != 1 || !strings.Contains(w.Warnings[0], `source "s" (sources[0]) stays as it was: "sources.enabled" is a string`) {
			t.Fatalf("%+v, %q", s, w.Warnings)
		}
	}
	for range 2 {
		w = after(t, w, file("true", `[]`))
		if d := w.Destination("d"); d == nil || !d.Enabled || string(d.Config) != `{"u":1}` || len(w.Warnings) != 1 || !strings.Contains(w.Warnings[0], `destination "d" (sources[0].destinations[0]) stays as it was: config`) {
			t.Fatalf("%+v, %q", d, w.Warnings)
		}
	}
	if w = after(t, w, file("false", `{"u":2}`)); w.ByWriteKey("k").Enabled || string(w.Destination("d").Config) != `{"u":2}` || len(w.Warnings) != 0 {
		t.Errorf("%+v, %q", w.ByWriteKey("k"), w.Warnings)
	}
}

// many is a random file as a value that can be changed.
type many struct {
	Sources     []map[string]any          `json:"sources"`
	Connections map[string]map[string]any `json:"connections"`
	Settings    map[string]any            `json:"settings"`
}

func randomFile(r *rand.Rand) *many {
	f := &many{Connections: map[string]map[string]any{}}
	for i := range 1 + r.IntN(6) {
		f.Sources = append(f.Sources, randomSource(r, fmt.Sprintf("s%d", i)))
	}
	return f
}

func randomSource(r *rand.Rand, id string) map[string]any {
	s := map[string]any{"id": id, "writeKey": "k" + id, "enabled": r.IntN(4) > 0, "sourceDefinition": map[string]any{"type": []string{"web", "cloud"}[r.IntN(2)]}}
	ds := []any{}
	for range r.IntN(4) {
		ds = append(ds, randomDestination(r))
	}
	s["destinations"] = ds
	if r.IntN(6) == 0 {
		s["workspaceId"] = "other"
	}
	return s
}

func randomDestination(r *rand.Rand) map[string]any {
	d := map[string]any{"id": fmt.Sprintf("d%d", r.IntN(8)), "enabled": r.IntN(3) > 0, "isProcessorEnabled": true,
		"config": map[string]any{"n": r.IntN(3)}, "destinationDefinition": map[string]any{"name": "X"}}
	if r.IntN(5) == 0 {
		d["transformations"] = []any{map[string]any{"id": "t"}}
	}
	return d
}

func (f *many) change(r *rand.Rand) {
	i := r.IntN(len(f.Sources))
	switch r.IntN(7) {
	case 0:
		f.Sources[i] = randomSource(r, f.Sources[i]["id"].(string))
	case 1:
		f.Sources = append(f.Sources, randomSource(r, fmt.Sprintf("n%d", r.Int())))
	case 2:
		if len(f.Sources) > 1 {
			f.Sources = append(f.Sources[:i], f.Sources[i+1:]...)
		}
	case 3:
		if ds := f.Sources[i]["destinations"].([]any); len(ds) > 0 {
			ds[r.IntN(len(ds))] = randomDestination(r)
		}
	case 4:
		f.Connections[fmt.Sprintf("c%d", r.IntN(4))] = map[string]any{"sourceId": f.Sources[i]["id"], "destinationId": fmt.Sprintf("d%d", r.IntN(8)), "enabled": r.IntN(2) == 0}
	case 5:
		clear(f.Connections)
	case 6:
		f.Settings = map[string]any{"eventBlocking": map[string]any{"events": map[string]any{"track": []string{"a", "b"}[:r.IntN(3)]}}}
	}
}

// picture is all of a workspace that its users see.
func picture(w *workspace.Workspace) map[string]any {
	all := map[string]any{"warnings": w.Warnings, "id": w.ID, "destinations": w.Destinations()}
	for i, s := range w.Sources {
		own := map[string]any{"at": i, "enabled": s.Enabled, "workspace": s.Workspace, "scope": *s.Scope, "blocked": s.Blocked,
			"found": w.BySource(s.ID) == s && w.ByWriteKey(s.WriteKey) == s}
		for j, c := range s.Connections {
			d := c.Destination
			own[fmt.Sprint("connection ", j)] = map[string]any{"id": d.ID, "config": string(d.Config), "enabled": d.Enabled, "off": d.Off, "workspace": d.Workspace,
				"scope": *c.Scope, "found": w.Destination(d.ID) == d}
		}
		all[s.ID] = own
	}
	return all
}

// TestRenewedIsParsed: a state that takes over what has not changed is the one that a new reader
// of the same file has, over random histories of files.
func TestRenewedIsParsed(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		f := randomFile(r)
		var w *workspace.Workspace
		for step := range 12 {
			text, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			w = after(t, w, string(text))
			if d := cmp.Diff(picture(parse(t, text)), picture(w)); d != "" {
				t.Fatalf("seed %d, step %d: -new +renewed:\n%s\n%s", seed, step, d, text)
			}
			f.change(r)
		}
	}
}

// TestChangeCostsItself: of a file in which one destination changes, everything else is the same.
func TestChangeCostsItself(t *testing.T) {
	t.Parallel()
	file := func(n int) string {
		var b strings.Builder
		b.WriteString(`{"sources":[`)
		for i := range 5 {
			if i > 0 {
				b.WriteString(",")
			}
			fmt.Fprintf(&b, `{"id":"s%d","writeKey":"k%d","enabled":true,"destinations":[`, i, i)
			for j := range 4 {
				if j > 0 {
					b.WriteString(",")
				}
				m := 0
				if i == 2 && j == 1 {
					m = n
				}
				fmt.Fprintf(&b, `{"id":"d%d-%d","enabled":true,"isProcessorEnabled":true,"destinationDefinition":{"name":"X"},"config":{"n":%d}}`, i, j, m)
			}
			b.WriteString("]}")
		}
		b.WriteString("]}")
		return b.String()
	}
	one := after(t, nil, file(1))
	two := after(t, one, file(2))
	for i := range 5 {
		for j := range 4 {
			id := fmt.Sprintf("d%d-%d", i, j)
			if same, want := one.Destination(id) == two.Destination(id), i != 2 || j != 1; same != want {
				t.Errorf("destination %s is the same: %t", id, same)
			}
		}
		if same := one.Sources[i] == two.Sources[i]; same != (i != 2) {
			t.Errorf("source %d is the same: %t", i, same)
		}
	}
}
