//go:build unix

package cli_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/meter"
)

// everything is a config of all that has metrics: a gateway with a certificate, queues that are read
// and one that is not, a webhook whose destination is down, a lake, a machine that fails, a pipeline
// that waits to be started again, and a store.
const everything = `
store {
  use %[1]q {
%[2]s
  }
}
admin {
  address = %[3]q
}
queue "events" {}
queue "deliveries" {}
queue "nobody" {}
pipeline "door" {
  source {
    use "gateway" {
      address          = %[4]q
      workspace_config = "workspace.json"
      cert_file        = "server.crt"
      key_file         = "server.key"
    }
  }
  target {
    use "queue" {
      name = "events"
    }
  }
}
pipeline "process" {
  source {
    use "queue" {
      name = "events"
    }
  }
  transform {
    use "fanout" {
      workspace_config = "workspace.json"
    }
  }
  target {
    use "queue" {
      name = "deliveries"
    }
  }
}
pipeline "deliver" {
  source {
    use "queue" {
      name = "deliveries"
    }
  }
  target {
    use "webhook" {
      workspace_config = "workspace.json"
    }
  }
  retry {
    transient {
      delay_ms = 100
    }
  }
  failure_target {
    keep = true
  }
}
pipeline "lake" {
  source {
    use "generate" {
      kind = "events"
      rate = 50
    }
  }
  target {
    use "lake" {
      path                   = "lake"
      buffer_max_age_seconds = 1
    }
  }
}
pipeline "aside" {
  source {
    use "generate" {
      kind  = "events"
      count = 5
    }
  }
  target {
    use "queue" {
      name = "nobody"
    }
  }
}
pipeline "start" {
  source {
    use "generate" {
      kind = "orders"
      rate = 5
    }
  }
  target {
    use "machine" {
      name = "m"
    }
  }
}
machine "m" {
  definition = "m.json"
}
pipeline "away" {
  on_failure = "restart"
  source {
    use "generate" {
      kind = "orders"
      rate = 5
    }
  }
  target {
    use "file" {
      path = "no-such-directory/out"
    }
  }
}
`

// TestEverySeriesIsThere: a process that has everything on shows each series, with the labels, that
// the alert rules and the dashboard ask for, on PostgreSQL and with the embedded store; each of ours
// with the help of its definition, with its labels and no others, and with few values.
func TestEverySeriesIsThere(t *testing.T) {
	t.Parallel()
	wanted := asked(t)
	if len(wanted) < 40 {
		t.Fatalf("only %d series are asked for", len(wanted))
	}
	for _, store := range []struct{ name, options, foreign string }{
		{"postgres", fmt.Sprintf("    dsn = %q", enginetest.Postgres(t)), `^weir_store_(min_)?free_bytes$`}, // whose disk it knows nothing of
		{"embedded", "    path = \"store\"", `^weir_postgres_`},
	} {
		t.Run(store.name, func(t *testing.T) {
			t.Parallel()
			servers := newAuthority(t)
			cert, key := servers.issue("door")
			admin, gateway := addresstest.Free(t), addresstest.Free(t)
			p := launch(t, weir(t, files(t, "server.crt", cert, "server.key", key,
				"p.hcl", fmt.Sprintf(everything, store.name, store.options+"\n    max_bytes = 100000000000", admin, gateway),
				"workspace.json", fmt.Sprintf(workspaceDown, addresstest.Free(t)),
				"m.json", `{"StartAt":"F","States":{"F":{"Type":"Fail","Error":"Bad"}}}`), "run", "p.hcl"))
			p.until(p.err, `"listens"`)
			c := visitor(t, servers, servers.pair("somebody"))
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+gateway+"/v1/track", strings.NewReader(`{"userId":"u","event":"e"}`))
			if err != nil {
				t.Fatal(err)
			}
			req.SetBasicAuth("KEY1", "")
			r, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = r.Body.Close()
			if r.StatusCode != http.StatusOK {
				t.Fatalf("the gateway answers %d\n%s", r.StatusCode, p.err)
			}
			foreign := regexp.MustCompile(store.foreign)
			missing := slices.DeleteFunc(slices.Clone(wanted), func(s sought) bool { return foreign.MatchString(s.name) })
			text := ""
			for late := time.Now().Add(patience); len(missing) > 0; time.Sleep(200 * time.Millisecond) {
				_, text = get(t, "http://"+admin+"/metrics")
				shown := shownIn(text)
				missing = slices.DeleteFunc(missing, func(s sought) bool { return s.in(shown[s.name]) })
				select {
				case <-p.ended:
					t.Fatalf("it has ended:\n%s", p.err)
				default:
				}
				if time.Now().After(late) {
					t.Fatalf("not shown, though everything is on: %q\n%s", missing, p.err)
				}
			}
			ordinary(t, text)
			p.signal(syscall.SIGKILL)
		})
	}
}

// workspaceDown has one source, and one destination where nobody is.
const workspaceDown = `{"workspaceId":"ws1","sources":[{"id":"src1","name":"http","writeKey":"KEY1","enabled":true,"sourceDefinition":{"name":"HTTP"},"destinations":[` +
	`{"id":"down","name":"down","enabled":true,"isProcessorEnabled":true,"config":{"webhookUrl":"http://%s/"},"destinationDefinition":{"name":"WEBHOOK","displayName":"Webhook"}}]}]}`

// sought is a series that an expression asks for, with the labels and values that it chooses.
type sought struct {
	name   string
	chosen string
}

// Of an expression: a series with what it chooses of it, and one such choice.
var (
	seriesIn = regexp.MustCompile(`\b((?:weir|go|process)_\w+)(?:\{([^}]*)\})?`)
	choiceIn = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"`)
	lineOf   = regexp.MustCompile(`(?m)^(\w+)(?:\{(.*)\})? \S+$`)
	labelIn  = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
)

// asked are the series of the alert rules and of the dashboard.
func asked(t *testing.T) (all []sought) {
	t.Helper()
	for _, name := range []string{"alerts.yml", "dashboard.json"} {
		text := read(t, filepath.Join("..", "..", "docs", "monitoring", name))
		if name == "dashboard.json" || strings.Contains(text, `\"`) {
			text = strings.ReplaceAll(text, `\"`, `"`)
		}
		for _, m := range seriesIn.FindAllStringSubmatch(text, -1) {
			if s := (sought{m[1], m[2]}); !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all
}

// in reports whether one of the series of the name has the labels that s chooses by. Their values
// need not be those of trouble: that there may be some is the test's of the rules.
func (s sought) in(shown []map[string]string) bool {
	return slices.ContainsFunc(shown, func(labels map[string]string) bool {
		for _, c := range choiceIn.FindAllStringSubmatch(s.chosen, -1) {
			if _, has := labels[c[1]]; !has && c[1] != "instance" && c[1] != "job" {
				return false
			}
		}
		return true
	})
}

// shownIn are the labels of the series of a scrape, by name.
func shownIn(text string) map[string][]map[string]string {
	all := map[string][]map[string]string{}
	for _, m := range lineOf.FindAllStringSubmatch(text, -1) {
		labels := map[string]string{}
		for _, l := range labelIn.FindAllStringSubmatch(m[2], -1) {
			labels[l[1]] = l[2]
		}
		all[m[1]] = append(all[m[1]], labels)
	}
	return all
}

// ordinary holds what is shown of ours against the definitions.
func ordinary(t *testing.T, text string) {
	t.Helper()
	shown := shownIn(text)
	known := map[string]bool{}
	for _, d := range meter.Definitions() {
		names, labels := []string{d.Name}, slices.Clone(d.Labels)
		if d.Type == meter.TypeHistogram {
			names, labels = []string{d.Name + "_bucket", d.Name + "_sum", d.Name + "_count"}, append(labels, "le")
		}
		for _, name := range names {
			known[name] = true
			for _, series := range shown[name] {
				for label := range series {
					if !slices.Contains(labels, label) {
						t.Errorf("%s has the label %s, which its definition has not", name, label)
					}
				}
			}
			if n := len(shown[name]); n > 600 {
				t.Errorf("%s has %d series in a process of eight pipelines", name, n)
			}
			if len(shown[name]) > 0 && !strings.Contains(text, "# HELP "+d.Name+" ") {
				t.Errorf("%s is shown without help", d.Name)
			}
		}
	}
	for name := range shown {
		if strings.HasPrefix(name, "weir_") && !known[name] {
			t.Errorf("%s is shown and not defined", name)
		}
	}
}
