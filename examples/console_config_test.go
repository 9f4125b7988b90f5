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

// TestConsoleConfig: the page of the config says whether the files are what runs, what differs, and what
// is wrong with them at its line; secrets are in none of it, and nothing of it changes what runs.
func TestConsoleConfig(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	v := p.visit()
	was := fmt.Sprintf(failing, p.ports[0], p.ports[1], p.ports[2])
	v.open("config")
	v.shows("that the files are what runs", v.text("main")+".includes('The files are what runs.') && "+v.text(".source")+".includes('create_directories') === false && "+v.text(".source")+".includes('json_mode')")
	v.looks("config-same")

	p.write("p.hcl", strings.Replace(was, `path = "delivered"`, `path = "elsewhere" # password: hunter2-4711`, 1))
	v.press("Look again")
	v.shows("what differs", v.text("main")+".includes('The files are not what runs.') && "+v.text(".lines .plus")+".includes('elsewhere') && "+v.text(".lines .minus")+".includes('delivered')")
	v.looks("config-changed")

	p.write("p.hcl", strings.Replace(was, `use "base64Decode" {}`, `use "base64Dekode" {}`, 1))
	v.press("Look again")
	v.shows("what is wrong", v.text("main")+".includes('a reload would be refused') && "+v.text(".source .note")+".includes('base64Dekode')")
	before, _, _ := strings.Cut(was, "base64Decode")
	line := 1 + strings.Count(before, "\n")
	at := fmt.Sprintf("p.hcl:%d", line)
	v.shows("where", fmt.Sprintf("(() => { const x = [...document.querySelectorAll('main button')].find(x => x.textContent === %q); x?.focus(); return !!x })()", at))
	v.Do(chromedp.KeyEvent(kb.Enter))
	v.shows("its line, by keyboard", fmt.Sprintf("document.activeElement.id === 'line-0-%d' && document.activeElement.textContent.includes('base64Dekode')", line))
	v.looks("config-wrong")

	p.write("p.hcl", strings.Replace(was, `path = "failed"`, `path = "failures" # token = hunter2-4711`, 1))
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	v.shows("that the new config runs, by itself", v.text("main")+".includes('The files are what runs.') && "+v.text(".source")+".includes('failures')")
	p.write("p.hcl", strings.Replace(was, `path = "failed"`, `path = "failures" # token = hunter2-4712`, 1))
	v.press("Look again")
	v.shows("that what is hidden differs", v.text("main")+".includes('A value that is hidden differs.')")
	if whole := enginetest.Value[string](v.Tab, "fetch('v1/config').then(r => r.text())"); strings.Contains(whole, "hunter2") || !strings.Contains(whole, "(hidden)") {
		t.Errorf("a secret is shown: %s", whole)
	}

	v.open("lake")
	v.shows("that no lake is there", v.text("main")+".includes('No target of this config lands events in a lake')")
	v.looks("lake-none")
	v.quiet()
	p.interrupt()
}
