package generatesource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// build makes a source as the config does.
func build(t testing.TB, change func(*Config)) *Source {
	t.Helper()
	src, err := Entry.Build(t.Context(), connector.Deps{}, func(into any) error {
		c := into.(*Config)
		c.Kind = "events"
		change(c)
		if ps := c.Validate(); len(ps) > 0 {
			return fmt.Errorf("refused: %v", ps)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return src.(*Source)
}

func opened(t testing.TB, change func(*Config)) *Source {
	t.Helper()
	s := build(t, change)
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func closes(t testing.TB, s *Source) {
	t.Helper()
	for range 2 {
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// read calls Read until the end and returns everything, and the acks.
func read(t testing.TB, s *Source) (b event.Batch, acks []connector.Ack) {
	t.Helper()
	for {
		got, ack, err := s.Read(t.Context(), connector.Room{})
		b, acks = append(b, got...), append(acks, ack)
		if err == io.EOF {
			return b, acks[:len(acks)-1]
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func payloads(b event.Batch) []string {
	var out []string
	for _, m := range b {
		out = append(out, string(m.Data))
	}
	return out
}

// idOf finds the id of a message in its payload.
var idOf = regexp.MustCompile(`(?:"(?:event_uuid|messageId|id)":"|[?&]r=)([0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})`)

// TestKinds: every kind is well formed, and no id occurs twice, over all kinds and two seeds.
func TestKinds(t *testing.T) {
	t.Parallel()
	line := regexp.MustCompile(`^(\S+) \S+ (\S+) \[([^\]]+)\] "([A-Z]+) (\S+) HTTP/1\.1" (\d{3}) (\d+) "([^"]*)" "([^"]*)"$`)
	ids, names := map[string]string{}, map[string]string{}
	for _, kind := range kinds() {
		for _, seed := range []int{1, -2} {
			s := opened(t, func(c *Config) {
				c.Kind, c.Seed, c.Rate, c.Count, c.Start = kind, seed, 0, 5000, "2026-11-20T09:00:00Z"
			})
			b, _ := read(t, s)
			if len(b) != 5000 {
				t.Fatalf("%s: %d messages", kind, len(b))
			}
			for i, m := range b {
				found := idOf.FindStringSubmatch(string(m.Data))
				if found == nil {
					t.Fatalf("%s: no id in %s", kind, m.Data)
				}
				where := fmt.Sprintf("%s/%d/%d", kind, seed, i)
				if before, twice := ids[found[1]]; twice {
					t.Errorf("%s and %s have the id %s", where, before, found[1])
				}
				ids[found[1]] = where
				if m.Meta.ID != where || names[m.Meta.ID] != "" {
					t.Errorf("message %s is called %q", where, m.Meta.ID)
				}
				names[m.Meta.ID] = where
				if kind == "access_log" {
					if !line.Match(m.Data) {
						t.Errorf("not a log line: %s", m.Data)
					}
				} else if !json.Valid(m.Data) {
					t.Errorf("not JSON: %s", m.Data)
				}
			}
			closes(t, s)
		}
	}
}

// TestShares: the kinds hold what their words say.
func TestShares(t *testing.T) {
	t.Parallel()
	s := opened(t, func(c *Config) { c.Kind, c.Rate, c.Count = "orders", 0, 4000 })
	b, _ := read(t, s)
	countries := map[string]int{}
	for _, m := range b {
		var o struct {
			Country string  `json:"country_code"`
			Amount  float64 `json:"amount"`
		}
		if err := json.Unmarshal(m.Data, &o); err != nil || o.Amount < 1 {
			t.Fatalf("%v: %s", err, m.Data)
		}
		countries[o.Country]++
	}
	if fr, panics := countries["FR"], countries["PANIC"]; fr < 120 || fr > 280 || panics < 120 || panics > 280 || countries["GB"] != 4000-fr-panics {
		t.Errorf("countries %v, want about 200 of 4000 FR, as many PANIC, and else GB", countries)
	}
	s = opened(t, func(c *Config) { c.Rate, c.Count = 0, 4000 })
	b, _ = read(t, s)
	types := map[string]int{}
	for _, m := range b {
		var e struct{ Type string }
		if err := json.Unmarshal(m.Data, &e); err != nil {
			t.Fatal(err)
		}
		types[e.Type]++
	}
	if types["track"] < 2600 || types["page"] < 600 || types["identify"] < 250 || len(types) != 3 {
		t.Errorf("types %v", types)
	}
}

// TestSeedDecides: message i is the same however the messages before it were read.
func TestSeedDecides(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom(kinds()).Draw(t, "kind")
		seed := rapid.Uint64().Draw(t, "seed")
		i := rapid.Int64Range(0, 5000).Draw(t, "message")
		a, b := makers[kind](seed), makers[kind](seed)
		for j := max(0, i-rapid.Int64Range(0, 30).Draw(t, "before")); j < i; j++ {
			a(nil, j, at)
		}
		x, y := string(a(nil, i, at)), string(b([]byte("x"), i, at)[1:])
		if x != y {
			t.Fatalf("%s\n%s", x, y)
		}
		if z := string(makers[kind](seed+1)(nil, i, at)); x == z {
			t.Fatal("another seed makes the same")
		}
	})
}

// TestRate: so many in a second, no burst after a pause, and a slow rate.
func TestRate(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		rate                float64
		pause               time.Duration // after which reading goes on for ten seconds
		least, most, atOnce int
	}{
		{rate: 300, least: 2980, most: 3010, atOnce: 20},
		{rate: 300, pause: time.Minute, least: 3265, most: 3330, atOnce: 300},
		{rate: 0.5, least: 5, most: 6, atOnce: 1},
		{rate: 0.5, pause: time.Hour, least: 5, most: 7, atOnce: 1},
	} {
		t.Run(fmt.Sprint(row.rate, row.pause), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := opened(t, func(c *Config) { c.Rate = row.rate })
				total := 0
				if row.pause > 0 {
					b, _, err := s.Read(t.Context(), connector.Room{})
					if err != nil || len(b) != 1 {
						t.Fatalf("first read: %d, %v", len(b), err)
					}
					time.Sleep(row.pause)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				for {
					b, _, err := s.Read(ctx, connector.Room{})
					if err != nil {
						if !errors.Is(err, context.DeadlineExceeded) {
							t.Error(err)
						}
						break
					}
					if len(b) > row.atOnce {
						t.Errorf("%d messages at once", len(b))
					}
					total += len(b)
				}
				if total < row.least || total > row.most {
					t.Errorf("%d messages in ten seconds at %v a second", total, row.rate)
				}
				closes(t, s)
			})
		})
	}
}

// TestTimes: with a start, times follow at the rate; without, they are when they are made.
func TestTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := opened(t, func(c *Config) { c.Rate, c.Count, c.Start = 2, 5, "2026-11-20T09:00:00+01:00" })
		b, _ := read(t, s)
		for i, m := range b {
			want := fmt.Sprintf(`"originalTimestamp":"2026-11-20T08:00:%02d.%d00Z"`, i/2, i%2*5)
			if !strings.Contains(string(m.Data), want) {
				t.Errorf("message %d lacks %s: %s", i, want, m.Data)
			}
		}
		s = opened(t, func(c *Config) { c.Count = 1 })
		b, _ = read(t, s)
		if now := time.Now().UTC().Format(timeLayout); !strings.Contains(string(b[0].Data), now) {
			t.Errorf("%s is not of %s", b[0].Data, now)
		}
	})
}

// TestPositions: after a restart everything that was not acknowledged is made again, the
// same, and nothing before the first gap.
func TestPositions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		kind := rapid.SampledFrom(kinds()).Draw(rt, "kind")
		path := filepath.Join(dir, "made", "here", kind)
		_ = os.Remove(path)
		change := func(c *Config) {
			c.Kind, c.Rate, c.Count, c.MaxBatchMessages, c.PositionFile, c.Start = kind, 0, 57, 10, path, "2026-11-20T09:00:00Z"
		}
		first := opened(t, change)
		all, acks := read(t, first)
		if len(all) != 57 || len(acks) != 6 {
			rt.Fatalf("%d messages in %d reads", len(all), len(acks))
		}
		settled := 0
		state := make([]int, len(acks)) // 0 never, 1 failed, 2 handled
		for _, k := range rapid.Permutation([]int{0, 1, 2, 3, 4, 5}).Draw(rt, "order") {
			state[k] = rapid.SampledFrom([]int{0, 1, 2, 2, 2}).Draw(rt, "outcome")
			var err error
			switch state[k] {
			case 1:
				err = acks[k](t.Context(), event.Outcomes{event.ErrUnsettled})
			case 2:
				err = acks[k](t.Context(), nil)
			}
			if err != nil {
				rt.Fatal(err)
			}
		}
		for settled < len(state) && state[settled] == 2 {
			settled++
		}
		if rapid.Bool().Draw(rt, "closed") {
			closes(t, first)
		}
		again := opened(t, change)
		rest, _ := read(t, again)
		if want := payloads(all[min(10*settled, 57):]); !slices.Equal(payloads(rest), want) {
			rt.Fatalf("outcomes %v: %d messages come again, want %d", state, len(rest), len(want))
		}
		closes(t, again)
	})
}

// TestAckAfterClose commits nothing, and says so.
func TestAckAfterClose(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "position")
	s := opened(t, func(c *Config) { c.Rate, c.Count, c.PositionFile = 0, 5, path })
	_, acks := read(t, s)
	closes(t, s)
	if err := acks[0](t.Context(), nil); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("ack after Close: %v", err)
	}
	if text, _ := os.ReadFile(path); !strings.Contains(string(text), `"next":0`) {
		t.Errorf("position file %s", text)
	}
	closes(t, build(t, func(c *Config) { c.PositionFile = path })) // without Open
}

func TestReadStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := opened(t, func(c *Config) { c.Rate = 0.001 })
		if _, _, err := s.Read(t.Context(), connector.Room{}); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { stop(errors.New("enough")) })
		begin := time.Now()
		if b, _, err := s.Read(ctx, connector.Room{}); err == nil || err.Error() != "enough" || len(b) > 0 || time.Since(begin) != time.Second {
			t.Errorf("%d messages and %v after %s", len(b), err, time.Since(begin))
		}
	})
}

// TestOpenAgain: after Close and Open everything that was not acknowledged is made again,
// with positions in a file and without, whatever an ack from before does.
func TestOpenAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		path := ""
		if rapid.Bool().Draw(rt, "position file") {
			path = filepath.Join(dir, "position")
			_ = os.Remove(path)
		}
		s := build(t, func(c *Config) {
			c.Rate, c.Count, c.MaxBatchMessages, c.PositionFile, c.Start = 0, 57, 10, path, "2026-11-20T09:00:00Z"
		})
		var all []string
		settled := 0
		var late []connector.Ack
		for range rapid.IntRange(2, 5).Draw(rt, "openings") {
			if err := s.Open(t.Context()); err != nil {
				rt.Fatal(err)
			}
			var made []string
			var acks []connector.Ack
			var ends []int
			for {
				b, ack, err := s.Read(t.Context(), connector.Room{Messages: rapid.IntRange(1, 12).Draw(rt, "room")})
				if err != nil {
					break
				}
				made, acks, ends = append(made, payloads(b)...), append(acks, ack), append(ends, settled+len(made)+len(b))
			}
			if all == nil {
				all = made
			}
			if !slices.Equal(made, all[settled:]) {
				rt.Fatalf("%d messages are made again, want the %d that are not settled", len(made), len(all)-settled)
			}
			for _, ack := range late {
				_ = ack(t.Context(), nil)
			}
			n := rapid.IntRange(0, len(acks)).Draw(rt, "settled reads")
			for i, ack := range acks[:n] {
				if err := ack(t.Context(), nil); err != nil {
					rt.Fatal(err)
				}
				settled = ends[i]
			}
			late = acks[n:]
			closes(t, s)
		}
	})
}

// TestForeignPositions are refused, each with the way out.
func TestForeignPositions(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "[]", `{"version":1,"kind":"orders","seed":1,"next":3}`, `{"version":1,"kind":"events","seed":2,"next":3}`,
		`{"version":2,"kind":"events","seed":1,"next":3}`, `{"version":1,"kind":"events","seed":1,"next":-3}`} {
		path := filepath.Join(t.TempDir(), "position")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := build(t, func(c *Config) { c.PositionFile = path }).Open(t.Context())
		if fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "delete the file") {
			t.Errorf("%s: %v", text, err)
		}
		if now, _ := os.ReadFile(path); string(now) != text {
			t.Errorf("%s became %s", text, now)
		}
	}
	err := build(t, func(c *Config) { c.PositionFile = "/dev/null/position" }).Open(t.Context())
	if fault.Of(err) != fault.Setup {
		t.Errorf("a place that cannot be: %v", err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for field, change := range map[string]func(*Config){
		"kind":               func(c *Config) { c.Kind = "lesson" },
		"rate":               func(c *Config) { c.Rate = -1 },
		"count":              func(c *Config) { c.Count = -1 },
		"start":              func(c *Config) { c.Start = "yesterday" },
		"max_batch_messages": func(c *Config) { c.MaxBatchMessages = 0 },
	} {
		c := *Entry.Default().(*Config)
		c.Kind = "lessons"
		if ps := c.Validate(); len(ps) > 0 {
			t.Errorf("the defaults are refused: %v", ps)
		}
		change(&c)
		if ps := c.Validate(); len(ps) != 1 || ps[0].Field != field || ps[0].Fix == "" {
			t.Errorf("%s: %v", field, ps)
		}
	}
	if got := slices.Collect(maps.Keys(makers)); len(got) != len(kinds()) || len(got) < 4 {
		t.Errorf("kinds %v", got)
	}
}

func BenchmarkRead(b *testing.B) {
	for _, kind := range kinds() {
		b.Run("kind="+kind, func(b *testing.B) {
			b.ReportAllocs()
			s := opened(b, func(c *Config) { c.Kind, c.Rate = kind, 0 })
			for b.Loop() {
				if _, _, err := s.Read(b.Context(), connector.Room{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*1000), "ns/message")
		})
	}
}
