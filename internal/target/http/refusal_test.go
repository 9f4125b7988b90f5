package httptarget

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
)

// TestRefusedWithoutARule: an answer that refuses an event is invalid in a pipeline block, and
// what Snowbridge takes it for elsewhere; either way the error says how the answer begins and the
// rule that would have it otherwise. With a rule, and for other answers, nothing changes.
func TestRefusedWithoutARule(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		code        int
		named, rule bool
		kind        fault.Kind
		fix         string // part of it; empty when there is none
	}{
		{400, true, false, fault.Invalid, `type       = "throttle"`},
		{422, true, false, fault.Invalid, `http_codes = [422]`},
		{400, false, false, fault.Transient, `type       = "invalid"`},
		{415, false, false, fault.Transient, `http_codes = [415]`},
		{400, true, true, fault.Setup, ""},
		{400, false, true, fault.Setup, ""},
		{401, true, false, fault.Transient, ""},
		{404, true, false, fault.Transient, ""},
		{409, true, false, fault.Transient, ""},
		{429, true, false, fault.Transient, ""},
		{500, true, false, fault.Transient, ""},
	} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
			http.Error(w, "no field n; the token is hunter2-secret "+strings.Repeat("é", 1000), row.code)
		})
		c := defaults()
		c.URL, c.BasicAuthUsername, c.BasicAuthPassword = s.URL, "u", "hunter2-secret"
		if row.rule {
			rules(Rule{Type: "setup", HTTPCodes: []int{400}})(&c)
		}
		to, err := New(t.Context(), connector.Deps{Named: row.named}, c)
		if err != nil {
			t.Fatal(err)
		}
		if err := to.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		err = to.Write(context.Background(), messages(`1`))
		d := fault.DetailOf(err)
		if fault.Of(err) != row.kind || !strings.Contains(d.Fix, row.fix) || (d.Fix == "") != (row.fix == "") {
			t.Errorf("%+v: %v is %s, fix %q", row, err, fault.Of(err), d.Fix)
		}
		if row.fix != "" && (!strings.HasPrefix(d.Answer, "no field n") || len(d.Answer) > mostAnswer || strings.Contains(d.Answer, "hunter2") || !strings.Contains(err.Error(), d.Code)) {
			t.Errorf("%+v: the answer begins %q", row, d.Answer)
		}
		_ = to.Close(context.Background())
	}
}
