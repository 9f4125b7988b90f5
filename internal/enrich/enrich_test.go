package enrich

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/workspace"
)

func enricher(t testing.TB, c Config) *Enricher {
	t.Helper()
	if c.Bots == "" {
		c.Bots = Keep
	}
	dir, err := filepath.Abs("../geo/testdata")
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(connector.Deps{Dir: dir}, c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

const (
	chrome = `Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36`
	iphone = `Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1`
	google = `Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)`
	hidden = `Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0.0.0 Safari/537.36`
)

func TestApply(t *testing.T) {
	t.Parallel()
	const london = `"city":"London","country":"GB","region":"England","postal":"OX1","location":"51.514200,-0.093100","timezone":"Europe/London"}`
	const nowhere = `{"ip":"","city":"","country":"","region":"","postal":"","location":"","timezone":""}`
	geography := Config{GeolocationDatabase: "places.mmdb"}
	agents := Config{UserAgent: true}
	with := func(agent, more string) string { return `{"context":{"userAgent":"` + agent + `"` + more + `}}` }
	for name, row := range map[string]struct {
		c    Config
		off  bool // geoEnrichment of the source
		in   string
		want string // what is added; empty for nothing
		drop bool
	}{
		"ip of the context":    {c: geography, in: `{"context":{"ip":"81.2.69.160"},"request_ip":"1.1.1.1"}`, want: `"geo":{"ip":"81.2.69.160",` + london},
		"ip of the request":    {c: geography, in: `{"request_ip":"81.2.69.160"}`, want: `"geo":{"ip":"81.2.69.160",` + london},
		"with spaces":          {c: geography, in: `{"context":{"ip":" 81.2.69.160 "}}`, want: `"geo":{"ip":"81.2.69.160",` + london},
		"no address":           {c: geography, in: `{"context":{"ip":"nonsense"}}`, want: `"geo":` + nowhere},
		"none at all":          {c: geography, in: `{}`, want: `"geo":` + nowhere},
		"null":                 {c: geography, in: `{"context":null,"request_ip":"81.2.69.160"}`, want: `"geo":{"ip":"81.2.69.160",` + london},
		"there already":        {c: geography, in: `{"context":{"ip":"81.2.69.160","geo":{}}}`},
		"odd context":          {c: geography, in: `{"context":"x","request_ip":"81.2.69.160"}`},
		"no JSON":              {c: geography, in: `{`},
		"source without":       {c: geography, off: true, in: `{"context":{"ip":"81.2.69.160"}}`},
		"no database":          {in: `{"context":{"ip":"81.2.69.160"}}`},
		"desktop":              {c: agents, in: with(chrome, ""), want: `"browser":{"name":"Chrome","version":"129.0.0.0"},"os":{"name":"Windows","version":"10.0"},"deviceType":"desktop"`},
		"telephone":            {c: agents, in: with(iphone, `,"os":{"name":"iOS"}`), want: `"browser":{"name":"Safari","version":"17.5"},"deviceType":"mobile"`},
		"nothing known":        {c: agents, in: with("", "")},
		"far too long":         {c: agents, in: with(strings.Repeat("Chrome/1 ", 200), "")},
		"robots are kept":      {in: with(google, "")},
		"robots are flagged":   {c: Config{Bots: Flag}, in: with(google, ""), want: `"isBot":true,"bot":{"name":"Googlebot"}`},
		"hidden robots, too":   {c: Config{Bots: Flag}, in: with(hidden, ""), want: `"isBot":true,"bot":{"name":"Headless Chrome"}`},
		"people are not":       {c: Config{Bots: Flag}, in: with(chrome, "")},
		"flagged already":      {c: Config{Bots: Flag}, in: with(google, `,"isBot":false,"bot":1`)},
		"robots are dropped":   {c: Config{Bots: Drop}, in: with(google, ""), drop: true},
		"those of others, too": {c: Config{Bots: Drop}, in: with(chrome, `,"isBot":true`), drop: true},
		"people stay":          {c: Config{Bots: Drop}, in: with(chrome, `,"isBot":"true"`)},
	} {
		out, drop := enricher(t, row.c).Apply(&workspace.Source{GeoEnrichment: !row.off}, []byte(row.in))
		if drop != row.drop || (row.want == "") != (string(out) == row.in) || !strings.Contains(string(out), row.want) {
			t.Errorf("%s: %s became %s, dropped %t, want %s", name, row.in, out, drop, row.want)
		}
		if json.Valid([]byte(row.in)) && !json.Valid(out) {
			t.Errorf("%s: %s is no JSON", name, out)
		}
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{Bots: "hide"}, {Bots: Keep, GeolocationDatabase: "enrich_test.go"}, {Bots: Keep, GeolocationDatabase: "none.mmdb"}} {
		if _, err := New(connector.Deps{}, c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

func FuzzApply(f *testing.F) {
	f.Add([]byte(`{"context":{"userAgent":"` + chrome + `","ip":"81.2.69.160"}}`))
	e := enricher(f, Config{GeolocationDatabase: "places.mmdb", UserAgent: true, Bots: Flag})
	f.Fuzz(func(t *testing.T, data []byte) {
		out, _ := e.Apply(&workspace.Source{GeoEnrichment: true}, data)
		if json.Valid(data) && !json.Valid(out) {
			t.Fatalf("%s became %s", data, out)
		}
	})
}
