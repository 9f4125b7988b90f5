package enginetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Tab is a page in Chromium that a test drives, by the actions of chromedp with its context.
type Tab struct {
	Context context.Context

	t      testing.TB
	mu     sync.Mutex
	asked  []string
	errors []string
}

// NewTab opens a tab of a browser of its own, which ends with the test.
func NewTab(t testing.TB) *Tab {
	t.Helper()
	path := address(t, chromium, chromiumOnDemand)
	axe.get(t) // a test that lacks it does not begin
	dir, err := os.MkdirTemp("", "weir-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(dir),
		chromedp.Env("HOME="+dir), chromedp.Flag("disable-dev-shm-usage", true), chromedp.WSURLReadTimeout(3*time.Minute))
	ctx, endBrowser := chromedp.NewExecAllocator(t.Context(), options...)
	ctx, endTab := chromedp.NewContext(ctx)
	t.Cleanup(func() { endTab(); endBrowser() })
	tab := &Tab{Context: ctx, t: t}
	_, errNetwork := chromedp.Call(ctx, network.Enable, network.EnableParams{})
	_, errLog := chromedp.Call(ctx, log.Enable, cdp.Empty{})
	if err := errors.Join(errNetwork, errLog, chromedp.Listen(ctx, tab.note)); err != nil {
		t.Fatalf("Chromium: %v", err)
	}
	return tab
}

// note keeps what the page asks for, and what went wrong in it.
func (b *Tab) note(what any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := what.(type) {
	case *network.EventRequestWillBeSent:
		b.asked = append(b.asked, e.Request.URL)
	case *runtime.EventExceptionThrown:
		b.errors = append(b.errors, fmt.Sprintf("%s: %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception))
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
			b.errors = append(b.errors, e.Entry.Text)
		}
	}
}

// Asked are the addresses that pages asked for so far.
func (b *Tab) Asked() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.asked...)
}

// Errors are what scripts threw and what the browser refused to do, such as what a policy forbids.
// That a server did not answer is none.
func (b *Tab) Errors() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.errors...)
}

// Do does actions, one after the other.
func (b *Tab) Do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.Context, actions...); err != nil {
		b.t.Fatalf("Chromium: %v", err)
	}
}

// Value is what an expression of JavaScript, or the promise that it is, comes to.
func Value[T any](b *Tab, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.Context, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("Chromium: %s: %v", expression, err)
	}
	return v
}

// Theme has pages shown as on a machine that prefers "light" or "dark".
func (b *Tab) Theme(name string) {
	b.t.Helper()
	b.prefer("prefers-color-scheme", name)
}

// Still has pages shown as on a machine whose owner wants nothing to move, in its theme otherwise.
func (b *Tab) Still() {
	b.t.Helper()
	b.prefer("prefers-reduced-motion", "reduce")
}

func (b *Tab) prefer(name, value string) {
	b.t.Helper()
	features := []*emulation.MediaFeature{{Name: name, Value: value}}
	if _, err := chromedp.Call(b.Context, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features}); err != nil {
		b.t.Fatalf("Chromium: %v", err)
	}
}

// Keep keeps a picture of the whole page.
func (b *Tab) Keep(dir, name string) {
	b.t.Helper()
	png, err := chromedp.Run(b.Context, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Fatalf("take a picture: %v", err)
	}
}

// axe finds what keeps people from using a page.
var axe = &fetched{
	name: "axe-core", variable: "WEIR_TEST_AXE", version: "4.14.1", files: "node_modules/axe-core",
	needs: []string{"npm"},
	fetch: npm("axe-core@4.14.1"),
}

// Barriers are what axe-core finds in the page as it is, a line each.
func (b *Tab) Barriers() []string {
	b.t.Helper()
	script, err := os.ReadFile(filepath.Join(axe.get(b.t), "axe.min.js"))
	if err != nil {
		b.t.Fatal(err)
	}
	var found []struct {
		ID    string `json:"id"`
		Help  string `json:"help"`
		Nodes []struct {
			HTML string `json:"html"`
		} `json:"nodes"`
	}
	text := Value[string](b, string(script)+"\n;axe.run().then(r => JSON.stringify(r.violations))")
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		b.t.Fatal(err)
	}
	var lines []string
	for _, f := range found {
		var where []string
		for _, n := range f.Nodes {
			where = append(where, n.HTML)
		}
		lines = append(lines, f.ID+": "+f.Help+": "+strings.Join(where, " | "))
	}
	return lines
}
