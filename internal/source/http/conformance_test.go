package httpsource

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
)

func TestConformance(t *testing.T) { // not parallel: it looks for goroutines
	conntest.Source(t, conntest.SourceCase{
		Setup: func(t *testing.T, payloads [][]byte) func() connector.Source {
			return func() connector.Source {
				c := defaults()
				c.URL = "127.0.0.1:0"
				s, err := New(t.Context(), connector.Deps{}, c)
				if err != nil {
					t.Fatal(err)
				}
				return &fed{Source: s, payloads: payloads}
			}
		},
		Features: conntest.SourceFeatures{Acknowledges: true, Requests: true},
	})
}

// fed is a source to which clients send payloads whenever it is opened.
type fed struct {
	*Source
	payloads [][]byte
	clients  sync.WaitGroup
	stop     context.CancelFunc
}

func (f *fed) Open(ctx context.Context) error {
	if err := f.Source.Open(ctx); err != nil {
		return err
	}
	var sending context.Context
	sending, f.stop = context.WithCancel(context.Background())
	transport := &http.Transport{DisableKeepAlives: true}
	for start := 0; start < len(f.payloads); start += f.c.RequestBatchLimit {
		body := bytes.Join(f.payloads[start:min(start+f.c.RequestBatchLimit, len(f.payloads))], []byte("\n"))
		f.clients.Go(func() {
			r, err := http.NewRequestWithContext(sending, http.MethodPost, "http://"+f.Addr().String()+"/", bytes.NewReader(body))
			if err != nil {
				return
			}
			if resp, err := transport.RoundTrip(r); err == nil {
				_ = resp.Body.Close()
			}
		})
	}
	return nil
}

func (f *fed) Close(ctx context.Context) error {
	if f.stop != nil {
		f.stop()
	}
	err := f.Source.Close(ctx)
	f.clients.Wait()
	return err
}
