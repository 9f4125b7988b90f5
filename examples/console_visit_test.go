//go:build unix

package examples

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/weirdata/weir/internal/enginetest"
)

// visit is somebody at the console of a process, in a real browser.
type visit struct {
	*enginetest.Tab
	t              *testing.T
	p              *process
	base, pictures string
}

// visit opens a browser for p, once that is ready.
func (p *process) visit() *visit {
	p.t.Helper()
	v := &visit{Tab: enginetest.NewTab(p.t), t: p.t, p: p, base: fmt.Sprintf("http://127.0.0.1:%d/", p.ports[0]), pictures: p.t.ArtifactDir()}
	p.until("the console", func() bool {
		r, err := http.Get(v.base + "readyz")
		if err != nil {
			return false
		}
		_ = r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	return v
}

// open goes to a page.
func (v *visit) open(page string) {
	v.t.Helper()
	v.Do(chromedp.Navigate(v.base + page))
}

// shows waits until an expression is true in the page.
func (v *visit) shows(what, expression string) {
	v.t.Helper()
	v.p.until(what+" (the page: "+v.base+")", func() bool { return enginetest.Value[bool](v.Tab, expression) })
}

// text is an expression for the text of what a selector finds first.
func (v *visit) text(selector string) string {
	return fmt.Sprintf("(document.querySelector(%q)?.textContent ?? '')", selector)
}

// press presses the first button whose text begins with word, once it can be pressed.
func (v *visit) press(word string) {
	v.t.Helper()
	v.shows("a button "+word, fmt.Sprintf("(() => { const x = [...document.querySelectorAll('main button')].find(x => x.textContent.startsWith(%q) && !x.disabled); x?.click(); return !!x })()", word))
}

// looks keeps pictures of the page in light and dark, on a wide and on a narrow screen, and at twice the
// size; and tells what keeps people from using it.
func (v *visit) looks(name string) {
	v.t.Helper()
	for _, width := range []int64{1280, 390} {
		for _, theme := range []string{"light", "dark"} {
			v.Theme(theme)
			v.Do(chromedp.EmulateViewport(width, 900))
			for _, line := range v.Barriers() {
				v.t.Errorf("%s, %s, %d: %s", name, theme, width, line)
			}
			if enginetest.Value[bool](v.Tab, "document.documentElement.scrollWidth > innerWidth") {
				v.t.Errorf("%s, %d: the page is wider than the screen", name, width)
			}
			v.Keep(v.pictures, fmt.Sprintf("%s-%s-%d", name, theme, width))
		}
	}
	v.Do(chromedp.EmulateViewport(640, 450, chromedp.EmulateScale(2))) // as a browser does at 200 %
	if enginetest.Value[bool](v.Tab, "document.documentElement.scrollWidth > innerWidth") {
		v.t.Errorf("%s, at 200 %%: the page is wider than the screen", name)
	}
	v.Keep(v.pictures, name+"-twice")
	v.Still()
	if n := enginetest.Value[int](v.Tab, "document.getAnimations().length + [...document.querySelectorAll('animate, animateTransform, animateMotion')].length"); n > 0 {
		v.t.Errorf("%s: %d things move for who wants nothing to", name, n)
	}
	v.Theme("light")
	v.Do(chromedp.EmulateViewport(1280, 900))
}

// walk goes through the page by keyboard: what can be pressed, written into or scrolled is come to, and
// is seen to be.
func (v *visit) walk(name string) {
	v.t.Helper()
	type place struct {
		Wanted  int    `json:"wanted"`
		Missing string `json:"missing"`
	}
	p := enginetest.Value[place](v.Tab, `(() => {
		const all = [...document.querySelectorAll('a[href], button:not(:disabled), input, select, textarea, summary, [tabindex="0"]')].filter(x => x.checkVisibility({ visibilityProperty: true }))
		window.toWalk = new Set(all)
		window.unseen = []
		document.activeElement?.blur()
		return { wanted: all.length, missing: '' }
	})()`)
	for range p.Wanted + 5 {
		v.Do(chromedp.KeyEvent(kb.Tab))
		if enginetest.Value[bool](v.Tab, `(() => {
			const x = document.activeElement
			if (x && x !== document.body) {
				const s = getComputedStyle(x)
				if (toWalk.has(x) && s.outlineStyle === 'none') unseen.push(x.outerHTML.slice(0, 200))
				toWalk.delete(x)
			}
			for (const x of toWalk) if (!x.isConnected) toWalk.delete(x) // the page went on meanwhile
			return toWalk.size === 0
		})()`) {
			break
		}
	}
	if got := enginetest.Value[[]string](v.Tab, `[...toWalk].map(x => x.outerHTML.slice(0, 200))`); len(got) > 0 {
		v.t.Errorf("%s: by keyboard nobody comes to %d of %d, such as %s", name, len(got), p.Wanted, got[0])
	}
	if got := enginetest.Value[[]string](v.Tab, `unseen`); len(got) > 0 {
		v.t.Errorf("%s: it is not seen where one is: %s", name, got[0])
	}
}

// quiet tells what the pages asked others for, and what the browser had to say.
func (v *visit) quiet() {
	v.t.Helper()
	for _, url := range v.Asked() {
		if !strings.HasPrefix(url, v.base) && !strings.HasPrefix(url, "data:") && !strings.HasPrefix(url, "blob:"+v.base) {
			v.t.Errorf("the page asks for %s", url)
		}
	}
	for _, e := range v.Errors() {
		v.t.Errorf("the browser says: %s", e)
	}
}
