package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/gateway"
	"github.com/weirdata/weir/internal/workspace"
)

// tallied has a gateway count as its source does.
func tallied(t *testing.T, g *gateway.Gateway, r *http.Request) {
	t.Helper()
	var c gateway.Call
	if g.Begin(&c, r, received) != nil {
		return
	}
	var body []byte
	if c.HasBody() {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			t.Error(err)
		}
	}
	b, a := g.Events(&c, body)
	if a != nil {
		g.Tally(&c, a, 0)
		return
	}
	g.Tally(&c, gateway.OK, len(b))
}

const two = `{"workspaceId":"w","sources":[
	{"id":"s1","name":"one","writeKey":"KEY1","enabled":true,"sourceDefinition":{"name":"HTTP"},"destinations":[]},
	{"id":"s2","name":"two","writeKey":"KEY2","enabled":%t,"sourceDefinition":{"name":"HTTP"},"destinations":[]}]}`

func stateOf(t *testing.T, text string) *workspace.Workspace {
	t.Helper()
	w, err := workspace.Parse("workspace", []byte(text), received)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestTally: each request counts where its write key says, or among those of nobody, by the answer that
// was decided; counts go on over changes of the configuration, and many may count at once.
func TestTally(t *testing.T) {
	t.Parallel()
	var live workspace.State
	live.Set(stateOf(t, fmt.Sprintf(two, true)))
	tally := &gateway.Tally{}
	g := gateway.New(&live, gateway.Options{Tally: tally})
	const event = `{"userId":"u"}`
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 50 {
				tallied(t, g, post("/v1/track", "KEY1", event))
				tallied(t, g, post("/v1/batch", "KEY2", `{"batch":[`+event+`,`+event+`,`+event+`]}`))
				tallied(t, g, post("/v1/batch", "KEY2", `{"batch":[{}]}`))
				tallied(t, g, post("/v1/track", "WRONG", event))
			}
		})
	}
	wait.Wait()
	tallied(t, g, post("/v1/track", "", `{"userId":"u","writeKey":"KEY1"}`)) // the key in the body
	tallied(t, g, post("/v1/track", "", event))                              // no key
	tallied(t, g, post("/v1/import", "KEY1", `{"batch":[`+event+`,{}]}`))    // taken in part
	tallied(t, g, newGet("/pixel/v1/track?writeKey=KEY1"))                   // answered with a picture all the same
	tallied(t, g, newGet("/v1/track"))                                       // not how events are sent
	tallied(t, g, newGet("/v1/nothing"))                                     // no path of events
	live.Set(stateOf(t, fmt.Sprintf(two, false)))
	tallied(t, g, post("/v1/track", "KEY2", event))
	tallied(t, g, post("/v1/track", "", `{"userId":"u","writeKey":"KEY2"}`))

	w := live.Current()
	refused := func(code int, answer string, n int64) gateway.Refused {
		return gateway.Refused{Code: code, Answer: answer, Requests: n}
	}
	for _, row := range []struct {
		name string
		got  gateway.Counts
		want gateway.Counts
	}{
		{"KEY1", tally.Of(w.BySource("s1")), gateway.Counts{Requests: 401, Events: 402, Refused: []gateway.Refused{refused(400, "request neither has anonymousId nor userId", 2)}}},
		{"KEY2", tally.Of(w.BySource("s2")), gateway.Counts{Requests: 400, Events: 1200, Refused: []gateway.Refused{refused(400, "request neither has anonymousId nor userId", 400), refused(404, "source is disabled", 2)}}},
		{"nobody", tally.Unknown(), gateway.Counts{Refused: []gateway.Refused{refused(400, "invalid http request method", 1), refused(401, "failed to read writekey from header", 1), refused(401, "invalid write key", 400)}}},
		{"inside", tally.Inside(), gateway.Counts{}},
	} {
		if len(row.got.Refused) > 0 && !row.got.Denied.Equal(received) || row.got.Requests > 0 && !row.got.Taken.Equal(received) {
			t.Errorf("%s: last at %v and %v", row.name, row.got.Taken, row.got.Denied)
		}
		row.got.Taken, row.got.Denied = row.want.Taken, row.want.Denied
		if diff := cmp.Diff(row.want, row.got); diff != "" {
			t.Errorf("%s: %s", row.name, diff)
		}
	}
}

func newGet(path string) *http.Request {
	r := post(path, "", "")
	r.Method = http.MethodGet
	return r
}

// TestTallyOverReloads: while one gateway takes the place of another that has read the same configuration,
// both count, and neither undoes what the other did.
func TestTallyOverReloads(t *testing.T) {
	t.Parallel()
	tally := &gateway.Tally{}
	gateways := make([]*gateway.Gateway, 2)
	var live [2]workspace.State
	for i := range gateways {
		w, err := workspace.Parse("workspace", fmt.Appendf(nil, two, true), received.Add(time.Duration(i)*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		live[i].Set(w)
		gateways[i] = gateway.New(&live[i], gateway.Options{Tally: tally})
	}
	for range 10 {
		for _, g := range gateways {
			tallied(t, g, post("/v1/track", "KEY1", `{"userId":"u"}`))
		}
	}
	for i := range live {
		if got := tally.Of(live[i].Current().BySource("s1")); got.Requests != 20 || got.Events != 20 {
			t.Errorf("by the configuration %d: %+v", i, got)
		}
	}
	// What leaves the configuration is counted no more, and what was counted of it is forgotten.
	w, err := workspace.Parse("workspace", []byte(`{"workspaceId":"w","sources":[]}`), received.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	gone := live[1].Current().BySource("s1")
	tallied(t, gateways[1], post("/v1/track", "KEY1", `{"userId":"u"}`))
	live[1].Set(w)
	var c gateway.Call
	if a := gateways[0].Begin(&c, post("/v1/track", "KEY1", ""), received); a != nil {
		t.Fatal(a.Code)
	}
	live[0].Set(w)
	gateways[0].Tally(&c, gateway.OK, 1)
	if got := tally.Of(gone); got.Requests != 0 {
		t.Errorf("of a source that has left is counted %+v", got)
	}
	if got := tally.Unknown(); got.Requests != 1 || got.Events != 1 {
		t.Errorf("of nobody is counted %+v", got)
	}
}

// TestTallyIsBounded: what a client makes up is counted without being kept.
func TestTallyIsBounded(t *testing.T) {
	t.Parallel()
	var live workspace.State
	live.Set(stateOf(t, fmt.Sprintf(two, true)))
	tally := &gateway.Tally{}
	g := gateway.New(&live, gateway.Options{Tally: tally})
	r := post("/v1/track", "KEY9", `{"userId":"u"}`)
	for n := range 1000 {
		r.SetBasicAuth(fmt.Sprintf("KEY%d%s", n+3, strings.Repeat("x", n)), "")
		tallied(t, g, r)
	}
	if got := tally.Unknown(); len(got.Refused) != 1 || got.Refused[0].Requests != 1000 {
		t.Errorf("of unknown keys is counted %+v", got)
	}
}
