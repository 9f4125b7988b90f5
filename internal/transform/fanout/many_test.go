package fanout

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/workspace"
)

// BenchmarkFanoutOfMany is the copy of an event to ten destinations, its source being one of so many:
// what a state of 10,000 destinations costs each event beside one of ten.
func BenchmarkFanoutOfMany(b *testing.B) {
	for _, sources := range []int{1, 1000} {
		b.Run(fmt.Sprintf("destinations=%d", 10*sources), func(b *testing.B) {
			var text strings.Builder
			text.WriteString(`{"sources":[`)
			for i := range sources {
				if i > 0 {
					text.WriteString(",")
				}
				fmt.Fprintf(&text, `{"id":"src-%d","writeKey":"key-%d","enabled":true,"workspaceId":"ws-%d","destinations":[`, i, i, i)
				for j := range 10 {
					if j > 0 {
						text.WriteString(",")
					}
					fmt.Fprintf(&text, `{"id":"dst-%d-%d","enabled":true,"isProcessorEnabled":true,"destinationDefinition":{"name":"WEBHOOK","displayName":"Webhook"}}`, i, j)
				}
				text.WriteString("]}")
			}
			text.WriteString("]}")
			w, err := workspace.Parse("many", []byte(text.String()), time.Now())
			if err != nil {
				b.Fatal(err)
			}
			s := &workspace.State{}
			s.Set(w)
			worker, err := (&Transform{file: s}).Worker()
			if err != nil {
				b.Fatal(err)
			}
			m := event.New([]byte(`{"type":"track","userId":"user-1","event":"Order","properties":{"price":12.5}}`))
			out := make(event.Batch, 0, 16)
			for i := 0; b.Loop(); i++ {
				m.Meta.Scope = w.Sources[i*7919%sources].Scope
				got, err := worker.Apply(context.Background(), out, m)
				if err != nil || len(got) != 10 {
					b.Fatal(err, len(got))
				}
			}
		})
	}
}
