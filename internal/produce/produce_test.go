package produce_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/produce"
)

var start = time.Date(2024, 4, 7, 18, 0, 0, 0, time.UTC)

func made(t *testing.T, o produce.Options) string {
	t.Helper()
	var b bytes.Buffer
	if err := produce.Run(t.Context(), &b, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestEvents(t *testing.T) {
	t.Parallel()
	out := made(t, produce.Options{Count: 5000, Seed: 7, Start: start})
	ids, names, size := map[string]bool{}, map[string]int{}, 0
	for line := range strings.Lines(out) {
		var e struct {
			UUID      string  `json:"event_uuid"`
			Name      string  `json:"event_name"`
			CreatedAt int64   `json:"created_at"`
			Amount    float64 `json:"amount"`
			Payload   struct {
				Session string `json:"session_id"`
			} `json:"payload"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if len(e.UUID) != 36 || e.UUID[14] != '4' || e.CreatedAt < start.Unix() || e.CreatedAt > start.Unix()+5 || e.Payload.Session == "" ||
			(e.Amount > 0) != (e.Name == "payment:completed" || e.Name == "payment:failed") {
			t.Fatalf("unexpected event: %s", line)
		}
		ids[e.UUID] = true
		names[e.Name]++
		size += len(line)
	}
	if len(ids) != 5000 || len(names) < 90 || names["lesson:started"] < 500 {
		t.Errorf("%d ids, %d names, %d lesson:started", len(ids), len(names), names["lesson:started"])
	}
	if mean := size / 5000; mean < 240 || mean > 320 {
		t.Errorf("an event has %d bytes, want about 288", mean)
	}
}

func TestSeedDecides(t *testing.T) {
	t.Parallel()
	o := produce.Options{Count: 100, Seed: 1, Start: start}
	a, b := made(t, o), made(t, o)
	o.Seed = 2
	if c := made(t, o); a != b || a == c {
		t.Error("equal seeds differ, or different ones do not")
	}
}

// TestRate makes events for ten seconds of virtual time.
func TestRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var b bytes.Buffer
		var told []produce.Progress
		if err := produce.Run(ctx, &b, produce.Options{Rate: 300, Progress: func(p produce.Progress) { told = append(told, p) }}); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(b.String(), "\n"); n < 2990 || n > 3010 {
			t.Errorf("%d events in ten seconds at 300 a second", n)
		}
		last := told[len(told)-1]
		if len(told) < 30 || len(told) > 45 || !last.Done || last.Bytes != int64(b.Len()) || last.Rate() < 290 || last.Rate() > 310 {
			t.Errorf("%d calls, the last %+v", len(told), last)
		}
	})
}

func TestProgressLine(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		p    produce.Progress
		want string
	}{
		{produce.Progress{Events: 500, Bytes: 144000, Count: 2000, Elapsed: 5 * time.Second}, "500 of 2000 (25%) events, 0.1 MB, 100 a second, 15s left"},
		{produce.Progress{Events: 3, Bytes: 864}, "3 events, 0.0 MB, 0 a second"},
	} {
		if got := row.p.Line(); got != row.want {
			t.Errorf("%q, want %q", got, row.want)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, o := range []produce.Options{{Rate: -1}, {Count: -1}} {
		if err := produce.Run(t.Context(), io.Discard, o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	r, w := io.Pipe()
	r.Close()
	if err := produce.Run(t.Context(), w, produce.Options{Count: 10}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v", err)
	}
}
