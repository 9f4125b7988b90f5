//go:build unix

package cli_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/cli"
)

// toFiles is targets that keep everything whole, whatever its size.
const toFiles = `
target {
  use "file" {
    path           = "out"
    allow_newlines = true
    batching {
      max_batch_bytes   = 64000000
      max_message_bytes = 32000000
    }
  }
}
failure_target {
  use "file" {
    path = "failed"
    batching {
      max_batch_bytes   = 128000000
      max_message_bytes = 64000000
    }
  }
}
`

// badRow is the parts of a failure payload that users look at.
type badRow struct {
	Schema string
	Data   struct {
		Failure struct {
			Errors                  []string
			ActualSizeBytes         int
			MaximumAllowedSizeBytes int
			Expectation             string
			Timestamp               time.Time
		}
		Payload   string
		Processor struct{ Artifact, Version string }
	}
}

const (
	genericError  = "iglu:com.snowplowanalytics.snowplow.badrows/generic_error/jsonschema/1-0-0"
	sizeViolation = "iglu:com.snowplowanalytics.snowplow.badrows/size_violation/jsonschema/1-0-0"
)

// binary is how a failure payload holds bytes that are no text.
func binary(bytes string) string { return "data:application/octet-stream;base64," + encode(bytes) }

// rows is the failure payloads in a file.
func rows(t *testing.T, text string) []badRow {
	t.Helper()
	var rs []badRow
	for _, line := range split(text) {
		var r badRow
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&r); err != nil {
			t.Fatalf("%v in a failure payload: %.300s", err, line)
		}
		if p := r.Data.Processor; p.Artifact != "weir" || p.Version != cli.Version() || r.Data.Failure.Timestamp.IsZero() {
			t.Errorf("a failure payload says of itself: %+v", r.Data.Processor)
		}
		rs = append(rs, r)
	}
	slices.SortFunc(rs, func(a, b badRow) int { return strings.Compare(a.Data.Payload, b.Data.Payload) })
	return rs
}

// crowd is messages that nothing is wrong with.
func crowd(n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"n":%d}`, i)
	}
	return lines
}

// among puts bad lines into the middle of a crowd.
func among(lines []string, bad ...string) string {
	all := slices.Concat(lines[:len(lines)/2], bad, lines[len(lines)/2:])
	return strings.Join(all, "\n") + "\n"
}

// same checks lines regardless of order: several workers and writers are at work.
func same(t *testing.T, got, want []string) {
	t.Helper()
	got, want = slices.Clone(got), slices.Clone(want)
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("what came out (-want +got):\n%.4000s", d)
	}
}

// TestLineOfTenMegabytes: it goes through where the limits allow it, byte for byte. Where they
// do not it is a size violation, whole if the failure target takes it, cut to its limit if not.
func TestLineOfTenMegabytes(t *testing.T) {
	t.Parallel()
	line := strings.Repeat("0123456789", 1<<20)
	good := crowd(2000)
	input := among(good, line)
	const script = "transform {\n  use \"js\" {\n    script = \"function main(x) { return x }\"\n  }\n}\n"
	const small = "target {\n  use \"file\" {\n    path = \"out\"\n  }\n}\n"
	_, after, _ := strings.Cut(toFiles, "failure_target")
	whole := "failure_target" + after
	for name, test := range map[string]struct {
		config    string
		delivered bool
		kept      func(payload string) bool
	}{
		"delivered": {script + toFiles, true, nil},
		"kept":      {script + small + whole, false, func(p string) bool { return p == line }},
		"as is":     {small + "failure_target {\n  use \"file\" {\n    path = \"failed\"\n  }\n}\n", false, func(p string) bool { return p == line }},
		"cut": {small + "failure_target {\n  use \"file\" {\n    path = \"failed\"\n    batching {\n      max_message_bytes = 1048576\n    }\n  }\n}\n", false, func(p string) bool {
			return len(p) > 1<<20-1000 && len(p) < 1<<20 && strings.HasPrefix(line, p)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := run(t, files(t, "p.hcl", test.config), input, "run", "p.hcl")
			p.exits(0)
			want := good
			if test.delivered {
				want = append(slices.Clone(good), line)
			}
			same(t, split(read(t, filepath.Join(p.dir, "out"))), want)
			rs := rows(t, read(t, filepath.Join(p.dir, "failed")))
			if test.delivered {
				if len(rs) > 0 {
					t.Errorf("%d failures", len(rs))
				}
				return
			}
			if len(rs) != 1 || rs[0].Schema != sizeViolation || !test.kept(rs[0].Data.Payload) ||
				rs[0].Data.Failure.ActualSizeBytes != len(line) || rs[0].Data.Failure.MaximumAllowedSizeBytes != 1<<20 {
				t.Errorf("%d failures: %.500v", len(rs), rs)
			}
		})
	}
}

// TestAnyBytes: invalid UTF-8, NUL bytes and empty lines pass unchanged where nothing reads
// them, and base64 gives them back. The size of the batch makes no difference.
func TestAnyBytes(t *testing.T) {
	t.Parallel()
	input := "plain\n\n\x00\na\x00b\n\xff\xfe\nhalf \xe2\x82\n\xc0\x80\n\xed\xa0\x80\n \t\r\x0b\n\xef\xbb\xbfbom\nlast"
	want := strings.ReplaceAll(input, "\r\n", "\n") + "\n"
	for name, transforms := range map[string]string{
		"untouched": "",
		"base64":    "transform {\n  use \"base64Encode\" {}\n  use \"base64Decode\" {}\n  worker_pool = 1\n}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := run(t, files(t, "p.hcl", transforms+toFiles), input, "run", "p.hcl")
			p.exits(0)
			if got := read(t, filepath.Join(p.dir, "out")); got != want {
				t.Errorf("wrote %q, want %q", got, want)
			}
			if got := read(t, filepath.Join(p.dir, "failed")); got != "" {
				t.Errorf("failed: %s", got)
			}
		})
	}
}

// TestPayloadsThatATransformRefuses: each is a generic error with the whole payload and a
// reason; nothing else is touched.
func TestPayloadsThatATransformRefuses(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 200_000) + strings.Repeat("]", 200_000)
	deepObject := strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000)
	garbage := []string{"not json", "\xff\xfe{}", "{\"a\":\x00}", `{"a":`, deep, deepObject, ""}
	js := func(options, body string) string {
		return "use \"js\" {\n" + options + "\n script = <<EOT\nfunction main(input) {\n" + body + "\n}\nEOT\n}\n"
	}
	for name, test := range map[string]struct {
		transform string
		bad       []string
		reason    string // in each error
	}{
		"json_mode":    {js("json_mode = true", "return input"), garbage, "failed making input for the JavaScript runtime"},
		"JSON.parse":   {js("", "return {Data: JSON.parse(input.Data)}"), garbage, "error running JavaScript function [main]"},
		"jq":           {"use \"jq\" {\n jq_command = \".\"\n timeout_ms = 60000\n}\n", append([]string{"1", "null", "[1]"}, garbage...), ""},
		"jqFilter":     {"use \"jqFilter\" {\n jq_command = \".n >= 0\"\n timeout_ms = 60000\n}\n", append([]string{`{"n":1}x`}, garbage...), ""},
		"base64Decode": {"use \"base64Encode\" {}\nuse \"js\" {\n script = \"function main(x) { if (x.Data === 'YmFk') x.Data = '*'; return x }\"\n}\nuse \"base64Decode\" {}\n", []string{"bad"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good := crowd(300)
			p := run(t, files(t, "p.hcl", "transform {\n"+test.transform+"}\n"+toFiles), among(good, test.bad...), "run", "p.hcl")
			p.exits(0)
			same(t, split(read(t, filepath.Join(p.dir, "out"))), good)
			rs := rows(t, read(t, filepath.Join(p.dir, "failed")))
			if len(rs) != len(test.bad) {
				t.Fatalf("%d failures for %d bad messages", len(rs), len(test.bad))
			}
			want := slices.Clone(test.bad)
			for i := range want {
				if !utf8.ValidString(want[i]) { // JSON holds no other text
					want[i] = binary(want[i])
				}
			}
			if name == "base64Decode" {
				want = []string{"*"} // the payload as it is now
			}
			slices.Sort(want)
			for i, r := range rs {
				if r.Schema != genericError || r.Data.Payload != want[i] {
					t.Errorf("%s with payload %.60q, want %.60q", r.Schema, r.Data.Payload, want[i])
				}
				if e := r.Data.Failure.Errors; len(e) != 1 || e[0] == "" || !strings.Contains(e[0], test.reason) {
					t.Errorf("errors of %.60q: %.300q", r.Data.Payload, e)
				}
			}
			if p.err.String() != "" {
				t.Errorf("logged: %.500s", p.err)
			}
		})
	}
}

// TestBodiesOfAllKinds posts them to the http source: each request has the answer it should,
// and an accepted event is delivered or dead-lettered.
func TestBodiesOfAllKinds(t *testing.T) {
	t.Parallel()
	at := addresstest.Free(t)
	p := launch(t, weir(t, files(t, "p.hcl", fmt.Sprintf(`
source {
  use "http" {
    url = %q
  }
}
transform {
  use "jq" {
    jq_command = "{n: .n}"
    timeout_ms = 60000
  }
}
%s`, at, toFiles)), "run", "p.hcl"))
	listening(t, at)
	huge := `{"n":"` + strings.Repeat("x", 10<<20) + `"}`
	for _, test := range []struct {
		body string
		code int
	}{
		{"", 202}, {"\n\n\n", 202}, {`{"n":1}`, 202}, {"\x00", 202}, {"\xff\xff", 202}, {huge, 202},
		{strings.Repeat("[", 1<<20), 202}, {strings.Repeat("x\n", 51), 400}, {strings.Repeat("y", 17<<20), 413},
	} {
		r, err := http.Post("http://"+at, "text/plain", strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if r.StatusCode != test.code {
			t.Errorf("a body of %d bytes, %.20q: %s %s", len(test.body), test.body, r.Status, text)
		}
	}
	p.stops(0)
	same(t, split(read(t, filepath.Join(p.dir, "out"))), []string{`{"n":1}`, huge})
	var bad []string
	for _, r := range rows(t, read(t, filepath.Join(p.dir, "failed"))) {
		bad = append(bad, r.Data.Payload)
	}
	if want := []string{"\x00", strings.Repeat("[", 1<<20), binary("\xff\xff")}; !slices.Equal(bad, want) {
		t.Errorf("failed: %.300q", bad)
	}
}

// runaway is a script that does not come back for some messages.
const runaway = `
transform {
  worker_pool = 1
  use "js" {
    timeout_sec     = 20
    memory_limit_mb = 64
    script          = <<EOT
      function main(input) {
        switch (input.Data) {
          case 'grow': { const a = []; for (;;) a.push({ a: [1, 2, 3] }); }
          case 'double': { let s = 'x'; for (;;) s += s; }
          case 'regexp': return { Data: String(/^(?=(a+)+$)(a+)+$/.test('a'.repeat(40) + 'b')) };
          case 'deep': { const f = () => f() + 1; return f(); }
          case 'fill': return { Data: new Array(1e9).fill(0).join('') };
        }
        return input;
      }
    EOT
  }
  use "js" {
    timeout_sec = 5
    script      = "function main(input) { while (input.Data === 'loop') {} return input }"
  }
}
`

// TestScriptsThatRunAway: endless loops cost their time and endless allocation its limit, each
// for its own message; memory stays bounded, by what one worker may take at once.
func TestScriptsThatRunAway(t *testing.T) {
	t.Parallel()
	good := crowd(3000)
	bad := []string{"loop", "grow", "double", "regexp", "deep", "fill", "grow", "loop"}
	c := exec.Command(built(t), "run", "p.hcl") // without the race detector, which takes memory of its own
	c.Dir = files(t, "p.hcl", runaway+toFiles)
	c.Stdin = strings.NewReader(among(good, bad...))
	p := launch(t, c)
	program := filePages(p)
	p.exits(0)
	same(t, split(read(t, filepath.Join(p.dir, "out"))), good)
	reasons := map[string][]string{
		"loop":   {"runtime deadline exceeded: the script may run 5s"},
		"grow":   {"memory limit exceeded: the script may use 64 MiB", "runtime deadline exceeded: the script may run 20s"},
		"double": {"memory limit exceeded: the script may use 64 MiB"},
		"regexp": {"runtime deadline exceeded: the script may run 20s"},
		"deep":   {"calls nest deeper than"},
		"fill":   {"error running JavaScript function [main]"},
	}
	var payloads []string
	for _, r := range rows(t, read(t, filepath.Join(p.dir, "failed"))) {
		payload, reason := r.Data.Payload, strings.Join(r.Data.Failure.Errors, " ")
		payloads = append(payloads, payload)
		if !slices.ContainsFunc(reasons[payload], func(want string) bool { return strings.Contains(reason, want) }) {
			t.Errorf("%s failed with %s", payload, reason)
		}
	}
	same(t, payloads, bad)
	if used := peak(c.ProcessState) - <-program; used > 400<<20 {
		t.Errorf("the process took %d MiB", used>>20)
	}
}

// filePages tells, when p has ended, the most memory that pages of the program file took: the kernel's,
// which p only looks at, and as large as the program. It is 0 where the system does not say.
func filePages(p *process) <-chan int64 {
	most := make(chan int64, 1)
	go func() {
		var kilobytes int64
		look := time.NewTicker(20 * time.Millisecond)
		defer look.Stop()
		for {
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)) // it may have ended
			if _, rest, found := strings.Cut(string(status), "RssFile:"); found {
				now, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
				if n, err := strconv.ParseInt(now, 10, 64); err == nil {
					kilobytes = max(kilobytes, n)
				}
			}
			select {
			case <-look.C:
			case <-p.ended:
				most <- kilobytes << 10
				return
			}
		}
	}()
	return most
}

// built is a binary made as `make build` does.
func built(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weir")
	c := exec.Command("go", "build", "-o", path, "github.com/weirdata/weir/cmd/weir")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return path
}
