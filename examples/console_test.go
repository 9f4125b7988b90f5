//go:build unix

package examples

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/weirdata/weir/internal/enginetest"
)

// kill ends the quickstart at once, as a power failure does.
func (d *demo) kill() {
	d.t.Helper()
	_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
	_ = d.cmd.Wait() // it was killed
}

func (d *demo) variable(name string) string {
	for _, v := range d.env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// TestConsole: the console of the quickstart in a real browser. Each page shows what runs, in light
// and dark, on a wide and on a narrow screen, without barriers and without asking anybody else; it
// can be walked by keyboard; and a Weir that is killed under it is missed, and found again.
func TestConsole(t *testing.T) {
	t.Parallel()
	d := newDemo(t)
	d.start()
	base := "http://127.0.0.1:" + d.variable("ADMIN_PORT") + "/"
	d.until("the address of the console", func() bool { return strings.Contains(d.said.String(), base) })
	b, pictures := enginetest.NewTab(t), t.ArtifactDir()
	shows := func(what, expression string) {
		t.Helper()
		d.until(what, func() bool { return enginetest.Value[bool](b, expression) })
	}
	text := func(selector string) string {
		return fmt.Sprintf("(document.querySelector(%q)?.textContent ?? '')", selector)
	}

	b.Do(chromedp.Navigate(base))
	shows("a rate on an edge", text(".drawing .rate")+".includes('/s')")
	shows("the pipelines by name", text("table")+".includes('deliver')")
	for _, page := range []struct{ name, path, shown string }{
		{"overview", "", text(".drawing") + ".includes('gateway')"},
		{"queues", "queues", text("main table") + ".includes('deliveries')"},
		{"pipeline", "p/deliver", text("main table") + ".includes('webhook')"},
		{"nothing", "p/nothing", text("main") + ".includes('No pipeline of this name')"},
	} {
		for _, width := range []int64{1280, 390} {
			for _, theme := range []string{"light", "dark"} {
				name := fmt.Sprintf("%s-%s-%d", page.name, theme, width)
				b.Theme(theme)
				b.Do(chromedp.EmulateViewport(width, 900), chromedp.Navigate(base+page.path))
				shows(name, page.shown)
				for _, line := range b.Barriers() {
					t.Errorf("%s: %s", name, line)
				}
				if enginetest.Value[bool](b, "document.documentElement.scrollWidth > innerWidth") {
					t.Errorf("%s: the page is wider than the screen", name)
				}
				b.Keep(pictures, name)
			}
		}
	}

	b.Do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(base))
	shows("a page to walk", text("main table")+".includes('deliver')")
	for range 4 { // past the link to the content, the name and the first page
		b.Do(chromedp.KeyEvent(kb.Tab))
	}
	b.Do(chromedp.KeyEvent(kb.Enter))
	shows("the queues, by keyboard", "location.pathname.endsWith('/queues') && "+text("h1")+" === 'Queues'")

	d.kill()
	shows("that Weir is lost", text("[role=alert]")+".includes('does not answer') && document.title.includes('lost')")
	b.Keep(pictures, "lost")
	d.start()
	shows("that it is back", "!document.querySelector('[role=alert]') && "+text("header .state")+" === 'ready'")

	for _, url := range b.Asked() {
		if !strings.HasPrefix(url, base) && !strings.HasPrefix(url, "data:") {
			t.Errorf("the page asks for %s", url)
		}
	}
	for _, e := range b.Errors() {
		t.Errorf("the browser says: %s", e)
	}
	d.interrupt()
}
