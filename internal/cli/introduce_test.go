//go:build unix

package cli_test

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestIntroduction: a process that stays tells what it is, what of it starts, and where it
// listens, also when the port is any; and at its end what it came to.
func TestIntroduction(t *testing.T) {
	t.Parallel()
	p := launch(t, weir(t, files(t, "p.hcl", `
admin {
  address = "127.0.0.1:0"
}
queue "events" {}
pipeline "in" {
  source {
    use "http" {
      url = "127.0.0.1:0"
    }
  }
  target {
    use "queue" {
      name = "events"
    }
  }
  failure_target {
    use "file" {
      path = "failed"
    }
  }
}
pipeline "out" {
  source {
    use "queue" {
      name = "events"
    }
  }
  transform {
    use "js" {
      script = "function main(x) { return x }"
    }
  }
  target {
    use "file" {
      path = "out"
    }
  }
  failure_target {
    use "file" {
      path = "failed"
    }
  }
}
`), "run", "p.hcl"))
	p.until(p.err, `"weir starts","version":"[^"]+","config":"p\.hcl","store":"embedded [^"]+weir-data"`)
	p.until(p.err, `"starts","pipeline":"in","shape":"http -> queue events"`)
	p.until(p.err, `"starts","pipeline":"out","shape":"queue events -> js -> file"`)
	p.until(p.err, `"admin server listens","address":"127\.0\.0\.1:[1-9]\d*"`)
	listens := `"listens","pipeline":"in","address":"(127\.0\.0\.1:[1-9]\d*)"`
	p.until(p.err, listens)
	address := regexp.MustCompile(listens).FindStringSubmatch(p.err.String())[1]
	r, err := http.Post("http://"+address+"/", "text/plain", strings.NewReader("one\ntwo"))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, r.Body)
	_ = r.Body.Close()
	if r.StatusCode != http.StatusAccepted {
		t.Errorf("status %d", r.StatusCode)
	}
	eventually(t, "delivery", func() bool { return strings.Count(string(read(t, p.dir+"/out")), "\n") == 2 })
	p.signal(os.Interrupt)
	p.exits(0)
	p.until(p.err, `"ended","read":4,"delivered":4,"filtered":0,"failed":0,`)
}
