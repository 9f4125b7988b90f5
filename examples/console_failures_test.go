//go:build unix

package examples

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/weirdata/weir/internal/addresstest"
	"github.com/weirdata/weir/internal/enginetest"
)

// failing is a config whose second pipeline keeps dead what has no amount, and whose third writes what
// is no base64 into a file.
const failing = `
admin {
  address = "127.0.0.1:%d"
  console {}
}
queue "orders" {}
queue "parked" {}
pipeline "collect" {
  source {
    use "http" {
      url = "127.0.0.1:%d"
    }
  }
  target {
    use "queue" {
      name = "orders"
    }
  }
}
pipeline "deliver" {
  source {
    use "queue" {
      name = "orders"
    }
  }
  transform {
    use "js" {
      script_path = "total.js"
      json_mode   = true
    }
  }
  target {
    use "file" {
      path = "delivered"
    }
  }
}
pipeline "decode" {
  source {
    use "http" {
      url = "127.0.0.1:%d"
    }
  }
  transform {
    use "base64Decode" {}
  }
  target {
    use "queue" {
      name = "parked"
    }
  }
  failure_target {
    use "file" {
      path = "failed"
    }
  }
}
`

// total is its script; fixed takes what has no amount.
const (
	total = `function main(x) { if (x.Data.amount === undefined) throw new Error("the order has no amount"); x.Data.total = x.Data.amount * 1.2; return { Data: x.Data }; }`
	fixed = `function main(x) { x.Data.total = (x.Data.amount || 0) * 1.2; return { Data: x.Data }; }`
)

// process is a Weir of its own in a folder of its own.
type process struct {
	*demo
	dir   string
	ports [3]int
}

func newProcess(t *testing.T) *process {
	t.Helper()
	return processOf(t, failing, map[string]string{"total.js": total})
}

// processOf runs a config with places for three ports, beside files that it names.
func processOf(t *testing.T, config string, beside map[string]string) *process {
	t.Helper()
	binary, err := weir()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{demo: &demo{t: t, said: &locked{}}, dir: t.TempDir()}
	for i := range p.ports {
		p.ports[i] = addresstest.Port(t)
	}
	p.write("p.hcl", fmt.Sprintf(config, p.ports[0], p.ports[1], p.ports[2]))
	for name, text := range beside {
		p.write(name, text)
	}
	c := exec.Command(binary, "run", "p.hcl")
	c.Dir, c.Stdout, c.Stderr = p.dir, p.said, p.said
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p.cmd = c
	t.Cleanup(func() {
		if c.ProcessState == nil {
			_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
			_ = c.Wait()
		}
	})
	return p
}

func (p *process) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// post sends a body to the n-th source, once that listens.
func (p *process) post(n int, body string) {
	p.t.Helper()
	p.until("an answer to "+body, func() bool {
		r, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/", p.ports[n]), "application/json", strings.NewReader(body))
		if err != nil {
			return false
		}
		_ = r.Body.Close()
		return r.StatusCode < 300
	})
}

// TestConsoleFailures: what has failed is found, understood, tried with a config that was changed, and
// sent again; what waits is looked at and paused; and what passes is listened to. In a real browser, in
// light and dark, on a wide and on a narrow screen, without barriers.
func TestConsoleFailures(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	base := fmt.Sprintf("http://127.0.0.1:%d/", p.ports[0])
	v := p.visit()
	b, pictures, shows, text, press, looks := v.Tab, v.pictures, v.shows, v.text, v.press, v.looks

	b.Do(chromedp.Navigate(base + "failures"))
	shows("that nothing has failed", text("main")+".includes('Nothing has failed')")
	looks("failures-none")

	b.Do(chromedp.Navigate(base + "live?pipeline=deliver"))
	shows("the points", text("main form")+".includes('transform 1, js')")
	press("Listen")
	shows("that it listens", text("main")+".includes('listening')")
	p.post(1, `{"order":7,"amount":10}`)
	shows("what passes", text(".entries")+".includes('delivered')")
	for n := range 60 {
		p.post(1, fmt.Sprintf(`{"order":%d,"customer":"c%d"}`, n, n%7))
	}
	p.post(2, "%%%")
	press("Hold")
	enginetest.Value[bool](b, `(() => { [...document.querySelectorAll('.entry button.row')].filter(x => x.textContent.includes('js') && x.textContent.includes('changed'))[0]?.click(); return true })()`)
	looks("live")
	press("Stop")

	b.Do(chromedp.Navigate(base + "failures"))
	shows("the causes", text("main")+".includes('61 failures by cause')")
	press("error running JavaScript")
	looks("failures")
	b.Do(chromedp.Navigate(base + "failures?pipeline=deliver"))
	shows("those of one pipeline", text("main")+".includes('60 failures by cause')")
	shows("the first of them", "(() => { const x = document.querySelector('[aria-label=Failures] td button'); x?.click(); return !!x })()")
	shows("one whole", text(".one pre")+".includes('customer')")
	press("Run again")
	shows("that it fails as it did", text(".result")+".includes('the order has no amount')")
	p.write("total.js", fixed)
	press("Run again")
	shows("that it would be delivered", text(".result h3")+".includes('delivered') && "+text(".result .lines")+".includes('total')")
	looks("failure")
	if data, err := os.ReadFile(filepath.Join(p.dir, "delivered")); err != nil || strings.Count(string(data), "\n") != 1 {
		t.Errorf("the trial has written: %q, %v", data, err)
	}

	b.Do(chromedp.Navigate(base + "q/orders"))
	shows("the queue", text("main")+".includes('No message waits here')")
	enginetest.Value[bool](b, "(() => { const s = document.querySelector('main select'); s.value = 'dead'; s.dispatchEvent(new Event('change', {bubbles: true})); return true })()")
	shows("the dead", text("main table")+".includes('no amount')")
	shows("the first of them", "(() => { const x = document.querySelector('[aria-label=Messages] td button'); x?.click(); return !!x })()")
	shows("one of them", text(".one pre")+".includes('order')")
	looks("queue")
	press("Pause")
	shows("what a pause is about", text(".asked")+".includes('rest until')")
	press("Pause all of it")
	shows("that it is paused", text("main")+".includes('all of it is paused')")
	press("Resume")
	press("Resume all of it")
	shows("that it is not", "!"+text("main")+".includes('all of it is paused')")

	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.until("the new config", func() bool { return strings.Contains(p.said.String(), "the new config runs") })
	b.Do(chromedp.Navigate(base + "failures"))
	shows("all of them", text("main")+".includes('61 failures by cause')")
	press("Send again")
	shows("how many", text(".asked")+".includes('60 dead messages would wait') && "+text(".asked")+".includes('1 failure is elsewhere')")
	b.Keep(pictures, "replay")
	press("Send again")
	p.until("what was sent again", func() bool {
		data, _ := os.ReadFile(filepath.Join(p.dir, "delivered")) // it is there since the first
		return strings.Count(string(data), "\n") == 61
	})
	if said := p.said.String(); !strings.Contains(said, "an operator has dead messages wait again") || !strings.Contains(said, "an operator has paused a queue") || !strings.Contains(said, "somebody listens to a pipeline") {
		t.Errorf("the log does not tell what was done:\n%s", said)
	}
	v.quiet()
	p.interrupt()
}
