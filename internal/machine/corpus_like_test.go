package machine

import (
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
)

// shown is an event of ours as the recording shows it.
func (r *recorded) shown(e HistoryEvent) map[string]any {
	d := map[string]any{}
	set := func(key string, v jsonvalue.Value) {
		if v.Defined() {
			d[key] = r.masked(key, parsed(normal(v.JSON())))
		}
	}
	set("input", e.Input)
	set("output", e.Output)
	set("error", e.Error)
	set("cause", e.Cause)
	if strings.HasPrefix(e.Type, "TaskScheduled") {
		d["parameters"] = d["input"]
		delete(d, "input")
	}
	if e.State != "" {
		d["name"] = e.State
	}
	if e.Timeout > 0 {
		d["timeoutInSeconds"] = e.Timeout.Seconds()
	}
	if e.Heartbeat > 0 {
		d["heartbeatInSeconds"] = e.Heartbeat.Seconds()
	}
	if e.Resource != "" && !strings.HasPrefix(e.Type, "Task") && strings.HasSuffix(e.Type, "Scheduled") {
		d["resource"] = normal(r.prepared(e.Resource))
	}
	if e.Type == "MapStateStarted" {
		d["length"] = float64(e.Length)
	}
	if strings.HasPrefix(e.Type, "MapIteration") {
		d["index"] = float64(e.Index)
	}
	if len(e.Assigned) > 0 {
		vars := map[string]any{}
		for _, a := range e.Assigned {
			vars[a.Name] = r.masked(a.Name, parsed(normal(a.Value.JSON())))
		}
		d["assignedVariables"] = vars
	}
	return d
}

func parsed(text string) any {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return text
	}
	return v
}

// masked puts the recording's replacements in the place of what differs in every run.
func (r *recorded) masked(key string, v any) any {
	for _, p := range r.JSONPath {
		if last := p.JSONPath[strings.LastIndexByte(p.JSONPath, '.')+1:]; p.JSONPath != "" && last == key {
			return p.Replacement
		}
	}
	switch v := v.(type) {
	case map[string]any:
		for k, m := range v {
			v[k] = r.masked(k, m)
		}
	case []any:
		for i, m := range v {
			v[i] = r.masked("", m)
		}
	}
	return v
}

// shownElsewhere are details that an API adds to the history.
var shownElsewhere = []string{
	"inputDetails", "outputDetails", "roleArn", "region", "resourceType", "assignedVariablesDetails", "workerName", "taskCredentials", "redriveCount",
}

func (r *recorded) wanted(e map[string]any) map[string]any {
	d := maps.Clone(details(e))
	for _, k := range shownElsewhere {
		delete(d, k)
	}
	if typ := e["type"].(string); strings.HasPrefix(typ, "Task") && !strings.HasPrefix(typ, "TaskState") || !strings.HasSuffix(typ, "Scheduled") {
		delete(d, "resource")
	}
	return d
}

var placeholder = regexp.MustCompile(`<+[A-Za-z][A-Za-z0-9_ :.-]*>(:\d+>)?`)

// like reports whether a value is what was recorded, given that recordings mask what
// differs in every run and show JSON within strings as JSON.
func like(want, got any) bool {
	switch want := want.(type) {
	case map[string]any:
		g, ok := unpacked(got).(map[string]any)
		if !ok || len(g) != len(want) {
			return false
		}
		for k, w := range want {
			v, ok := g[k]
			if !ok || !like(w, v) {
				return false
			}
		}
		return true
	case []any:
		g, ok := unpacked(got).([]any)
		if !ok || len(g) != len(want) {
			return false
		}
		for i := range want {
			if !like(want[i], g[i]) {
				return false
			}
		}
		return true
	case string:
		return likeText(want, got)
	}
	return reflect.DeepEqual(want, got) || reflect.DeepEqual(want, unpacked(got))
}

func unpacked(v any) any {
	if s, ok := v.(string); ok {
		return parsed(s)
	}
	return v
}

func likeText(want string, got any) bool {
	text, isText := got.(string)
	if isText && text == want {
		return true
	}
	if slices.Contains([]string{"timestamp", "date", "datetime", "<timestamp>"}, want) {
		_, err := time.Parse(time.RFC3339Nano, text)
		return err == nil || regexp.MustCompile(`^\d{4}-\d\d-\d\dT`).MatchString(text)
	}
	if want == "generated-uuid" {
		return regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(text)
	}
	if placeholder.MatchString(want) && isText {
		var b strings.Builder
		at := 0
		for _, m := range placeholder.FindAllStringIndex(want, -1) {
			b.WriteString(regexp.QuoteMeta(want[at:m[0]]) + `[\s\S]*`)
			at = m[1]
		}
		b.WriteString(regexp.QuoteMeta(want[at:]))
		if regexp.MustCompile(`^` + b.String() + `$`).MatchString(text) {
			return true
		}
	}
	inner := parsed(want)
	if s, ok := inner.(string); ok && s == want {
		return false
	}
	return like(inner, got)
}

func TestLike(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		want, got string
		like      bool
	}{
		{`{"a":1}`, `{"a":1.0}`, true},
		{`{"a":1}`, `{"a":2}`, false},
		{`{"a":1}`, `{"a":1,"b":2}`, false},
		{`[1,2]`, `[2,1]`, false},
		{`"[1,2]"`, `[1,2]`, true},
		{`"[1,2]"`, `[1,3]`, false},
		{`{"a":"{\"b\": 1}"}`, `{"a":"{\"b\":1}"}`, true},
		{`"x <uuid:1> y"`, `"x 42 y"`, true},
		{`"x <uuid:1> y"`, `"x 42 z"`, false},
		{`"text"`, `"other"`, false},
		{`"timestamp"`, `"2026-01-01T00:00:00.000Z"`, true},
		{`"timestamp"`, `"soon"`, false},
		{`null`, `{}`, false},
	} {
		if got := like(parsed(row.want), parsed(row.got)); got != row.like {
			t.Errorf("like(%s, %s) = %t", row.want, row.got, got)
		}
	}
}
