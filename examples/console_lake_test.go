//go:build unix

package examples

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/weirdata/weir/internal/enginetest"
)

// landing is a config whose first pipeline lands orders in a lake, and whose others land nothing.
const landing = `
admin {
  address = "127.0.0.1:%d"
  console {}
}
pipeline "collect" {
  source {
    use "http" {
      url = "127.0.0.1:%d"
    }
  }
  target {
    use "lake" {
      path                   = "orders"
      partition_by           = ["year", "month"]
      buffer_max_age_seconds = 1
    }
  }
}
pipeline "late" {
  source {
    use "http" {
      url = "127.0.0.1:%d"
    }
  }
  target {
    use "lake" {
      path = "late"
    }
  }
}
`

// TestConsoleLake: the page of the lakes says how fresh and large each dataset is, answers questions to
// one within its limits, and says what is wrong with a question.
func TestConsoleLake(t *testing.T) {
	t.Parallel()
	p := processOf(t, landing, nil)
	v := p.visit()
	v.open("lake")
	v.shows("that nothing has landed", v.text("main table")+".split('nothing has landed yet').length === 3")
	v.looks("lake-nothing")

	const orders = 30
	for n := range orders {
		p.post(1, fmt.Sprintf(`{"order":%d,"amount":%d.5,"customer":{"name":"c%d"},"note":%q}`, n, n, n%7, strings.Repeat("long ", n)))
	}
	rows := fmt.Sprintf("[...document.querySelectorAll('main tbody tr')].some(r => r.textContent.includes('orders') && r.children[5].textContent === '%d')", orders)
	p.until("all that has landed", func() bool {
		v.press("Look again")
		return enginetest.Value[bool](v.Tab, rows)
	})
	v.shows("its columns", v.text("[aria-label=Columns]")+".includes('customer') && "+v.text("[aria-label=Columns]")+`.includes('"order"')`)
	write := func(sql string) {
		t.Helper()
		v.shows("a place for a query", fmt.Sprintf("(() => { const x = document.querySelector('#sql'); if (!x) return false; x.value = %q; x.dispatchEvent(new Event('input', {bubbles: true})); x.focus(); return true })()", sql))
		v.Do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter)) // to the button, by keyboard
	}
	answer := v.text("[aria-label='Rows of the answer']")
	write("SELECT customer ->> '$.name' AS who, count(*) AS n, NULL AS blank FROM orders GROUP BY 1 ORDER BY 1")
	v.shows("the answer", answer+".includes('c6') && "+answer+".includes('null') && "+v.text(".result")+".includes('7 rows')")
	v.looks("lake-asked")
	write("SELECT * FROM orders ORDER BY \"order\"")
	v.shows("all rows", v.text(".result")+".includes('30 rows')")
	v.looks("lake-rows")
	write("SELECT custommer FROM orders")
	v.shows("what is wrong", v.text("[role=alert]")+".includes('there is no column custommer; did you mean customer?')")
	write("DROP TABLE orders")
	v.shows("that it is only read", v.text("[role=alert]")+".includes('datasets are only read')")
	v.looks("lake-wrong")
	write("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n")
	v.shows("no more than it says", v.text(".result")+".includes('1,000 rows, and there are more')")
	v.quiet()
	p.interrupt()
}
