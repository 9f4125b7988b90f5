//go:build unix

package cli_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/addresstest"
)

// TestTapAndTop: the commands show what passes a pipeline of a running process and how it stands; who may
// only see is told no payload; and a case that is saved passes.
func TestTapAndTop(t *testing.T) {
	t.Parallel()
	front, admin := addresstest.Free(t), addresstest.Free(t)
	hash := func(token string) string {
		sum := sha256.Sum256([]byte(token))
		return hex.EncodeToString(sum[:])
	}
	dir := files(t, "p.hcl", fmt.Sprintf(`
admin {
  address = %q
  auth {
    token "ann" {
      sha256 = %q
    }
    token "eve" {
      sha256 = %q
      right  = "operate"
    }
  }
}
queue "events" {}
pipeline "p" {
  source {
    use "http" {
      url = %q
    }
  }
  transform {
    use "js" {
      script_path = "t.js"
    }
  }
  target {
    use "queue" {
      name = "events"
    }
  }
}
`, admin, hash("of ann"), hash("of eve"), front), "t.js", `function main(x) { return { Data: x.Data.toUpperCase(), PartitionKey: "k" }; }`)
	p := launch(t, weir(t, dir, "run", "p.hcl"))
	listening(t, front)
	as := func(token string, args ...string) *process {
		c := weir(t, dir, args...)
		c.Env = append(c.Environ(), "WEIR_TOKEN="+token)
		return launch(t, c)
	}
	for _, row := range []struct {
		token, said string
		args        []string
	}{
		{"of bob", "token of the server's block is missing or wrong", []string{"top", "p.hcl"}},
		{"of ann", `this needs the right "payloads", and ann has "see"`, []string{"tap", "p.hcl"}},
		{"of ann", `this needs the right "operate"`, []string{"queue", "pause", "events", "--yes", "--config", "p.hcl"}},
		{"of eve", `no pipeline "q" runs`, []string{"tap", "p.hcl", "--pipeline", "q"}},
		{"of eve", "every is a number", []string{"tap", "p.hcl", "--every", "0"}},
		{"of eve", "when: ", []string{"tap", "p.hcl", "--when", "1 +"}},
	} {
		refused := as(row.token, row.args...)
		refused.wait()
		if code := refused.wait(); code == 0 || !strings.Contains(refused.err.String(), row.said) {
			t.Errorf("%q as %q ends with %d and says\n%s\nwant %q", row.args, row.token, code, refused.err, row.said)
		}
	}
	listener := as("of eve", "tap", "p.hcl", "--pipeline", "p", "--limit", "3")
	p.until(p.err, "somebody listens to a pipeline")
	r, err := http.Post("http://"+front+"/", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	listener.exits(0)
	for _, want := range []string{`source +read +hello`, `transform.0 js +changed +hello\n +-> HELLO`, `target +delivered +HELLO`} {
		listener.until(listener.out, want)
	}
	top := as("of ann", "top", "p.hcl")
	top.exits(0)
	top.until(top.out, `(?m)^p +running`)
	top.until(top.out, `(?m)^events +1 `)
	shown := as("of ann", "queue", "show", "events", "--config", "p.hcl", "--json")
	shown.exits(0)
	if out := shown.out.String(); strings.Contains(out, "HELLO") || !strings.Contains(out, `"hidden": true`) {
		t.Errorf("who may only see is shown %s", out)
	}
	as("of eve", "queue", "pause", "events", "--yes", "--config", "p.hcl").exits(0)
	p.until(p.err, `an operator has paused a queue.*eve \(admin API`)
	p.stops(0)
}
