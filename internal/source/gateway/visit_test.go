package gatewaysource

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/gateway"
)

// TestTry: a trial goes by the gateway's address as a client's request does, to the host that it is for,
// and its events are counted like all others, on the quick way and on the general one.
func TestTry(t *testing.T) {
	t.Parallel()
	kept := map[string]any{}
	build := func(change func(*Config)) *Source {
		c := config(t)
		change(&c)
		s, err := New(t.Context(), connector.Deps{Version: "test", Pipeline: "p", Kept: func(name string, with func() any) any {
			if kept[name] == nil {
				kept[name] = with()
			}
			return kept[name]
		}}, c)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	closed := build(func(*Config) {})
	if got, err := closed.Try(context.Background(), "KEY1", []byte(`{}`)); err == nil {
		t.Errorf("a gateway that is not open answers %+v", got)
	}
	for _, hosts := range [][]string{nil, {"events.example"}} {
		s := opened(t, build(func(c *Config) { c.Address, c.HostNames = "0.0.0.0:0", hosts }))
		var seen []string
		s.run(t, func(b event.Batch) event.Outcomes {
			for _, m := range b {
				seen = append(seen, m.Meta.ID)
			}
			return nil
		})
		got, err := s.Try(t.Context(), "KEY1", []byte(`{"userId":"u","messageId":"m1"}`))
		if err != nil || got.Code != http.StatusOK || got.Answer != "ok" {
			t.Errorf("hosts %v: %+v, %v", hosts, got, err)
		}
		if got, err = s.Try(t.Context(), "WRONG", []byte(`{"userId":"u"}`)); err != nil || got.Code != http.StatusUnauthorized || got.Answer != "invalid write key" {
			t.Errorf("hosts %v, a wrong key: %+v, %v", hosts, got, err)
		}
		if strings.Join(seen, " ") != "m1" {
			t.Errorf("hosts %v: %v came", hosts, seen)
		}
	}
	w, tally := closed.Now()
	if n := tally.Of(w.Sources[0]); n.Requests != 2 || n.Events != 2 || len(n.Refused) != 0 {
		t.Errorf("of the source is counted %+v", n)
	}
	if n := tally.Unknown(); len(n.Refused) != 1 || n.Refused[0] != (gateway.Refused{Code: 401, Answer: "invalid write key", Requests: 2}) {
		t.Errorf("of nobody is counted %+v", n)
	}
}
