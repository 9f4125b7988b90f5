//go:build unix

package examples

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/enginetest"
)

// executing is a config whose machine waits, branches and fails.
const executing = `
admin {
  address = "127.0.0.1:%d"
  console {}
}
machine "orders" {
  definition         = "orders.asl.json"
  keep_ended_seconds = 3600
}
function "Charge" {
  script = "function main(x) { if (x.bad) throw new Error('the card was refused'); return x }"
}
pipeline "start" {
  source {
    use "http" {
      url = "127.0.0.1:%d"
    }
  }
  target {
    use "machine" {
      name = "orders"
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

const ordersDefinition = `{
  "Comment": "Charges an order, and waits for its parcel.",
  "StartAt": "Is it large?",
  "States": {
    "Is it large?": {"Type": "Choice", "Choices": [{"Variable": "$.large", "IsPresent": true, "Next": "Check"}], "Default": "Charge"},
    "Check": {"Type": "Parallel", "Next": "Charge", "ResultPath": null, "Branches": [
      {"StartAt": "Check stock", "States": {"Check stock": {"Type": "Pass", "End": true}}},
      {"StartAt": "Check customer", "States": {"Check customer": {"Type": "Wait", "Seconds": 7200, "End": true}}}]},
    "Charge": {"Type": "Task", "Resource": "Charge", "Next": "Is it paid?"},
    "Is it paid?": {"Type": "Choice", "Choices": [{"Variable": "$.wait", "IsPresent": true, "Next": "Wait for the parcel"}], "Default": "Done"},
    "Wait for the parcel": {"Type": "Wait", "SecondsPath": "$.wait", "Next": "Done"},
    "Done": {"Type": "Succeed"}
  }
}`

// TestConsoleMachines: the page of a machine says how many executions are in each state, lists them by
// status, page by page, with the time that one waits for and the cause that one failed for, and shows one
// on its graph.
func TestConsoleMachines(t *testing.T) {
	t.Parallel()
	p := processOf(t, executing, map[string]string{"orders.asl.json": ordersDefinition})
	v := p.visit()
	v.open("machines")
	v.shows("the machine", v.text("main table")+".includes('orders') && "+v.text("main table")+".includes('nothing to do')")
	v.open("machines/orders")
	v.shows("that nothing goes on", v.text("main")+".includes('No execution goes on.')")
	v.looks("machine-nothing")

	var many strings.Builder
	for n := range 120 {
		fmt.Fprintf(&many, "%s{\"order\":%d,\"wait\":%d}", map[bool]string{true: "\n"}[n > 0], n, 3600+n)
	}
	for line := range strings.Lines(many.String()) {
		p.post(1, strings.TrimSpace(line))
	}
	p.post(1, `{"order":1000,"large":true}`)
	p.post(1, `{"order":1001,"bad":true}`)
	p.post(1, `{"order":1002}`)
	p.until("all executions are where they stay", func() bool {
		v.press("Look again")
		return enginetest.Value[bool](v.Tab, v.text(".facts")+".includes('121') && "+v.text(".facts")+".includes('kept, failed1')")
	})
	v.shows("how many are in a state", "[...document.querySelectorAll('.drawing text.badge')].some(x => x.textContent === '120')")
	v.shows("the first of them", "document.querySelectorAll('[aria-label=Executions] tbody tr').length === 50")
	v.looks("machine")
	v.press("More")
	v.press("More")
	v.shows("all of them", "document.querySelectorAll('[aria-label=Executions] tbody tr').length === 121")
	v.press("that wait for a time")
	v.shows("when they go on", "/in [0-9]+ (s|min|h)/.test("+v.text("[aria-label=Executions]")+")")
	v.press("that failed")
	v.shows("why", v.text("[aria-label=Executions]")+".includes('the card was refused') && "+v.text("[aria-label=Executions]")+".includes('Charge')")
	v.shows("the one that failed", "(() => { const x = document.querySelector('[aria-label=Executions] td button'); x?.click(); return !!x })()")
	v.shows("where it failed", v.text(".one .drawing .wrong title")+".includes('Charge') && "+v.text(".one pre")+".includes('1001')")
	v.shows("what it must have passed, and may have", "document.querySelectorAll('.one .drawing .through').length === 2 && document.querySelectorAll('.one .drawing .perhaps').length === 3")
	v.looks("execution-failed")
	v.press("that ended and are kept")
	v.shows("the one that succeeded", v.text("[aria-label=Executions]")+".includes('succeeded')")
	v.walk("execution")
	v.quiet()
	p.interrupt()
}
