package app_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/all"
	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/config"
)

// TestSpillByHand: what spill stands for can be written with the options that every pipeline
// has, under names of one's own, and does the same.
func TestSpillByHand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	refuse := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer refuse.Close()
	forever := "retry {\n"
	for _, class := range []string{"transient", "setup", "throttle"} {
		forever += class + " {\n max_attempts = 0\n delay_ms = 20\n max_delay_ms = 100\n}\n"
	}
	forever += "}\n"
	hcl := func(target string) string {
		return strings.ReplaceAll(`
store {
  use "embedded" {
    path = "DIR/store"
  }
}
queue "failed" {}
pipeline "events" {
  source {
    use "file" {
      path = "DIR/in"
    }
  }
  transform {
    use "base64Decode" {}
  }
  target {
    use "file" {
      path = "DIR/out"
    }
  }
  failure_target {
    use "queue" {
      name = "failed"
    }
  }
}
pipeline "deliver failures" {
  source {
    use "queue" {
      name            = "failed"
      stop_when_empty = true
    }
  }
  target {
`+target+`
  }
  failure_target {
    keep = true
  }
  finish_timeout_ms = 1000
  `+forever+`
}
`, `pipeline "deliver failures"`, `pipeline "deliver"`)
	}
	write(t, dir+"/in", "b25l\n*\n**\n")
	late := "use \"file\" {\npath = \"DIR/later/failed\"\n}"
	p, _ := startIn(t, dir, hcl(late))
	if err := p.result(t); err == nil || !strings.Contains(err.Error(), `pipeline "deliver": the target has not taken 2 messages (`) ||
		!strings.Contains(err.Error(), "no such file or directory") || !strings.Contains(err.Error(), "they are safe in the store") {
		t.Errorf("Run: %v", err)
	}
	write(t, dir+"/later/other", "")
	write(t, dir+"/in", "***\n")
	p, _ = startIn(t, dir, hcl(late))
	if err := p.result(t); err != nil {
		t.Fatal(err)
	}
	once(t, dir+"/later/failed", "*", "**", "***")
	write(t, dir+"/in", "*****\n")
	p, _ = startIn(t, dir, hcl(fmt.Sprintf("use \"http\" {\nurl = %q\nresponse_rules {\nrule {\ntype = \"invalid\"\nhttp_codes = [418]\n}\n}\n}", refuse.URL)))
	if err := p.result(t); err == nil || !strings.Contains(err.Error(), `pipeline "deliver": the target refused 1 messages; they are kept: see weir queue show failed --dead`) {
		t.Errorf("Run: %v", err)
	}
	if st := left(t, dir, "failed"); st.Open() != 0 || st.Dead != 1 {
		t.Errorf("in the queue: %+v", st)
	}
}

// TestOptionsThatSuitNoSource: what needs a queue, or an end, is refused where there is none.
func TestOptionsThatSuitNoSource(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ hcl, want string }{
		{"failure_target {\n  keep = true\n}\n", `test.hcl:2:10: error: the source "stdin" is no queue, where failed messages could be kept`},
		{"finish_timeout_ms = 5\n", `test.hcl:1:21: error: the source "stdin" does not end with what feeds it`},
		{"queue \"q\" {}\nsource {\n  use \"queue\" {\n    name = \"q\"\n  }\n}\nfinish_timeout_ms = 5\n", `test.hcl:7:21: error: the source "queue" does not end with what feeds it`},
		{"failure_target {\n  keep  = true\n  spill = true\n}\n", "test.hcl:2:11: error: failed messages cannot both stay"},
		{"failure_target {\n  keep = true\n  use \"stdout\" {}\n}\n", "test.hcl:2:10: error: failed messages stay in the queue"},
		{"finish_timeout_ms = -1\n", "test.hcl:1:21: error: finish_timeout_ms must be at least 0"},
	} {
		b := &app.Builder{Set: all.Connectors(), Log: slog.New(slog.DiscardHandler), Version: "1.2.3"}
		cfg, found := config.ParseFiles([]config.File{{Name: "test.hcl", Src: []byte(row.hcl)}}, b.Options(func(string) (string, bool) { return "", false }))
		if cfg != nil {
			_, found = b.Build(t.Context(), cfg.Plan())
		}
		if !strings.Contains(found.Text(), row.want) || !strings.Contains(found.Text(), "fix: ") {
			t.Errorf("of\n%s\nwas found\n%s\nwant %s", row.hcl, found.Text(), row.want)
		}
	}
}

// TestSpilledFailuresFit: a failure is made to fit the target that it comes to in the end,
// not the queue before it.
func TestSpilledFailuresFit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/in", strings.Repeat("*", 100<<10)+"\n")
	write(t, dir+"/later/other", "")
	p, _ := startIn(t, dir, strings.Replace(spilling, `path = "DIR/later/failed"`, `path = "DIR/later/failed"
    batching {
      max_message_bytes = 10000
    }`, 1))
	if err := p.result(t); err != nil {
		t.Fatal(err)
	}
	row, err := os.ReadFile(dir + "/later/failed")
	if err != nil || len(row) < 1000 || len(row) > 10001 || !bytes.Contains(row, []byte("illegal base64")) {
		t.Errorf("the row has %d bytes: %v\n%.300s", len(row), err, row)
	}
}
