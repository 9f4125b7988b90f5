// Package sampletest makes Snowplow enriched events for tests, benchmarks and examples:
// visits to an invented shop from browsers, mobile apps and a server. The same seed
// makes the same events. Every event is valid: 131 fields of the right types, and
// self-describing JSON that shreds.
package sampletest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/snowplow"
)

// Lines returns n events without line ends.
func Lines(seed uint64, n int) [][]byte {
	g := &generator{r: rand.New(rand.NewPCG(seed, 0x5eed)), now: time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)}
	for range 40 {
		g.visitors = append(g.visitors, g.visitor())
	}
	lines := make([][]byte, n)
	for i := range lines {
		lines[i] = g.event()
	}
	return lines
}

// Large returns one event of about 3.7 kB with five contexts and two derived ones.
func Large(seed uint64) []byte {
	g := &generator{r: rand.New(rand.NewPCG(seed, 0x5eed)), now: time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)}
	v := g.visitor()
	for v.platform != "web" {
		v = g.visitor()
	}
	e := g.base(v)
	g.web(e, v)
	g.unstruct(e, v)
	e.set("contexts", list(g.webPage(), g.performance(), g.session(v), g.product(), g.product()))
	e.set("derived_contexts", list(g.uaParser(v), g.yauaa(v)))
	return e.line()
}

type generator struct {
	r        *rand.Rand
	now      time.Time
	visitors []*visitor
}

// visitor is one person on one device.
type visitor struct {
	platform, app         string
	user, network, domain string
	ip, agent             string
	browser, osName       string
	osFamily, device      string
	city                  city
	width, height         int
	session               string
	sessionIndex          int
	mobile                bool
}

type city struct {
	country, region, regionName, name, zip, zone string
	latitude, longitude                          float64
}

var cities = []city{
	{"DE", "BE", "Land Berlin", "Berlin", "10115", "Europe/Berlin", 52.5196, 13.4069},
	{"FR", "IDF", "Île-de-France", "Paris", "75001", "Europe/Paris", 48.8534, 2.3488},
	{"US", "CA", "California", "San Jose", "95131", "America/Los_Angeles", 37.3874, -121.9024},
	{"BR", "SP", "São Paulo", "São Paulo", "01000", "America/Sao_Paulo", -23.5475, -46.6361},
	{"JP", "13", "東京都", "千代田区", "100-0001", "Asia/Tokyo", 35.6895, 139.6917},
	{"GB", "ENG", "England", "London", "EC1A", "Europe/London", 51.5085, -0.1257},
}

var agents = []struct {
	platform, browser, osName, osFamily, device, text string
	width, height                                     int
}{
	{"web", "Chrome", "Windows 10", "Windows", "Computer", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36", 1920, 1080},
	{"web", "Firefox", "Ubuntu", "Linux", "Computer", "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", 2560, 1440},
	{"web", "Safari", "Mac OS X", "Mac OS X", "Computer", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15", 1728, 1117},
	{"mob", "Mobile Safari", "iOS 18.5", "iOS", "Mobile", "AcmeShop/4.12.0 (iPhone; iOS 18.5; Scale/3.00)", 393, 852},
	{"mob", "Android Webkit", "Android 15", "Android", "Mobile", "AcmeShop/4.12.1 (Linux; U; Android 15; en-gb; Pixel 9)", 412, 924},
	{"app", "Electron", "Windows 11", "Windows", "Computer", "AcmeDesk/2.3.0 Electron/36.4.0", 1280, 800},
	{"srv", "", "", "", "", "acme-orders/7.1 snowplow-go/3.0", 0, 0},
}

func (g *generator) visitor() *visitor {
	weights := []int{0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6}
	a := agents[weights[g.r.IntN(len(weights))]]
	return &visitor{
		platform: a.platform, app: map[string]string{"web": "acme-web", "mob": "acme-shop", "app": "acme-desk", "srv": "acme-orders"}[a.platform],
		user: "customer-" + strconv.Itoa(10000+g.r.IntN(90000)), network: g.uuid(), domain: g.uuid(),
		ip: "203.0.113." + strconv.Itoa(1+g.r.IntN(254)), agent: a.text,
		browser: a.browser, osName: a.osName, osFamily: a.osFamily, device: a.device,
		city: cities[g.r.IntN(len(cities))], width: a.width, height: a.height,
		session: g.uuid(), sessionIndex: 1 + g.r.IntN(30), mobile: a.device == "Mobile",
	}
}

func (g *generator) uuid() string {
	a, b := g.r.Uint64(), g.r.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, 0x8000|b>>48&0x3fff, b&0xffffffffffff)
}

func pick[T any](g *generator, from ...T) T { return from[g.r.IntN(len(from))] }

// fields is an event being made.
type fields [snowplow.NumFields]string

func (e *fields) set(name, value string) {
	f, ok := snowplow.FieldOf(name)
	if !ok {
		panic("sampletest: no field " + name)
	}
	e[f] = strings.ReplaceAll(value, "\t", " ")
}

func (e *fields) setAll(pairs ...string) {
	for pair := range slices.Chunk(pairs, 2) {
		e.set(pair[0], pair[1])
	}
}

func (e *fields) line() []byte { return []byte(strings.Join(e[:], "\t")) }

func stamp(t time.Time) string { return t.Format("2006-01-02 15:04:05.000") }

func (g *generator) event() []byte {
	g.now = g.now.Add(time.Duration(g.r.IntN(900)) * time.Millisecond)
	v := g.visitors[g.r.IntN(len(g.visitors))]
	e := g.base(v)
	switch v.platform {
	case "web":
		g.web(e, v)
		switch g.r.IntN(10) {
		case 0, 1, 2, 3:
			e.setAll("event", "page_view", "event_vendor", "com.snowplowanalytics.snowplow", "event_name", "page_view", "event_format", "jsonschema", "event_version", "1-0-0")
		case 4, 5:
			g.ping(e)
		case 6, 7:
			g.structured(e)
		default:
			g.unstruct(e, v)
		}
	case "srv":
		if g.r.IntN(2) == 0 {
			g.transaction(e)
		} else {
			g.unstruct(e, v)
		}
	default:
		if g.r.IntN(4) == 0 {
			g.structured(e)
		} else {
			g.unstruct(e, v)
		}
	}
	e.set("contexts", list(g.contexts(v)...))
	if derived := g.derived(v); len(derived) > 0 {
		e.set("derived_contexts", list(derived...))
	}
	return e.line()
}

func (g *generator) base(v *visitor) *fields {
	e := new(fields)
	created := g.now.Add(-time.Duration(200+g.r.IntN(3000)) * time.Millisecond)
	e.setAll("app_id", v.app, "platform", v.platform,
		"etl_tstamp", stamp(g.now.Add(time.Duration(300+g.r.IntN(900))*time.Millisecond)),
		"collector_tstamp", stamp(g.now), "dvce_created_tstamp", stamp(created),
		"dvce_sent_tstamp", stamp(created.Add(time.Duration(g.r.IntN(150))*time.Millisecond)),
		"derived_tstamp", stamp(g.now.Add(-time.Duration(g.r.IntN(150))*time.Millisecond)),
		"event_id", g.uuid(), "name_tracker", pick(g, "sp", "shop"), "v_collector", "ssc-3.4.0-kinesis",
		"v_tracker", map[string]string{"web": "js-4.6.2", "mob": "mobile-6.1.0", "app": "node-4.6.0", "srv": "golang-3.0.0"}[v.platform],
		"v_etl", "snowplow-enrich-kinesis-5.3.0", "user_ipaddress", v.ip, "network_userid", v.network, "useragent", v.agent,
		"event_fingerprint", fmt.Sprintf("%016x%016x", g.r.Uint64(), g.r.Uint64()),
		"geo_country", v.city.country, "geo_region", v.city.region, "geo_city", v.city.name, "geo_zipcode", v.city.zip,
		"geo_latitude", strconv.FormatFloat(v.city.latitude, 'f', -1, 64), "geo_longitude", strconv.FormatFloat(v.city.longitude, 'f', -1, 64),
		"geo_region_name", v.city.regionName, "geo_timezone", v.city.zone)
	if g.r.IntN(3) > 0 {
		e.set("user_id", v.user)
	}
	if g.r.IntN(6) == 0 {
		e.set("true_tstamp", stamp(created))
	}
	return e
}

func (g *generator) web(e *fields, v *visitor) {
	category, item := pick(g, "lamps", "chairs", "tables", "rugs"), 100+g.r.IntN(900)
	path := fmt.Sprintf("/%s/%s-%d", category, pick(g, "oak", "linen", "brass", "walnut"), item)
	campaign := g.r.IntN(3) == 0
	query := ""
	if campaign {
		query = "utm_source=newsletter&utm_medium=email&utm_campaign=spring-2026&utm_content=hero"
		e.setAll("mkt_medium", "email", "mkt_source", "newsletter", "mkt_campaign", "spring-2026", "mkt_content", "hero", "page_urlquery", query)
		query = "?" + query
	}
	e.setAll("page_url", "https://shop.example.com"+path+query, "page_title", fmt.Sprintf("%s no. %d | Acme \"Home & Living\"", category, item),
		"page_urlscheme", "https", "page_urlhost", "shop.example.com", "page_urlport", "443", "page_urlpath", path,
		"domain_userid", v.domain, "domain_sessionid", v.session, "domain_sessionidx", strconv.Itoa(v.sessionIndex),
		"br_name", v.browser, "br_family", v.browser, "br_lang", pick(g, "en-GB", "de-DE", "fr-FR", "ja-JP"), "br_cookies", "1", "br_colordepth", "24",
		"br_viewwidth", strconv.Itoa(v.width-20), "br_viewheight", strconv.Itoa(v.height-180),
		"br_features_pdf", pick(g, "0", "1"), "br_features_flash", "0", "br_features_java", "0",
		"os_name", v.osName, "os_family", v.osFamily, "os_timezone", v.city.zone, "dvce_type", v.device, "dvce_ismobile", "0",
		"dvce_screenwidth", strconv.Itoa(v.width), "dvce_screenheight", strconv.Itoa(v.height),
		"doc_charset", "UTF-8", "doc_width", strconv.Itoa(v.width-20), "doc_height", strconv.Itoa(2000+g.r.IntN(6000)))
	if g.r.IntN(2) == 0 {
		e.setAll("page_referrer", "https://www.example.org/search?q=acme+"+category, "refr_urlscheme", "https", "refr_urlhost", "www.example.org",
			"refr_urlport", "443", "refr_urlpath", "/search", "refr_urlquery", "q=acme+"+category, "refr_medium", "search", "refr_source", "Example", "refr_term", "acme "+category)
	}
}

func (g *generator) ping(e *fields) {
	y := g.r.IntN(3000)
	e.setAll("event", "page_ping", "event_vendor", "com.snowplowanalytics.snowplow", "event_name", "page_ping", "event_format", "jsonschema", "event_version", "1-0-0",
		"pp_xoffset_min", "0", "pp_xoffset_max", strconv.Itoa(g.r.IntN(40)), "pp_yoffset_min", strconv.Itoa(y), "pp_yoffset_max", strconv.Itoa(y+g.r.IntN(900)))
}

func (g *generator) structured(e *fields) {
	e.setAll("event", "struct", "event_vendor", "com.google.analytics", "event_name", "event", "event_format", "jsonschema", "event_version", "1-0-0",
		"se_category", pick(g, "basket", "search", "video"), "se_action", pick(g, "add", "remove", "play"), "se_label", pick(g, "oak lamp", "linen rug", "naïve café"),
		"se_property", pick(g, "pcs", "query", "seconds"), "se_value", strconv.FormatFloat(float64(g.r.IntN(20000))/100, 'f', 2, 64))
}

func (g *generator) transaction(e *fields) {
	total := float64(500+g.r.IntN(40000)) / 100
	e.setAll("event", "transaction", "event_vendor", "com.snowplowanalytics.snowplow", "event_name", "transaction", "event_format", "jsonschema", "event_version", "1-0-0",
		"txn_id", strconv.Itoa(100000+g.r.IntN(900000)), "tr_orderid", fmt.Sprintf("order-%06d", g.r.IntN(1000000)), "tr_affiliation", "shop",
		"tr_total", money(total), "tr_tax", money(total*0.19), "tr_shipping", "4.95", "tr_city", "Berlin", "tr_state", "BE", "tr_country", "DE",
		"tr_currency", "EUR", "tr_total_base", money(total*0.86), "tr_tax_base", money(total*0.86*0.19), "tr_shipping_base", "4.26", "base_currency", "GBP")
}

func money(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }
