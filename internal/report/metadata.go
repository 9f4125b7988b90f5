package report

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/weirdata/weir/internal/httpclient"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/secret"
)

const metadataSchema = "iglu:com.snowplowanalytics.snowplow/event_forwarding_metrics/jsonschema/1-0-0"

// metadataWindows is how many windows wait to be sent.
const metadataWindows = 2

// metadata reports, for each pipeline and window, how many messages were delivered,
// filtered, failed and invalid, and for which reasons.
//
// A pipeline with a name of its own is told from the others by the tag "pipeline", or
// "pipeline_name" where the config has a tag "pipeline" already.
type metadata struct {
	client   *httpclient.Client
	endpoint string
	app      app
	dropped  *meter.Reports
	trouble  trouble
	queue    chan []metadataBody
	full     trouble
}

type metadataBody struct {
	Name          string            `json:"appName"`
	Version       string            `json:"appVersion"`
	PeriodStart   string            `json:"periodStart"`
	PeriodEnd     string            `json:"periodEnd"`
	Success       int64             `json:"successCount"`
	Filtered      int64             `json:"filteredCount"`
	Failed        int64             `json:"failedCount"`
	Invalid       int64             `json:"invalidCount"`
	InvalidErrors []reason          `json:"invalidErrors"`
	FailedErrors  []reason          `json:"failedErrors"`
	Tags          map[string]string `json:"tags"`
}

type reason struct {
	Code        string `json:"code"`
	Description string `json:"description"`
	Count       int64  `json:"count"`
}

func newMetadata(o Options, dropped *meter.Reports) *metadata {
	c := o.Settings.Metadata
	at := secret.URL(c.Endpoint)
	return &metadata{
		client: httpclient.New(httpclient.Options{Transport: o.Transport}), endpoint: c.Endpoint, dropped: dropped,
		app:     app{o.AppName, o.Version, tagsOf(c.Tags)},
		trouble: trouble{log: o.Log, what: "metadata reports are not sent", at: at},
		queue:   make(chan []metadataBody, metadataWindows),
		full:    trouble{log: o.Log, what: "metadata reports are dropped: earlier ones are still being sent", at: at},
	}
}

// body is what one window says of a pipeline.
func (m *metadata) body(p *part, from, to time.Time) metadataBody {
	b := metadataBody{
		Name: m.app.Name, Version: m.app.Version, PeriodStart: instant(from), PeriodEnd: instant(to),
		Success: p.counts.sent, Filtered: p.counts.filtered, Failed: p.counts.failed, Invalid: p.counts.invalid,
		InvalidErrors: reasons(p.window.Invalid), FailedErrors: reasons(p.window.Failed), Tags: m.app.Tags,
	}
	if named(p.name) {
		tag := "pipeline"
		if _, taken := b.Tags[tag]; taken {
			tag = "pipeline_name"
		}
		b.Tags = maps.Clone(b.Tags)
		b.Tags[tag] = p.name
	}
	return b
}

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// reasons lists counts, the largest first.
func reasons(counts map[meter.Reason]int64) []reason {
	list := make([]reason, 0, len(counts))
	for r, n := range counts {
		list = append(list, reason{secret.Text(r.Code), secret.Text(r.Description), n})
	}
	slices.SortFunc(list, func(a, b reason) int {
		return cmp.Or(-cmp.Compare(a.Count, b.Count), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Description, b.Description))
	})
	return list
}

// offer puts the reports of one window into the queue, or drops them.
func (m *metadata) offer(parts []*part, from, to time.Time) {
	bodies := make([]metadataBody, len(parts))
	for i, p := range parts {
		bodies[i] = m.body(p, from, to)
	}
	select {
	case m.queue <- bodies:
		m.full.over()
	default:
		m.dropped.Metadata.Add(int64(len(bodies)))
		m.full.met(errFull)
	}
}

// run sends until the queue is closed and empty.
func (m *metadata) run(sending context.Context) {
	for bodies := range m.queue {
		for _, b := range bodies {
			if err := post(sending, m.client, m.endpoint, selfDescribing{metadataSchema, b}); err != nil {
				m.dropped.Metadata.Add(1)
				m.trouble.met(err)
				continue
			}
			m.trouble.over()
		}
	}
}
