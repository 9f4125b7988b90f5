//go:build unix

package cli_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/cli"
)

// The configs of Snowbridge 5 that have to run unchanged, each with input and the bytes that
// come out, as `weir test` has them.
const snowbridgeCases = "../pipetest/testdata/snowbridge5"

// line is the line that the stdout target prints unless told to print the data only.
var line = regexp.MustCompile(`^PartitionKey:([^,]+),TimeCreated:(\S+ \S+ \+0000 UTC),TimePulled:(\S+ \S+ \+0000 UTC),TimeTransformed:(\S+ \S+ \+0000 UTC),Data:(.*)$`)

// TestSnowbridge5 runs each case as `weir test` does, checks its config, and runs the binary
// on it as it stands: with stdin and stdout.
func TestSnowbridge5(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(snowbridgeCases + "/*.txtar")
	if err != nil || len(paths) < 12 {
		t.Fatal(len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			s := cli.Streams{Out: &out, Err: &out, Env: func(string) (string, bool) { return "", false }}
			if code := cli.Main([]string{"test", path}, s); code != 0 {
				t.Errorf("weir test: %s", &out)
			}
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			parts := map[string]string{}
			dir := t.TempDir()
			for _, f := range archive.Files {
				parts[f.Name] = string(f.Data)
				write(t, filepath.Join(dir, f.Name), string(f.Data))
			}
			environment := split(parts["env"])
			c := weir(t, dir, "check", "config.hcl")
			c.Env = append(c.Env, environment...)
			c.Stdin = strings.NewReader("")
			p := launch(t, c)
			p.exits(0)
			if p.err.String() != parts["diagnostics"] {
				t.Errorf("check says %s, want %s", p.err, parts["diagnostics"])
			}
			if strings.Contains(parts["config.hcl"], `use "http"`) {
				return // TestSnowbridge5OverHTTP runs these
			}
			c = weir(t, dir, "run", "config.hcl")
			c.Env = append(c.Env, append(environment, "SNOWBRIDGE_CONFIG_FILE=config.hcl")...)
			c.Stdin = strings.NewReader(parts["in"] + payloads(t, parts["in.jsonl"]))
			p = launch(t, c)
			p.exits(0)
			if strings.Contains(parts["config.hcl"], "max_message_bytes = 450") {
				return // where a payload is cut depends on the length of the version beside it
			}
			dataOnly := regexp.MustCompile(`(?s)\ntarget \{[^}]*data_only_output`).MatchString("\n" + parts["config.hcl"])
			same(t, printed(t, p.out.String(), dataOnly), expected(t, parts))
		})
	}
}

// payloads is the data of in.jsonl, one a line.
func payloads(t *testing.T, jsonl string) string {
	t.Helper()
	var b strings.Builder
	for _, l := range split(jsonl) {
		var m struct{ Data string }
		if err := json.Unmarshal([]byte(l), &m); err != nil {
			t.Fatal(err)
		}
		b.WriteString(m.Data + "\n")
	}
	return b.String()
}

// moment is what differs between two failure payloads of one message.
var moment = regexp.MustCompile(`"timestamp":"[^"]*"\}|"version":"[^"]*"`)

// expected is the lines that a case says are printed, without keys that are made up.
func expected(t *testing.T, parts map[string]string) []string {
	t.Helper()
	want := split(parts["out"])
	for _, l := range split(parts["out.jsonl"]) {
		var m struct {
			Data    string
			Key     string
			Headers map[string]string
		}
		if err := json.Unmarshal([]byte(l), &m); err != nil {
			t.Fatal(err)
		}
		if m.Key != "" && m.Key != "from the source" {
			m.Data = m.Key + "|" + m.Data
		}
		want = append(want, m.Data)
	}
	for i, l := range want {
		if text, ok := strings.CutPrefix(l, "base64:"); ok {
			data, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			want[i] = string(data)
		}
	}
	if regexp.MustCompile(`failure_target \{\s+use "silent"`).MatchString(parts["config.hcl"]) {
		return want
	}
	for _, l := range split(parts["failed"]) {
		want = append(want, moment.ReplaceAllString(l, ""))
	}
	if regexp.MustCompile(`filter_target \{\s+use "stdout"`).MatchString(parts["config.hcl"]) {
		want = append(want, split(parts["filtered"])...)
	}
	return want
}

var madeUp = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// printed is the data of the lines that were printed, with keys that are not made up. With
// dataOnly the lines of the target are the data itself.
func printed(t *testing.T, text string, dataOnly bool) []string {
	t.Helper()
	lines := split(text)
	for i, l := range lines {
		m := line.FindStringSubmatch(l)
		switch {
		case m == nil && dataOnly:
			continue
		case m == nil:
			t.Errorf("not the default line: %.200q", l)
			continue
		}
		lines[i] = moment.ReplaceAllString(m[5], "")
		if !madeUp.MatchString(m[1]) && !strings.HasPrefix(m[5], `{"data":{"failure"`) {
			lines[i] = m[1] + "|" + lines[i]
		}
	}
	return lines
}

// TestSnowbridge5OverHTTP posts events to the http source and looks at the bytes of the
// requests that the http target makes of them.
func TestSnowbridge5OverHTTP(t *testing.T) {
	t.Parallel()
	events := []string{`{"n":1e6,"t":"<b>&"}`, ` { "n" : 12345678901234567890 , "x": [ 1, null ] } `, `"text"`, `{broken`, `{"refuse":true}`}
	for name, test := range map[string]struct {
		template string
		options  string
		bodies   []string // in any order
		invalid  []string
	}{
		"array": {
			options: "batching {\nmax_batch_messages = 1\n}\n",
			bodies:  []string{`[{"n":1e6,"t":"\u003cb\u003e\u0026"}]`, `[{"n":12345678901234567890,"x":[1,null]}]`, `["text"]`, `[{"refuse":true}]`},
			invalid: []string{`{broken`, `{"refuse":true}`},
		},
		"template": {
			template: `{"key":"{{ env "API_KEY" }}","events":[{{ range $i, $e := . }}{{ if $i }},{{ end }}{{ prettyPrint $e }}{{ end }}]}`,
			options:  "template_file = \"body.tmpl\"\nbatching {\nmax_batch_messages = 1\n}\n",
			bodies: []string{`{"key":"k","events":[{"n":1000000,"t":"\u003cb\u003e\u0026"}]}`, `{"key":"k","events":[{"n":12345678901234567890,"x":[1,null]}]}`,
				`{"key":"k","events":["text"]}`, `{"key":"k","events":[{"refuse":true}]}`},
			invalid: []string{`{broken`, `{"refuse":true}`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var bodies []string
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				mu.Lock()
				bodies = append(bodies, string(body))
				mu.Unlock()
				user, password, _ := r.BasicAuth()
				if r.Method != http.MethodPost || r.URL.RequestURI() != "/collect?x=1" || user != "me" || password != "k" ||
					r.Header.Get("Content-Type") != "text/json" || !slices.Equal(r.Header.Values("X-Key"), []string{"k"}) || r.Header.Get("Rejection-Timestamp") == "" {
					t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
				}
				if strings.Contains(string(body), "refuse") {
					http.Error(w, "bad field", http.StatusUnprocessableEntity)
					return
				}
			}))
			defer s.Close()
			at := addresstest.Free(t)
			c := weir(t, files(t, "body.tmpl", test.template, "p.hcl", fmt.Sprintf(`
source {
  use "http" {
    url                 = %q
    path                = "/events"
    request_batch_limit = 10
  }
}
target {
  use "http" {
    url                    = "%s/collect?x=1"
    content_type           = "text/json"
    headers                = { "X-Key" = env.API_KEY }
    basic_auth_username    = "me"
    basic_auth_password    = env("API_KEY")
    include_timing_headers = true
    request_timeout_in_millis = 600000
    response_rules {
      rule {
        type       = "invalid"
        http_codes = [422]
        body       = "bad field"
      }
    }
    %s
  }
}
failure_parser {
  format = "event_forwarding"
}
`, at, s.URL, test.options)))
			c.Args = append(c.Args, "run", "p.hcl")
			c.Env = append(c.Env, "API_KEY=k")
			p := launch(t, c)
			listening(t, at)
			r, err := http.Post("http://"+at+"/events", "text/plain", strings.NewReader(strings.Join(events, "\n\n")))
			if err != nil {
				t.Fatal(err)
			}
			_ = r.Body.Close()
			if r.StatusCode != http.StatusAccepted {
				t.Errorf("answered %s", r.Status)
			}
			p.stops(0)
			same(t, bodies, test.bodies)
			var invalid []string
			for _, l := range split(p.out.String()) {
				m := line.FindStringSubmatch(l)
				if m == nil {
					t.Fatalf("not the default line: %q", l)
				}
				var row struct {
					Data struct {
						Failure struct{ ErrorType, ErrorCode, ErrorMessage, LatestState string }
						Payload string
					}
				}
				if err := json.Unmarshal([]byte(m[5]), &row); err != nil {
					t.Fatal(err)
				}
				invalid = append(invalid, row.Data.Payload)
				if f := row.Data.Failure; strings.Contains(row.Data.Payload, "refuse") &&
					(f.ErrorType != "api" || f.ErrorCode != "422 Unprocessable Entity" || !strings.Contains(f.ErrorMessage, "HTTP Status Code: 422 Unprocessable Entity Body: bad field")) {
					t.Errorf("the failure says %+v", f)
				}
			}
			same(t, invalid, test.invalid)
		})
	}
}
