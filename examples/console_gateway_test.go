//go:build unix

package examples

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/weirdata/weir/internal/enginetest"
)

// collecting is a config whose gateway feeds a queue that one pipeline delivers from; it fails for events
// without a total.
const collecting = `
admin {
  address = "127.0.0.1:%d"
  console {}
}
queue "events" {}
pipeline "collect" {
  source {
    use "gateway" {
      workspace_config = "workspace.json"
      address          = "127.0.0.1:%d"
    }
  }
  target {
    use "queue" {
      name = "events"
    }
  }
}
pipeline "deliver" {
  source {
    use "queue" {
      name = "events"
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
pipeline "other" {
  source {
    use "http" {
      url = "127.0.0.1:%d"
    }
  }
  target {
    use "silent" {}
  }
}
`

// senders is its workspace configuration, with many sources.
func senders(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(`{"id":"src%d","name":"shop %d","writeKey":"key-of-the-shop-%d","enabled":%t,"sourceDefinition":{"name":"Javascript","type":"web"},"destinations":[{"id":"d1","name":"warehouse","enabled":true,"destinationDefinition":{"name":"WEBHOOK"},"config":{"webhookUrl":"http://127.0.0.1:1/"}}]}`, i, i, i, i != 2))
	}
	return `{"workspaceId":"shops","sources":[` + strings.Join(list, ",") + `]}`
}

// send sends an event to the gateway, and returns how it was answered.
func (p *process) send(key, body string) (code int) {
	p.t.Helper()
	p.until("an answer to "+body, func() bool {
		r, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/v1/track", p.ports[1]), strings.NewReader(body))
		if err != nil {
			p.t.Fatal(err)
		}
		r.SetBasicAuth(key, "")
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			return false
		}
		_ = a.Body.Close()
		code = a.StatusCode
		return code != http.StatusServiceUnavailable
	})
	return code
}

// TestConsoleGateway: the page of the gateway says who sends, and why what is refused is; a test event goes
// through the real door, and where it went is shown; one message is followed to where it failed.
func TestConsoleGateway(t *testing.T) {
	t.Parallel()
	p := processOf(t, collecting, map[string]string{
		"workspace.json": senders(40),
		"total.js":       `function main(x) { if (x.Data.event === "Broken") throw new Error("it has no total"); return x; }`,
	})
	v := p.visit()
	v.open("gateway")
	v.shows("the sources", v.text("main table")+".includes('shop 39') && "+v.text("main table")+".includes('nothing yet')")
	v.looks("gateway-nothing")

	for n := range 5 {
		p.send("key-of-the-shop-1", fmt.Sprintf(`{"userId":"u%d","event":"Order Completed","messageId":"m%d"}`, n, n))
	}
	if code := p.send("key-of-the-shop-1", `{"event":"nobody's"}`); code != http.StatusBadRequest {
		t.Errorf("an event of nobody: %d", code)
	}
	p.send("key-of-the-shop-1", `{"userId":"u","event":"Broken","messageId":"bad one/1"}`)
	p.send("key-of-the-shop-2", `{"userId":"u"}`)
	p.send("no-such-key", `{"userId":"u"}`)
	row := "([...document.querySelectorAll('main tbody tr')].find(r => r.children[0].textContent === 'shop 1')?.children ?? [])"
	v.shows("what was taken and refused", row+"[3]?.textContent === '6' && "+row+"[4].textContent === '1' && "+v.text("main")+".includes('invalid write key') && "+v.text("main")+".includes('switched off')")
	v.looks("gateway")
	v.press("shop 1")
	v.shows("one source", v.text(".one")+".includes('request neither has anonymousId nor userId') && "+v.text(".one pre")+".includes('key-of-the-shop-1')")
	v.press("curl")
	v.shows("a command", v.text(".one pre")+".startsWith('curl ')")
	v.press("Send a test event")
	v.shows("how it was answered", v.text(".result")+".includes('200 ok')")
	v.shows("where it went", v.text(".result table")+".includes('pipeline collect') && "+v.text(".result table")+".includes('pipeline deliver, target') && "+v.text(".result table")+".includes('delivered')")
	v.looks("gateway-source")
	v.walk("gateway-source")

	v.open("m")
	v.shows("what can be found", v.text("main")+".includes('Find a message')")
	v.looks("message-none")
	v.open("m/" + "bad%20one/1")
	v.shows("where it died", v.text("main table")+".includes('dead') && "+v.text("main table")+".includes('it has no total') && "+v.text("main h1")+" === 'One message'")
	v.shows("what it passed", "document.querySelectorAll('.drawing .through').length >= 2 && document.querySelectorAll('.drawing .here').length === 1")
	v.looks("message")
	v.walk("message")
	v.open("m/nothing")
	v.shows("that it is nowhere", v.text("main")+".includes('Nothing that is recorded has this id.')")

	v.Do(chromedp.Navigate(v.base + "gateway?text=shop+3"))
	v.shows("those that are chosen", v.text("main table")+".includes('shop 39') && !"+v.text("main table")+".includes('shop 2')")
	if n := enginetest.Value[int](v.Tab, "document.querySelectorAll('main tbody tr').length"); n < 11 {
		t.Errorf("%d sources are shown", n)
	}
	v.quiet()
	p.interrupt()
}
