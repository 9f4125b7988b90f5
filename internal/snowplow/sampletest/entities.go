package sampletest

import (
	"fmt"
	"strings"
	"time"
)

// list is the self-describing JSON of a contexts field.
func list(entities ...string) string {
	return `{"schema":"iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1","data":[` + strings.Join(entities, ",") + `]}`
}

// entity is one self-describing datum.
func entity(schema, format string, args ...any) string {
	return `{"schema":"iglu:` + schema + `","data":` + fmt.Sprintf(format, args...) + `}`
}

// unstruct makes e a self-describing event that suits the visitor's platform.
func (g *generator) unstruct(e *fields, v *visitor) {
	vendor, name, version := "com.example.shop", "cart_change", "1-0-2"
	var data string
	switch {
	case v.platform == "mob" || v.platform == "app":
		vendor, name, version = "com.snowplowanalytics.mobile", "screen_view", "1-0-0"
		data = fmt.Sprintf(`{"name":%q,"type":"feed","id":%q,"previousName":"start","transitionType":null}`, pick(g, "home", "product", "basket"), g.uuid())
	case v.platform == "srv":
		name, version = "order_shipped", "2-1-0"
		data = fmt.Sprintf(`{"order_id":"order-%06d","carrier":%q,"parcels":[{"weight_g":%d,"tracking":%q},{"weight_g":%d,"tracking":null}],"express":%t,"cost":%s}`,
			g.r.IntN(1000000), pick(g, "acme post", "quick & co"), 200+g.r.IntN(9000), g.uuid(), g.r.IntN(500), g.r.IntN(2) == 0, money(float64(g.r.IntN(2000))/100))
	case g.r.IntN(2) == 0:
		vendor, name, version = "com.snowplowanalytics.snowplow", "link_click", "1-0-1"
		data = fmt.Sprintf(`{"targetUrl":"https:\/\/shop.example.com\/checkout?step=%d","elementId":"go","elementClasses":["button","primary"],"elementTarget":""}`, 1+g.r.IntN(4))
	default:
		data = fmt.Sprintf(`{"action":%q,"items":[{"sku":"sku-%04d","quantity":%d,"price":%s},{"sku":"sku-%04d","quantity":1,"price":19.90}],"note":"für \"Mia\" <3","total":%s}`,
			pick(g, "add", "remove"), g.r.IntN(10000), 1+g.r.IntN(5), money(float64(g.r.IntN(10000))/100), g.r.IntN(10000), money(float64(g.r.IntN(30000))/100))
	}
	e.setAll("event", "unstruct", "event_vendor", vendor, "event_name", name, "event_format", "jsonschema", "event_version", version,
		"unstruct_event", `{"schema":"iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0","data":`+
			entity(vendor+"/"+name+"/jsonschema/"+version, "%s", data)+`}`)
}

// contexts makes one to four entities.
func (g *generator) contexts(v *visitor) []string {
	switch v.platform {
	case "web":
		out := []string{g.webPage()}
		if g.r.IntN(2) == 0 {
			out = append(out, g.performance())
		}
		if g.r.IntN(2) == 0 {
			out = append(out, g.session(v))
		}
		if g.r.IntN(3) == 0 {
			out = append(out, g.product())
		}
		return out
	case "srv":
		out := []string{g.user(v), g.product()}
		if g.r.IntN(2) == 0 {
			out = append(out, g.product())
		}
		return out
	}
	out := []string{g.session(v), g.mobile(v)}
	if g.r.IntN(2) == 0 {
		out = append(out, entity("com.snowplowanalytics.mobile/application/jsonschema/1-0-0", `{"version":"4.12.%d","build":"%d"}`, g.r.IntN(4), 1200+g.r.IntN(99)))
	}
	if g.r.IntN(2) == 0 {
		out = append(out, g.product())
	}
	return out
}

// derived makes the entities that enrichments add.
func (g *generator) derived(v *visitor) []string {
	if v.platform == "srv" {
		return nil
	}
	out := []string{g.uaParser(v)}
	if g.r.IntN(2) == 0 {
		out = append(out, g.yauaa(v))
	}
	return out
}

func (g *generator) webPage() string {
	return entity("com.snowplowanalytics.snowplow/web_page/jsonschema/1-0-0", `{"id":%q}`, g.uuid())
}

func (g *generator) performance() string {
	t := g.now.UnixMilli()
	at := func() int64 { t += int64(g.r.IntN(80)); return t }
	return entity("org.w3/PerformanceTiming/jsonschema/1-0-0",
		`{"navigationStart":%d,"redirectStart":0,"redirectEnd":0,"fetchStart":%d,"domainLookupStart":%d,"domainLookupEnd":%d,"connectStart":%d,"secureConnectionStart":%d,"connectEnd":%d,"requestStart":%d,"responseStart":%d,"responseEnd":%d,"unloadEventStart":0,"unloadEventEnd":0,"domLoading":%d,"domInteractive":%d,"domComplete":%d,"loadEventStart":%d,"loadEventEnd":%d}`,
		at(), at(), at(), at(), at(), at(), at(), at(), at(), at(), at(), at(), at(), at(), at())
}

func (g *generator) session(v *visitor) string {
	return entity("com.snowplowanalytics.snowplow/client_session/jsonschema/1-0-2",
		`{"userId":%q,"sessionId":%q,"sessionIndex":%d,"eventIndex":%d,"previousSessionId":null,"storageMechanism":%q,"firstEventId":%q,"firstEventTimestamp":%q}`,
		v.domain, v.session, v.sessionIndex, 1+g.r.IntN(40), pick(g, "COOKIE_1", "LOCAL_STORAGE", "SQLITE"), g.uuid(), g.now.Add(-time.Minute).Format("2006-01-02T15:04:05.000Z"))
}

func (g *generator) mobile(v *visitor) string {
	return entity("com.snowplowanalytics.snowplow/mobile_context/jsonschema/1-0-3",
		`{"osType":%q,"osVersion":%q,"deviceManufacturer":"Acme","deviceModel":%q,"carrier":%q,"networkType":%q,"batteryLevel":%d,"batteryState":"unplugged","isPortrait":%t,"resolution":"%dx%d","language":"en","scale":2.75}`,
		v.osFamily, strings.TrimPrefix(v.osName, v.osFamily+" "), pick(g, "A1", "A1 Pro", "B7"), pick(g, "Example Mobile", "Acme Tel"), pick(g, "wifi", "mobile"), 5+g.r.IntN(95), g.r.IntN(4) > 0, v.width, v.height)
}

func (g *generator) product() string {
	return entity("com.example.shop/product_entity/jsonschema/1-1-0",
		`{"sku":"sku-%04d","name":%q,"price":%s,"currency":"EUR","tags":["home",%q],"stock":{"warehouse":%q,"count":%d},"active":true}`,
		g.r.IntN(10000), pick(g, "Oak lamp", "Linen rug", "Lüster \"Aida\"", "椅子"), money(float64(500+g.r.IntN(50000))/100), pick(g, "new", "sale"), pick(g, "BER1", "CDG2"), g.r.IntN(300))
}

func (g *generator) user(v *visitor) string {
	return entity("com.example.shop/user_entity/jsonschema/3-0-0",
		`{"id":%q,"plan":%q,"since":"20%02d-0%d-1%d","score":%s}`, v.user, pick(g, "free", "plus"), 15+g.r.IntN(10), 1+g.r.IntN(9), g.r.IntN(10), pick(g, "0.25", "1e-7", "12", "9007199254740993"))
}

func (g *generator) uaParser(v *visitor) string {
	return entity("com.snowplowanalytics.snowplow/ua_parser_context/jsonschema/1-0-0",
		`{"useragentFamily":%q,"useragentMajor":"138","useragentMinor":"0","useragentPatch":"0","useragentVersion":"%s 138.0.0","osFamily":%q,"osMajor":"10","osMinor":null,"osPatch":null,"osPatchMinor":null,"osVersion":%q,"deviceFamily":"Other"}`,
		v.browser, v.browser, v.osFamily, v.osName)
}

func (g *generator) yauaa(v *visitor) string {
	kind := "Desktop"
	if v.mobile {
		kind = "Phone"
	}
	return entity("nl.basjes/yauaa_context/jsonschema/1-0-4",
		`{"deviceBrand":"Unknown","deviceName":"%s","operatingSystemVersionMajor":"10","layoutEngineNameVersion":"Blink 138.0","operatingSystemNameVersion":%q,"layoutEngineNameVersionMajor":"Blink 138","operatingSystemName":%q,"agentVersionMajor":"138","layoutEngineVersionMajor":"138","deviceClass":%q,"agentNameVersionMajor":"%s 138","operatingSystemClass":%q,"layoutEngineName":"Blink","agentName":%q,"agentVersion":"138.0.0.0","layoutEngineClass":"Browser","agentNameVersion":"%s 138.0.0.0","operatingSystemVersion":"10","agentClass":"Browser","layoutEngineVersion":"138.0"}`,
		kind, v.osName, v.osFamily, kind, v.browser, kind, v.browser, v.browser)
}
