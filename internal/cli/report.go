package cli

import (
	"reflect"
	"slices"
	"strings"

	"github.com/weirdata/weir/internal/config"
)

// atReload are the settings of a process that a reload changes at once, or that change nothing: each
// for its reason. Every other one changes at the next start, and a reload says so.
var atReload = map[string]string{
	"log_level":           "the level is set",
	"max_in_flight_bytes": "the budget is resized",
	"admin.token":         "the server is told",
	"admin.auth":          "the server is told",
	"store":               "the open store is renewed, and names what waits for the next start",
	"queue":               "the pipelines are made anew with it",
	"collect":             "it stands for pipelines and queues",
	"workspace":           "it is read anew",
	"machine":             "it is made anew",
	"function":            "it is made anew",
	"stats_receiver":      "the reports are renewed",
	"sentry":              "the reports are renewed",
	"monitoring":          "the reports are renewed",
	"metrics":             "the reports and the export are renewed",
	"tracing":             "the pipelines are made anew with it",
	"license":             "it is read and ignored",
	"user_provided_id":    "it is read and ignored",
	"disable_telemetry":   "it is read and ignored",
}

// warnOfLater names, in one line, the settings that a reload changed and that count from the next
// start on.
func (r *runner) warnOfLater(now config.Process) {
	later := differ("", reflect.ValueOf(r.started), reflect.ValueOf(now))
	if r.flags.format != "" { // it comes first
		later = slices.DeleteFunc(later, func(name string) bool { return name == "log_format" })
	}
	if len(later) > 0 {
		r.log.Warn("part of the config changes at the next start only", "settings", later)
	}
}

// differ are the settings below a block that are not the same in two configs, but for those that
// are atReload.
func differ(block string, was, is reflect.Value) (names []string) {
	for i := range was.NumField() {
		f := was.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("hcl"), ",")
		switch {
		case !f.IsExported() || f.Type == reflect.TypeFor[*config.Use]():
			continue
		case name == "": // what a use block of this one holds
			name = "use"
		}
		if block != "" {
			name = block + "." + name
		}
		if atReload[name] != "" {
			continue
		}
		a, b := was.Field(i), is.Field(i)
		if a.Kind() == reflect.Pointer && !a.IsNil() && !b.IsNil() && a.Elem().Kind() == reflect.Struct {
			names = append(names, differ(name, a.Elem(), b.Elem())...)
		} else if !reflect.DeepEqual(a.Interface(), b.Interface()) {
			names = append(names, name)
		}
	}
	return names
}
