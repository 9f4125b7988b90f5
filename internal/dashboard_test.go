package internal_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/meter"
)

// dashboard is what is used of the format of Grafana's dashboards, version 39 of its schema. What
// is not here Grafana would pass over in silence, so it is not written.
type dashboard struct {
	Title         string   `json:"title"`
	UID           string   `json:"uid"`
	SchemaVersion int      `json:"schemaVersion"`
	Editable      bool     `json:"editable"`
	Tags          []string `json:"tags"`
	Time          struct {
		From string `json:"from"`
		To   string `json:"to"`
	} `json:"time"`
	Refresh    string `json:"refresh"`
	Templating struct {
		List []variable `json:"list"`
	} `json:"templating"`
	Panels []panel `json:"panels"`
}

type dataSource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type variable struct {
	Name, Label, Type string
	Datasource        *dataSource
	Query             json.RawMessage // of a data source its type, of values an object
	IncludeAll, Multi bool
	Current           *struct{ Text, Value string }
	Refresh           int
}

type panel struct {
	ID         int         `json:"id"`
	Type       string      `json:"type"`
	Title      string      `json:"title"`
	Collapsed  *bool       `json:"collapsed"` // of a row
	Panels     []panel     `json:"panels"`    // of a row that is collapsed
	Place      gridPlace   `json:"gridPos"`
	Datasource *dataSource `json:"datasource"`
	Fields     *struct {
		Defaults struct {
			Unit string   `json:"unit"`
			Min  *float64 `json:"min"`
		} `json:"defaults"`
		Overrides []struct {
			Matcher struct {
				ID      string `json:"id"`
				Options string `json:"options"`
			} `json:"matcher"`
			Properties []struct {
				ID    string `json:"id"`
				Value string `json:"value"`
			} `json:"properties"`
		} `json:"overrides"`
	} `json:"fieldConfig"`
	Options *struct {
		Legend struct {
			DisplayMode string `json:"displayMode"`
			Placement   string `json:"placement"`
		} `json:"legend"`
		Tooltip struct {
			Mode string `json:"mode"`
			Sort string `json:"sort"`
		} `json:"tooltip"`
	} `json:"options"`
	Targets []struct {
		RefID  string `json:"refId"`
		Expr   string `json:"expr"`
		Legend string `json:"legendFormat"`
	} `json:"targets"`
}

// gridPlace is where a panel is, in a grid of 24 columns.
type gridPlace struct {
	X int `json:"x"`
	Y int `json:"y"`
	W int `json:"w"`
	H int `json:"h"`
}

func (a gridPlace) meets(b gridPlace) bool {
	return a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H
}

// units are those of Grafana that are used: seconds, a number, a rate of messages and of requests,
// and bytes.
var units = []string{"s", "short", "ops", "reqps", "bytes"}

var (
	variableUsed = regexp.MustCompile(`\$\{?(\w+)\}?`)
	legendLabel  = regexp.MustCompile(`\{\{(\w+)\}\}`)
	valuesQuery  = regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`)
)

// TestDashboard holds the dashboard against the format: Grafana shows nothing, or the wrong, where it
// is not kept, and says nothing.
func TestDashboard(t *testing.T) {
	t.Parallel()
	text := document(t, "dashboard.json")
	var d dashboard
	strict := json.NewDecoder(strings.NewReader(text))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&d); err != nil {
		t.Fatalf("not in the form of a dashboard: %v", err)
	}
	if d.Title == "" || d.UID == "" || d.SchemaVersion != 39 || d.Time.From == "" || d.Time.To != "now" || d.Refresh == "" {
		t.Errorf("head of the dashboard: %+v", d)
	}
	known := map[string]bool{}
	for _, v := range d.Templating.List {
		if known[v.Name] {
			t.Errorf("there are two variables %s", v.Name)
		}
		known[v.Name] = true
		checkVariable(t, v)
	}
	for _, m := range variableUsed.FindAllStringSubmatch(text, -1) {
		if !known[m[1]] && m[1] != "__all" {
			t.Errorf("%s is no variable of the dashboard", m[0])
		}
	}
	ids, titles, end := map[int]bool{}, map[string]bool{}, 0
	for i, p := range d.Panels {
		if p.ID <= 0 || ids[p.ID] || p.Title == "" || titles[p.Title] {
			t.Errorf("panel %d %q: its id and its title have to be its own", p.ID, p.Title)
		}
		ids[p.ID], titles[p.Title] = true, true
		if p.Place.X < 0 || p.Place.Y < 0 || p.Place.W < 1 || p.Place.H < 1 || p.Place.X+p.Place.W > 24 {
			t.Errorf("panel %q is at %+v", p.Title, p.Place)
		}
		for _, other := range d.Panels[:i] {
			if p.Place.meets(other.Place) {
				t.Errorf("panel %q covers %q", p.Title, other.Title)
			}
		}
		if p.Type == "row" {
			if p.Place.Y < end {
				t.Errorf("row %q is above what comes before it", p.Title)
			}
			if p.Place.W != 24 || p.Place.H != 1 || p.Collapsed == nil || *p.Collapsed || len(p.Panels) > 0 || len(p.Targets) > 0 {
				t.Errorf("row %q: %+v", p.Title, p)
			}
		} else {
			checkPanel(t, p)
		}
		end = max(end, p.Place.Y+p.Place.H)
	}
}

func checkVariable(t *testing.T, v variable) {
	t.Helper()
	switch v.Type {
	case "datasource":
		if string(v.Query) != `"prometheus"` {
			t.Errorf("variable %s: a data source of %s", v.Name, v.Query)
		}
	case "query":
		var query struct {
			Query string `json:"query"`
			RefID string `json:"refId"`
		}
		if err := json.Unmarshal(v.Query, &query); err != nil || query.RefID == "" || v.Datasource == nil || v.Datasource.UID != "${datasource}" {
			t.Errorf("variable %s: query %s (%v), data source %v", v.Name, v.Query, err, v.Datasource)
		}
		m := valuesQuery.FindStringSubmatch(query.Query)
		if m == nil || !slices.ContainsFunc(meter.Definitions(), func(d *meter.Definition) bool {
			return d.Name == m[1] && (slices.Contains(d.Labels, m[2]) || m[2] == "instance")
		}) {
			t.Errorf("variable %s: its values are %q, of a metric or a label that there is not", v.Name, query.Query)
		}
		if v.Multi != v.IncludeAll || v.IncludeAll && (v.Current == nil || v.Current.Value != "$__all") || v.Refresh != 2 {
			t.Errorf("variable %s: %+v", v.Name, v)
		}
	default:
		t.Errorf("variable %s is of type %q", v.Name, v.Type)
	}
}

func checkPanel(t *testing.T, p panel) {
	t.Helper()
	if p.Type != "timeseries" || p.Datasource == nil || *p.Datasource != (dataSource{"prometheus", "${datasource}"}) || p.Fields == nil || p.Options == nil || len(p.Targets) == 0 {
		t.Errorf("panel %q: %+v", p.Title, p)
		return
	}
	if !slices.Contains(units, p.Fields.Defaults.Unit) {
		t.Errorf("panel %q has the unit %q, which is none that is known here", p.Title, p.Fields.Defaults.Unit)
	}
	refs := ""
	for i, target := range p.Targets {
		if target.RefID != string(rune('A'+i)) {
			t.Errorf("panel %q: target %d is called %q", p.Title, i, target.RefID)
		}
		refs += target.RefID
		checkLegend(t, p.Title, target.Expr, target.Legend)
		// Where metrics say their unit by their name, it is the panel's.
		unit := p.Fields.Defaults.Unit
		for _, o := range p.Fields.Overrides {
			if o.Matcher.ID == "byFrameRefID" && o.Matcher.Options == target.RefID {
				for _, property := range o.Properties {
					if property.ID == "unit" {
						unit = property.Value
					}
				}
			}
		}
		if want := unitOf(target.Expr); !slices.Contains(want, unit) {
			t.Errorf("panel %q shows %s by the unit %q, want one of %q", p.Title, target.Expr, unit, want)
		}
	}
	for _, o := range p.Fields.Overrides {
		if o.Matcher.ID != "byFrameRefID" || len(o.Matcher.Options) != 1 || !strings.Contains(refs, o.Matcher.Options) {
			t.Errorf("panel %q overrides what there is not: %+v", p.Title, o.Matcher)
		}
		for _, property := range o.Properties {
			if property.ID == "unit" && !slices.Contains(units, property.Value) {
				t.Errorf("panel %q has the unit %q, which is none that is known here", p.Title, property.Value)
			}
		}
	}
}

// unitOf are the units that an expression can be shown by.
func unitOf(expr string) []string {
	switch {
	case strings.HasPrefix(expr, "60 *") || strings.Contains(expr, "increase(") || strings.HasPrefix(expr, "count "):
		return []string{"short"}
	case strings.Contains(expr, "_seconds"):
		return []string{"s"}
	case strings.Contains(expr, "_bytes") && !strings.Contains(expr, "rate("):
		return []string{"bytes"}
	case strings.Contains(expr, "rate("):
		return []string{"ops", "reqps"}
	}
	return []string{"short"}
}

// checkLegend: two series of a target that have one name in the legend could not be told apart, and a
// label that there is not is shown as nothing.
func checkLegend(t *testing.T, title, expr, legend string) {
	t.Helper()
	if legend == "" || expr == "" {
		t.Errorf("panel %q: %q is shown as %q", title, expr, legend)
	}
	have := []string{}
	if m := grouped.FindStringSubmatch(expr); m != nil {
		for name := range strings.SplitSeq(m[1], ",") {
			have = append(have, strings.TrimSpace(name))
		}
		have = slices.DeleteFunc(have, func(name string) bool { return name == "le" })
	} else {
		have = append(have, "instance", "job")
		for _, m := range metricName.FindAllStringSubmatch(expr, -1) {
			for _, d := range meter.Definitions() {
				if d.Name == m[1] {
					have = append(have, d.Labels...)
				}
			}
		}
	}
	var shown []string
	for _, m := range legendLabel.FindAllStringSubmatch(legend, -1) {
		if shown = append(shown, m[1]); !slices.Contains(have, m[1]) {
			t.Errorf("panel %q shows the label %s of %s, which it has not", title, m[1], expr)
		}
	}
	for _, name := range have {
		// A process has one store, and few have two with queues of one name.
		one := name == "job" || name == "store" && (slices.Contains(shown, "queue") || slices.Contains(shown, "instance"))
		if !one && !slices.Contains(shown, name) {
			t.Errorf("panel %q shows series of %s by one name that differ by %s", title, expr, name)
		}
	}
}
