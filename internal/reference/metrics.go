package reference

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/weirdata/weir/internal/meter"
)

// metricsFile is the page of all metrics.
const metricsFile = pagesDir + "/metrics.md"

// metricsPage is the page of all metrics.
func metricsPage() []byte {
	var b bytes.Buffer
	b.WriteString(mark + "\n" + `
# Metrics

What the [admin server](config.md) shows at /metrics in the Prometheus text format, and what ` + "`metrics.otlp`" + ` exports to an
OpenTelemetry collector under the same names. Names, types and labels last. What begins with ` + "`go_`" + ` and ` + "`process_`" + ` is
the Prometheus client's: memory, goroutines, processor time, open files.

Metrics with the label ` + "`store`" + ` whose names begin with ` + "`weir_cluster_`" + ` are totals of the store. All processes that share a
PostgreSQL store show the same numbers, so they are put together by ` + "`max by (store, ...)`" + `, and only then summed. All others are
of one process. Labels with names from outside (destinations, sources, reasons) have at most 1000 values for a pipeline or
queue; the rest is counted under ` + "`other`" + `. [What to alert on, and what to do then](../monitoring/README.md).

| metric | type | unit | labels | |
| --- | --- | --- | --- | --- |
`)
	for _, d := range meter.Definitions() {
		labels := make([]string, len(d.Labels))
		for i, l := range d.Labels {
			labels[i] = "`" + l + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", d.Name, d.Type, d.Unit(), strings.Join(labels, ", "), strings.ReplaceAll(d.Help, "|", `\|`))
	}
	return b.Bytes()
}
