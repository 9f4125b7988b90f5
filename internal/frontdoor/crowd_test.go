package frontdoor_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/frontdoor"
)

// TestClashAsServeMux: two share an address exactly where one ServeMux takes the patterns of both,
// whatever is asked first.
func TestClashAsServeMux(t *testing.T) {
	t.Parallel()
	hosts := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a.example", "b.example", "c.example"}), 0, 2, rapid.ID)
	paths := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"/", "/a", "/a/", "/a/b", "/a/{x}", "/{x}/b", "/a/{x...}", "/a/{$}", "/%61", "/%61/b", "/a%2Fb"}), 0, 2, rapid.ID)
	rapid.Check(t, func(t *rapid.T) {
		route := func(name string) frontdoor.Route {
			return frontdoor.Route{Hosts: hosts.Draw(t, name+" hosts"), Paths: paths.Draw(t, name+" paths")}
		}
		a, b := route("a"), route("b")
		want := overlap(a, b)
		for _, address := range []string{"127.0.0.1:80", "localhost:80"} {
			got := frontdoor.Collide(frontdoor.Claim{Address: "127.0.0.1:80", Route: a}, frontdoor.Claim{Address: address, Route: b})
			if (got != nil) != want {
				t.Fatalf("%+v and %+v at %s: %+v, want a clash: %t", a, b, address, got, want)
			}
		}
	})
}

// overlap is whether a request could be for both.
func overlap(a, b frontdoor.Route) bool {
	patterns := func(r frontdoor.Route) (all []string, everything bool) {
		hosts, paths := r.Hosts, r.Paths
		if len(hosts) == 0 {
			hosts = []string{""}
		}
		if len(paths) == 0 {
			paths = []string{"/"}
		}
		for _, h := range hosts {
			for _, p := range paths {
				all = append(all, h+p)
			}
		}
		return all, slices.Contains(all, "/")
	}
	one, all := patterns(a)
	other, all2 := patterns(b)
	if all || all2 {
		return true // who has every request shares with nobody
	}
	for _, p := range one {
		for _, q := range other {
			if clashes(p, q) {
				return true
			}
		}
	}
	return false
}

// clashes reports whether a ServeMux refuses to have both patterns.
func clashes(p, q string) (yes bool) {
	mux := http.NewServeMux()
	mux.Handle(p, http.NotFoundHandler())
	defer func() { yes = recover() != nil }()
	mux.Handle(q, http.NotFoundHandler())
	return false
}

// TestCrowd: many who enter an address together and leave it cost tables only as requests ask for
// them, and each request finds who is there.
func TestCrowd(t *testing.T) {
	t.Parallel()
	at := addresstest.Free(t)
	const n = 200
	places := make([]*frontdoor.Place, n)
	for i := range places {
		p, err := frontdoor.Enter(t.Context(), frontdoor.Door{
			Address: at, Owner: fmt.Sprint("owner", i), Settings: settings(),
			Route: frontdoor.Route{Hosts: []string{fmt.Sprintf("h%d.example", i%7)}, Paths: []string{fmt.Sprintf("/p%d", i)}},
		}, &host{name: fmt.Sprint("n", i)})
		if err != nil {
			t.Fatal(err)
		}
		p.Lead()
		places[i] = p
	}
	if frontdoor.Tabled(places[0]) {
		t.Error("a table was made before a request")
	}
	c := newClient(t)
	for i := range places {
		if got, want := c.get(t, at, fmt.Sprintf("h%d.example", i%7), fmt.Sprintf("/p%d", i)), fmt.Sprint("200 n", i); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for i, p := range places {
		if i%50 == 48 {
			if got, want := c.get(t, at, fmt.Sprintf("h%d.example", i%7), fmt.Sprintf("/p%d", i)), fmt.Sprint("200 n", i); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			if got := c.get(t, at, fmt.Sprintf("h%d.example", (i-1)%7), fmt.Sprintf("/p%d", i-1)); got != "404 404 page not found" {
				t.Errorf("who has left answered %s", got)
			}
		}
		if err := p.Leave(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
}
