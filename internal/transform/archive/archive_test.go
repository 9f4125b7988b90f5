package archive

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

func compile(t testing.TB) connector.Transform {
	t.Helper()
	path := filepath.Join(t.TempDir(), "workspaceConfig.json")
	if err := os.WriteFile(path, []byte(`{"sources":[{"id":"s","writeKey":"k","enabled":true},{"id":"secret","writeKey":"k2","enabled":true,"transient":true}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	tr, err := Entry.Build(context.Background(), connector.Deps{}, func(into any) error {
		into.(*Config).WorkspaceConfig = path
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestExamples(t *testing.T) { conntest.Examples(t, conntest.One(Entry), "../../..") }

func TestConformance(t *testing.T) {
	tr := compile(t)
	conntest.Transform(t, conntest.TransformCase{
		New:    func(*testing.T) connector.Transform { return scoped{tr} },
		Inputs: [][]byte{[]byte(`{"type":"track","userId":"u"}`), []byte(`{}`)},
	})
}

// scoped gives messages the source that the suite knows nothing of.
type scoped struct{ connector.Transform }

func (s scoped) Worker() (connector.Worker, error) {
	w, err := s.Transform.Worker()
	return scopedWorker{w}, err
}

type scopedWorker struct{ connector.Worker }

func (s scopedWorker) Apply(ctx context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
	m.Meta.Scope = &event.Scope{Source: "s"}
	return s.Worker.Apply(ctx, out, m)
}

func TestLines(t *testing.T) {
	t.Parallel()
	w := conntest.Worker(t, compile(t))
	for _, row := range []struct{ source, in, want, dropped string }{
		{"s", `{"messageId":"m\u0031","n":12345678901234567890}`, `{"userId":"us\"er","payload":{"messageId":"m\u0031","n":12345678901234567890},"createdAt":"2026-11-29T12:00:00.5Z","messageId":"m\u0031"}`, ""},
		{"s", "{\n \"messageId\": 7 }", `{"userId":"us\"er","payload":{"messageId":7},"createdAt":"2026-11-29T12:00:00.5Z","messageId":""}`, ""},
		{"secret", `{}`, "", transient}, {"other", `{}`, "", ""}, {"s", `[1]`, "", ""}, {"", `{}`, "", ""},
	} {
		m := event.New([]byte(row.in))
		m.Key, m.Meta.Scope, m.Times.Created = `us"er`, &event.Scope{Source: row.source}, time.Date(2026, 11, 29, 12, 0, 0, 5e8, time.UTC)
		out, err := w.Apply(t.Context(), nil, m)
		switch {
		case row.want != "":
			if err != nil || len(out) != 1 || string(out[0].Data) != row.want || !json.Valid(out[0].Data) || strings.Contains(string(out[0].Data), "\n") {
				t.Errorf("%s: %s, %v", row.in, m.Data, err)
			}
		case row.dropped != "":
			if err != nil || len(out) != 0 || m.Dropped() != row.dropped {
				t.Errorf("%s: %v, %q, %v", row.source, out, m.Dropped(), err)
			}
		case fault.Of(err) != fault.Invalid || err == nil:
			t.Errorf("%q %s: %v", row.source, row.in, err)
		}
	}
}
