package gateway_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/gif"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/gateway"
)

var received = time.Date(2026, 11, 20, 12, 5, 0, 7e6, time.UTC)

// ask sends a request and settles what it carries at once.
func ask(t testing.TB, g *gateway.Gateway, r *http.Request) (event.Batch, *gateway.Answer) {
	t.Helper()
	var c gateway.Call
	if a := g.Begin(&c, r, received); a != nil {
		return nil, a
	}
	var body []byte
	if c.HasBody() {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			t.Fatal(err)
		}
	}
	before := bytes.Clone(body)
	b, a := g.Events(&c, body)
	if !bytes.Equal(before, body) {
		t.Error("the body was written into")
	}
	for i := range body { // nothing of it may be kept
		body[i] = 'x'
	}
	if (len(b) == 0) == (a == nil) {
		t.Errorf("%d events and answer %v", len(b), a)
	}
	if a != nil {
		return nil, c.Done(a)
	}
	return b, c.Done(gateway.OK)
}

func post(path, key, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.RemoteAddr = "192.0.2.7:4711"
	if key != "" {
		r.SetBasicAuth(key, "")
	}
	return r
}

// TestAnswers is the table of literal answers.
func TestAnswers(t *testing.T) {
	t.Parallel()
	g := open(t, gateway.Options{Version: "1.2.3", MaxEvents: 3})
	const event = `{"userId":"u"}`
	for _, row := range []struct {
		name, method, path, key, body string
		code                          int
		answer                        string
	}{
		{"track", "POST", "/v1/track", "KEY1", event, 200, "ok"},
		{"identify", "POST", "/v1/identify", "KEY1", event, 200, "ok"},
		{"page", "POST", "/v1/page", "KEY1", event, 200, "ok"},
		{"screen", "POST", "/v1/screen", "KEY1", event, 200, "ok"},
		{"group", "POST", "/v1/group", "KEY1", event, 200, "ok"},
		{"alias", "POST", "/v1/alias", "KEY1", event, 200, "ok"},
		{"merge", "POST", "/v1/merge", "KEY1", event, 200, "ok"},
		{"audiencelist", "POST", "/v1/audiencelist", "KEY1", event, 200, "ok"},
		{"trailing slash", "POST", "/v1/track/", "KEY1", event, 200, "ok"},
		{"batch", "POST", "/v1/batch", "KEY1", `{"batch":[` + event + `]}`, 200, "ok"},
		{"import", "POST", "/v1/import", "KEY1", `{"batch":[` + event + `]}`, 200, "ok"},
		{"batch that is one event", "POST", "/v1/batch", "KEY1", `{"batch":` + event + `}`, 200, "ok"},
		{"other members", "POST", "/v1/batch", "KEY1", ` { "sentAt" : 1, "batch" : [ ` + event + ` ] , "context":{} } `, 200, "ok"},
		{"only anonymousId", "POST", "/v1/track", "KEY1", `{"anonymousId":"a"}`, 200, "ok"},
		{"numeric userId", "POST", "/v1/track", "KEY1", `{"userId":5}`, 200, "ok"},
		{"extract in a batch", "POST", "/v1/batch", "KEY1", `{"batch":[{"type":"extract"},{"type":"record"}]}`, 200, "ok"},
		{"beacon", "POST", "/beacon/v1/batch?writeKey=KEY1", "", `{"batch":[` + event + `]}`, 200, "ok"},

		{"empty body", "POST", "/v1/track", "KEY1", ``, 400, "invalid json\n"},
		{"broken", "POST", "/v1/track", "KEY1", `{"userId":"u"`, 400, "invalid json\n"},
		{"broken before ids are missed", "POST", "/v1/batch", "KEY1", `{"batch":[{}],}`, 400, "invalid json\n"},
		{"rest", "POST", "/v1/track", "KEY1", event + `x`, 400, "invalid json\n"},
		{"empty object as batch", "POST", "/v1/batch", "KEY1", `{}`, 400, "empty batch payload\n"},
		{"empty batch", "POST", "/v1/batch", "KEY1", `{"batch":[]}`, 400, "empty batch payload\n"},
		{"the last batch counts", "POST", "/v1/batch", "KEY1", `{"batch":[],"b\u0061tch":[` + event + `]}`, 200, "ok"},
		{"the last batch is empty", "POST", "/v1/batch", "KEY1", `{"batch":[` + event + `],"batch":[]}`, 400, "empty batch payload\n"},
		{"null batch", "POST", "/v1/batch", "KEY1", `{"batch":null}`, 400, "empty batch payload\n"},
		{"list as batch", "POST", "/v1/batch", "KEY1", `[]`, 400, "empty batch payload\n"},
		{"no batch", "POST", "/v1/batch", "KEY1", event, 400, "empty batch payload\n"},
		{"number in a batch", "POST", "/v1/batch", "KEY1", `{"batch":[` + event + `,1]}`, 400, "event is not a valid rudder event\n"},
		{"text as batch", "POST", "/v1/batch", "KEY1", `{"batch":"x"}`, 400, "event is not a valid rudder event\n"},
		{"list as event", "POST", "/v1/track", "KEY1", `[]`, 400, "event is not a valid rudder event\n"},
		{"number as event", "POST", "/v1/track", "KEY1", `7`, 400, "event is not a valid rudder event\n"},
		{"no ids", "POST", "/v1/track", "KEY1", `{"event":"e"}`, 400, "request neither has anonymousId nor userId\n"},
		{"blank ids", "POST", "/v1/track", "KEY1", `{"userId":" ","anonymousId":null}`, 400, "request neither has anonymousId nor userId\n"},
		{"no ids in a batch", "POST", "/v1/batch", "KEY1", `{"batch":[` + event + `,{}]}`, 400, "request neither has anonymousId nor userId\n"},
		{"type of the path", "POST", "/v1/track", "KEY1", `{"type":"record"}`, 400, "request neither has anonymousId nor userId\n"},
		{"too many events", "POST", "/v1/batch", "KEY1", `{"batch":[` + event + strings.Repeat(","+event, 3) + `]}`, 413, "request size exceeds max limit\n"},

		{"no key", "POST", "/v1/track", "", event, 401, "failed to read writekey from header\n"},
		{"wrong key", "POST", "/v1/track", "KEY9", event, 401, "invalid write key\n"},
		{"disabled", "POST", "/v1/track", "KEY2", event, 404, "source is disabled\n"},
		{"beacon without key", "POST", "/beacon/v1/batch", "KEY1", `{"batch":[` + event + `]}`, 401, "failed to read writekey from query params\n"},
		{"beacon with a wrong key", "POST", "/beacon/v1/batch?writeKey=no", "", `{"batch":[` + event + `]}`, 401, "invalid write key\n"},
		{"method", "GET", "/v1/track", "KEY1", "", 405, "invalid http request method\n"},
		{"method of a document", "POST", "/health", "", "", 405, "invalid http request method\n"},
		{"path", "POST", "/v2/track", "KEY1", event, 404, "404 page not found\n"},

		{"health", "GET", "/health", "", "", 200, `{"appType":"EMBEDDED","server":"UP","db":"UP","acceptingEvents":"TRUE","routingEvents":"TRUE","mode":"NORMAL","backendConfigMode":"JSON","lastSync":"SYNC","lastRegulationSync":""}`},
		{"root", "HEAD", "/", "", "", 200, `{"appType":"EMBEDDED","server":"UP","db":"UP","acceptingEvents":"TRUE","routingEvents":"TRUE","mode":"NORMAL","backendConfigMode":"JSON","lastSync":"SYNC","lastRegulationSync":""}`},
		{"version", "GET", "/version", "", "", 200, `{"Features":["gzip-req-payload"],"Version":"1.2.3"}`},
		{"robots", "GET", "/robots.txt", "", "", 200, "User-agent: * \nDisallow: / \n"},
		{"source config", "GET", "/sourceConfig?v=3", "KEY1", "", 200, `{"source":{"config":{"statsCollection":{"errors":{"enabled":false},"metrics":{"enabled":false}}},"destinations":[],"enabled":true,"id":"src1","name":"http","workspaceId":"ws1","writeKey":"KEY1"},"updatedAt":"SYNC"}`},
		{"source config by query", "GET", "/sourceConfig?writeKey=KEY9", "", "", 401, "invalid write key\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := post(row.path, row.key, row.body)
			r.Method = row.method
			_, a := ask(t, g, r)
			w := httptest.NewRecorder()
			a.Write(w, 3)
			body := regexp.MustCompile(`"20[0-9-]+T[0-9:.]+Z"`).ReplaceAllString(w.Body.String(), `"SYNC"`)
			if w.Code != row.code || body != row.answer {
				t.Errorf("%d %q, want %d %q", w.Code, body, row.code, row.answer)
			}
			want := "text/plain; charset=utf-8"
			if strings.HasPrefix(row.answer, "{") {
				want = "application/json; charset=utf-8"
			}
			if got := w.Header().Get("Content-Type"); got != want {
				t.Errorf("content type %q, want %q", got, want)
			}
			if after := w.Header().Get("Retry-After"); after != "" {
				t.Errorf("Retry-After %q", after)
			}
		})
	}
	w := httptest.NewRecorder()
	gateway.Unavailable.Write(w, 3)
	if w.Code != 503 || w.Body.String() != "service unavailable\n" || w.Header().Get("Retry-After") != "3" {
		t.Errorf("unavailable: %d %q %v", w.Code, w.Body, w.Header())
	}
}

const uuid = `[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`

// TestStamps compares whole events. UUID stands for a random one.
func TestStamps(t *testing.T) {
	t.Parallel()
	g := open(t, gateway.Options{})
	const now, times = `"2026-11-20T12:05:00.007Z"`, `"receivedAt":"2026-11-20T12:05:00.007Z","originalTimestamp":"2026-11-20T12:05:00.007Z","sentAt":"2026-11-20T12:05:00.007Z","timestamp":"2026-11-20T12:05:00.007Z"`
	const ip = `"request_ip":"192.0.2.7"`
	for _, row := range []struct {
		name, path, body, xff string
		want                  string // RID stands for the rudderId, T for the four times of now
		key, id               string
	}{
		{"least", "/v1/track", `{"userId":"u"}`, "", `{"userId":"u","type":"track","rudderId":"RID",` + ip + `,T,"messageId":"UUID"}`, "u", "UUID"},
		{"wrong type", "/v1/page", `{"type":"x","userId":"u","type":"y"}`, "", `{"userId":"u","type":"page","rudderId":"RID",` + ip + `,T,"messageId":"UUID"}`, "u", "UUID"},
		{"own type in a batch", "/v1/batch", `{"batch":[{"type":"x","userId":"u","messageId":"m"}]}`, "", `{"type":"x","userId":"u","rudderId":"RID",` + ip + `,T,"messageId":"m"}`, "u", "m"},
		{"message id", "/v1/track", `{"userId":"u","messageId":" \u200b m\u00001 "}`, "", `{"userId":"u","type":"track","rudderId":"RID",` + ip + `,T,"messageId":"m1"}`, "u", "m1"},
		{"blank message id", "/v1/track", `{"userId":"u","messageId":" \u200b "}`, "", `{"userId":"u","type":"track","rudderId":"RID",` + ip + `,T,"messageId":"UUID"}`, "u", "UUID"},
		{"number as ids", "/v1/track", `{"userId":12345678901234567890,"messageId":5}`, "", `{"userId":12345678901234567890,"type":"track","rudderId":"RID",` + ip + `,T,"messageId":"5"}`, "12345678901234567890", "5"},
		{"float as id", "/v1/track", `{"userId":1.50e3}`, "", `{"userId":1.50e3,"type":"track","rudderId":"RID",` + ip + `,T,"messageId":"UUID"}`, "1500", "UUID"},
		{"anonymous", "/v1/track", `{"anonymousId":" a "}`, "", `{"anonymousId":" a ","type":"track","rudderId":"RID",` + ip + `,T,"messageId":"UUID"}`, "a", "UUID"},
		{"both", "/v1/track", `{"anonymousId":"a","userId":" u "}`, "", `{"anonymousId":"a","userId":" u ","type":"track","rudderId":"RID",` + ip + `,T,"messageId":"UUID"}`, "u", "UUID"},
		{"forwarded", "/v1/track", `{"userId":"u"}`, " 198.51.100.1 , 10.0.0.1", `{"userId":"u","type":"track","rudderId":"RID","request_ip":"198.51.100.1",T,"messageId":"UUID"}`, "u", "UUID"},
		{"own ip", "/v1/track", `{"userId":"u","request_ip":"1.2.3.4"}`, "198.51.100.1", `{"userId":"u","request_ip":"1.2.3.4","type":"track","rudderId":"RID",T,"messageId":"UUID"}`, "u", "UUID"},
		{"forged", "/v1/track", `{"userId":"u","rudderId":"x","receivedAt":"y","user\u0049d":"v"}`, "", `{"user\u0049d":"v","type":"track","rudderId":"RID",` + ip + `,T,"messageId":"UUID"}`, "v", "UUID"},
		{"spaces", "/v1/track", " { \"userId\" : \"u v\" ,\n\"p\" : [ 1 , { \"q\" : \"a  b\" } ] } ", "", `{"userId":"u v","p":[1,{"q":"a  b"}],"type":"track","rudderId":"RID",` + ip + `,T,"messageId":"UUID"}`, "u v", "UUID"},
		{"not UTF-8", "/v1/track", "{\"userId\":\"u\xff\"}", "", "{\"userId\":\"u\ufffd\",\"type\":\"track\",\"rudderId\":\"RID\"," + ip + `,T,"messageId":"UUID"}`, "u\ufffd", "UUID"},
		{"skewed clock", "/v1/track", `{"userId":"u","originalTimestamp":"2020-01-01T10:00:00.000Z","sentAt":"2020-01-01T10:05:00.000Z"}`, "", `{"userId":"u","type":"track","rudderId":"RID",` + ip + `,"receivedAt":` + now + `,"originalTimestamp":"2020-01-01T10:00:00.000Z","sentAt":"2020-01-01T10:05:00.000Z","timestamp":"2026-11-20T12:00:00.007Z","messageId":"UUID"}`, "u", "UUID"},
		{"microseconds", "/v1/track", `{"userId":"u","originalTimestamp":"2020-01-01T10:00:00.123456Z","sentAt":"2020-01-01T10:05:00.000001Z"}`, "", `{"userId":"u","type":"track","rudderId":"RID",` + ip + `,"receivedAt":` + now + `,"originalTimestamp":"2020-01-01T10:00:00.123456Z","sentAt":"2020-01-01T10:05:00.000001Z","timestamp":"2026-11-20T12:00:00.130455Z","messageId":"UUID"}`, "u", "UUID"},
		{"nanoseconds", "/v1/track", `{"userId":"u","timestamp":"2020-01-01T10:00:00.123456789+01:00"}`, "", `{"userId":"u","type":"track","rudderId":"RID",` + ip + `,"receivedAt":` + now + `,"originalTimestamp":` + now + `,"sentAt":` + now + `,"timestamp":"2020-01-01T10:00:00.123456789+01:00","messageId":"UUID"}`, "u", "UUID"},
		{"own receivedAt", "/v1/track", `{"userId":"u","receivedAt":"2020-01-01T10:00:00+01:00"}`, "", `{"userId":"u","type":"track","rudderId":"RID",` + ip + `,"receivedAt":"2020-01-01T10:00:00.000+01:00","originalTimestamp":` + now + `,"sentAt":` + now + `,"timestamp":` + now + `,"messageId":"UUID"}`, "u", "UUID"},
		{"numbers are no times", "/v1/track", `{"userId":"u","receivedAt":1577872800000,"timestamp":1577872800,"sentAt":0,"originalTimestamp":"1577872800123"}`, "", `{"userId":"u","type":"track","rudderId":"RID",` + ip + `,"receivedAt":` + now + `,"originalTimestamp":"2020-01-01T10:00:00.123Z","sentAt":` + now + `,"timestamp":"2020-01-01T10:00:00.123Z","messageId":"UUID"}`, "u", "UUID"},
		{"own timestamp", "/v1/track", `{"userId":"u","timestamp":"2020-01-01T12:00:00+02:00","sentAt":"yesterday"}`, "", `{"userId":"u","type":"track","rudderId":"RID",` + ip + `,"receivedAt":` + now + `,"originalTimestamp":` + now + `,"sentAt":` + now + `,"timestamp":"2020-01-01T12:00:00.000+02:00","messageId":"UUID"}`, "u", "UUID"},
		{"a batch's sentAt says nothing", "/v1/batch", `{"sentAt":"2020-01-01T10:05:00.000Z","batch":[{"type":"track","userId":"u","originalTimestamp":"2026-11-20T12:04:00.000Z"}]}`, "", `{"type":"track","userId":"u","rudderId":"RID",` + ip + `,"receivedAt":` + now + `,"originalTimestamp":"2026-11-20T12:04:00.000Z","sentAt":` + now + `,"timestamp":"2026-11-20T12:04:00.000Z","messageId":"UUID"}`, "u", "UUID"},
		{"type of the path", "/v1/audiencelist", `{"userId":"u"}`, "", `{"userId":"u","type":"audiencelist","rudderId":"RID",` + ip + `,T,"messageId":"UUID"}`, "u", "UUID"},
		{"only originalTimestamp", "/v1/track", `{"userId":"u","originalTimestamp":"2026-11-20 12:04:00"}`, "", `{"userId":"u","type":"track","rudderId":"RID",` + ip + `,"receivedAt":` + now + `,"originalTimestamp":"2026-11-20T12:04:00.000Z","sentAt":` + now + `,"timestamp":"2026-11-20T12:04:00.000Z","messageId":"UUID"}`, "u", "UUID"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := post(row.path, "KEY1", row.body)
			if row.xff != "" {
				r.Header.Set("X-Forwarded-For", row.xff)
			}
			b, a := ask(t, g, r)
			if a != gateway.OK || len(b) != 1 {
				t.Fatalf("%d events, answer %d %s", len(b), a.Code, a.Body)
			}
			m := b[0]
			got := regexp.MustCompile(`"rudderId":"`+uuid+`"`).ReplaceAllString(string(m.Data), `"rudderId":"RID"`)
			got = regexp.MustCompile(`"messageId":"`+uuid+`"`).ReplaceAllString(got, `"messageId":"UUID"`)
			if d := cmp.Diff(strings.Replace(row.want, "T,", times+",", 1), got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			id := regexp.MustCompile(`^`+uuid+`$`).ReplaceAllString(m.Meta.ID, "UUID")
			if m.Key != row.key || id != row.id || m.Meta.Scope.Source != "src1" || m.Meta.Scope.Workspace != "ws1" || !m.Times.Read.Equal(received) {
				t.Errorf("key %q, id %q, scope %v, read %s", m.Key, m.Meta.ID, m.Meta.Scope, m.Times.Read)
			}
			if !json.Valid(m.Data) || !bytes.Equal(m.Raw(), m.Data) {
				t.Errorf("data %s, raw %s", m.Data, m.Raw())
			}
		})
	}
}

// TestRudderID: the ids count without spaces and as text. What is made of them is tested by
// TestAppendRudderID.
func TestRudderID(t *testing.T) {
	t.Parallel()
	g := open(t, gateway.Options{})
	ids := map[string]bool{}
	for _, body := range []string{`{"userId":"1","anonymousId":"a"}`, `{"anonymousId":" a","userId":1}`, `{"anonymousId":"a\t","userId":1.0}`} {
		b, _ := ask(t, g, post("/v1/track", "KEY1", body))
		ids[regexp.MustCompile(`"rudderId":"`+uuid+`"`).FindString(string(b[0].Data))] = true
	}
	if len(ids) != 1 || ids[""] {
		t.Errorf("one user has the names %v", ids)
	}
}

// TestPixel: a picture whatever happens, and an event when everything is right.
func TestPixel(t *testing.T) {
	t.Parallel()
	g := open(t, gateway.Options{})
	for query, want := range map[string]string{
		"writeKey=KEY1&anonymousId=a&event=e+1&properties.price=5&properties.a.b=%22&event=second": `{"anonymousId":"a","channel":"web","event":"e 1","properties":{"a":{"b":"\""},"price":"5"},"type":"track",`,
		"writeKey=KEY1&event=e":       "",
		"writeKey=KEY9&anonymousId=a": "",
		"anonymousId=a":               "",
		"writeKey=KEY2&anonymousId=a": "",
		"%zz;writeKey=KEY1":           "",
	} {
		r := httptest.NewRequest(http.MethodGet, "/pixel/v1/track", nil)
		r.URL.RawQuery = query
		b, a := ask(t, g, r)
		w := httptest.NewRecorder()
		a.Write(w, 1)
		if _, err := gif.Decode(bytes.NewReader(w.Body.Bytes())); err != nil || w.Body.Len() != 43 || w.Code != 200 || w.Header().Get("Content-Type") != "image/gif" ||
			w.Header().Get("Cache-Control") != "no-cache, no-store, max-age=0, must-revalidate" || w.Header().Get("Pragma") != "no-cache" || w.Header().Get("Expires") != "0" {
			t.Errorf("%s: %v, %d bytes, code %d, %v", query, err, w.Body.Len(), w.Code, w.Header())
		}
		if (len(b) == 1) != (want != "") || (want != "" && !strings.HasPrefix(string(b[0].Data), want)) {
			t.Errorf("%s: %d events: %v", query, len(b), b)
		}
	}
}

func TestCORS(t *testing.T) {
	t.Parallel()
	g := open(t, gateway.Options{})
	r := httptest.NewRequest(http.MethodOptions, "/v1/track", nil)
	r.Header.Set("Origin", "https://shop.example")
	r.Header.Set("Access-Control-Request-Method", "POST")
	r.Header.Set("Access-Control-Request-Headers", "anonymousid,authorization,content-type,sentat")
	w := httptest.NewRecorder()
	if !g.CORS(w, r) {
		t.Fatal("not taken for a preflight request")
	}
	want := http.Header{
		"Vary":                             {"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"},
		"Access-Control-Allow-Origin":      {"https://shop.example"},
		"Access-Control-Allow-Methods":     {"POST"},
		"Access-Control-Allow-Headers":     {"anonymousid,authorization,content-type,sentat"},
		"Access-Control-Allow-Credentials": {"true"},
		"Access-Control-Max-Age":           {"900"},
	}
	if d := cmp.Diff(want, w.Header()); d != "" || w.Code != 204 {
		t.Errorf("code %d, -want +got:\n%s", w.Code, d)
	}
	r.Header.Set("Access-Control-Request-Method", "DELETE")
	w = httptest.NewRecorder()
	if !g.CORS(w, r) || w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a method that is not allowed: %v", w.Header())
	}
	r = post("/v1/track", "KEY1", "")
	r.Header.Set("Origin", "https://shop.example")
	w = httptest.NewRecorder()
	if g.CORS(w, r) || w.Header().Get("Access-Control-Allow-Origin") != "https://shop.example" || w.Header().Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("a request of another origin: %v", w.Header())
	}
}

// member names and values that make trouble.
var (
	names  = rapid.SampledFrom([]string{"userId", "anonymousId", "messageId", "type", "timestamp", "sentAt", "originalTimestamp", "request_ip", "rudderId", "receivedAt", "event", "properties", "context", "a\"b", "ü"})
	values = rapid.SampledFrom([]string{`"x"`, `""`, `null`, `1`, `-1.5e3`, `true`, `{}`, `{"a":[1,{"b":null}]}`, `[]`, `"2026-01-01T00:00:00Z"`, `"1700000000000"`, `"ü\u0000\n"`, `" \u200b "`})
)

// TestBatchProperty: a batch of n valid events becomes n messages in their order, each valid
// JSON that keeps every member that is not stamped.
func TestBatchProperty(t *testing.T) {
	t.Parallel()
	g := open(t, gateway.Options{})
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(rt, "events")
		space := rapid.SampledFrom([]string{"", " ", "\n\t "}).Draw(rt, "space")
		var events []string
		for i := range n {
			members := []string{fmt.Sprintf(`"number":%d`, i), fmt.Sprintf(`"userId":"user-%d"`, i%3)}
			for range rapid.IntRange(0, 6).Draw(rt, "members") {
				name := names.Draw(rt, "name")
				if name == "userId" {
					continue
				}
				k, _ := json.Marshal(name)
				members = append(members, string(k)+space+":"+space+values.Draw(rt, "value"))
			}
			events = append(events, "{"+space+strings.Join(members, space+","+space)+"}")
		}
		b, a := ask(t, g, post("/v1/batch", "KEY1", `{"batch":[`+strings.Join(events, ",")+`]}`))
		if a != gateway.OK || len(b) != n {
			rt.Fatalf("%d events of %d, answer %d %s", len(b), n, a.Code, a.Body)
		}
		for i, m := range b {
			var in, out map[string]json.RawMessage
			if err := json.Unmarshal([]byte(events[i]), &in); err != nil {
				rt.Fatal(err)
			}
			if err := json.Unmarshal(m.Data, &out); err != nil {
				rt.Fatalf("%v: %s", err, m.Data)
			}
			for _, name := range []string{"messageId", "rudderId", "request_ip", "receivedAt", "originalTimestamp", "sentAt", "timestamp"} {
				if len(out[name]) == 0 || (out[name][0] != '"' && name != "request_ip") {
					rt.Fatalf("%s is %s", name, out[name])
				}
				if name != "request_ip" {
					delete(in, name)
				}
			}
			for name, value := range in {
				var want bytes.Buffer
				_ = json.Compact(&want, value)
				if !bytes.Equal(want.Bytes(), out[name]) {
					rt.Fatalf("%s is %s, was %s", name, out[name], value)
				}
			}
			if m.Key != fmt.Sprintf("user-%d", i%3) {
				rt.Fatalf("key %q", m.Key)
			}
			if cap(m.Data) != len(m.Data) {
				rt.Fatal("appending to an event would reach the next")
			}
		}
	})
}

func FuzzBody(f *testing.F) {
	for _, s := range []string{sample(1), sampleBatch(2), `{"batch":[{}]}`, `{"batch":{"userId":1}}`, `{"userId":"\ud800","messageId":"\u0000"}`, "{\"userId\":\"\xff\"}", ` [ ] `, `{"batch":[],"batch":[{"userId":1}]}`, `{"userId":1e999}`, `{"userId":1,"timestamp":"9999-12-31T23:59:59.999-12:00","sentAt":"0000-01-01T00:00:00Z","originalTimestamp":"9999-12-31T23:59:59Z"}`} {
		f.Add(true, []byte(s))
		f.Add(false, []byte(s))
	}
	g := open(f, gateway.Options{})
	f.Fuzz(func(t *testing.T, single bool, body []byte) {
		path := "/v1/batch"
		if single {
			path = "/v1/track"
		}
		b, a := ask(t, g, post(path, "KEY1", string(body)))
		if a == gateway.OK && !json.Valid(bytes.ToValidUTF8(body, []byte("\ufffd"))) {
			t.Fatalf("taken, but not JSON: %q", body)
		}
		if a == gateway.InvalidJSON && json.Valid(body) {
			t.Fatalf("refused as invalid: %q", body)
		}
		for _, m := range b {
			var e map[string]json.RawMessage // whose names are matched exactly, unlike a struct's
			if err := json.Unmarshal(m.Data, &e); err != nil || len(e["messageId"]) < 3 {
				t.Fatalf("%v: %s", err, m.Data)
			}
			for _, name := range []string{"timestamp", "sentAt", "originalTimestamp", "receivedAt"} {
				var at time.Time
				if err := json.Unmarshal(e[name], &at); err != nil {
					t.Fatalf("%s: %v: %s", name, err, m.Data)
				}
			}
			if m.Key == "" {
				t.Fatalf("no key: %s", m.Data)
			}
		}
	})
}
