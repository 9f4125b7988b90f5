package report_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// reign is who is told, by a name for each receiver; none where it is empty.
type reign struct {
	statsd, metadata, webhook, sentry string
	every                             int
}

func drawReign(draw *rand.Rand) reign {
	one := func() string { return []string{"", "a", "b", "c"}[draw.IntN(4)] }
	return reign{one(), one(), one(), one(), 1 + draw.IntN(20)}
}

func (g reign) hcl() string {
	var b strings.Builder
	fmt.Fprintf(&b, "stats_receiver {\n  buffer_sec = %d\n", g.every)
	if g.statsd != "" {
		fmt.Fprintf(&b, "  use \"statsd\" {\n    address = \"%[1]s.example:8125\"\n    prefix = %[1]q\n  }\n", g.statsd)
	}
	b.WriteString("}\nmonitoring {\n")
	if g.metadata != "" {
		fmt.Fprintf(&b, "  metadata_reporter {\n    endpoint = \"https://%s.example/meta\"\n  }\n", g.metadata)
	}
	if g.webhook != "" {
		fmt.Fprintf(&b, "  webhook {\n    endpoint = \"https://%s.example/hook\"\n  }\n", g.webhook)
	}
	b.WriteString("}\n")
	if g.sentry != "" {
		fmt.Fprintf(&b, "sentry {\n  dsn = \"https://key@%s.example/1\"\n}\n", g.sentry)
	}
	return b.String()
}

// TestRenewals: however reports are renewed while pipelines work and are replaced, each receiver is
// told of all that happened while it was the one, of nothing else, and of nothing twice.
func TestRenewals(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			draw := rand.New(rand.NewPCG(seed, 7))
			now := drawReign(draw)
			r := start(t, now.hcl(), "default")
			log := slog.New(r.Handler(slog.DiscardHandler)).With("since", "the start")
			p := r.current()[0]
			want, got := map[string]int64{}, map[string]int64{}
			for range 40 {
				n := int64(draw.IntN(100))
				p.Target.Written.Add(n)
				if now.statsd != "" {
					want["statsd "+now.statsd] += n
				}
				if now.metadata != "" {
					want["metadata "+now.metadata] += n
				}
				if draw.IntN(3) == 0 {
					if now.sentry != "" {
						want["sentry "+now.sentry]++
					}
					log.Error("something is wrong")
				}
				switch draw.IntN(3) {
				case 0:
					pass(time.Duration(draw.Int64N(int64(30 * time.Second))))
				case 1:
					p = r.add("default") // as a reload does: the old one is still draining
					old := r.current()[0]
					r.replace(p)
					old.Target.Written.Add(3)
					for kind, name := range map[string]string{"statsd": now.statsd, "metadata": now.metadata} {
						if name != "" {
							want[kind+" "+name] += 3
						}
					}
				case 2:
					if draw.IntN(4) > 0 {
						now = drawReign(draw)
					}
					r.Renew(process(t, now.hcl()))
					synctest.Wait()
				}
			}
			r.stop()
			for _, sent := range r.udp.taken() {
				for line := range strings.SplitSeq(sent, "\n") {
					prefix, rest, _ := strings.Cut(line, ".")
					if count, is := strings.CutPrefix(rest, "target_success:"); is {
						count, _, _ = strings.Cut(count, "|")
						n, err := strconv.ParseInt(count, 10, 64)
						if err != nil {
							t.Fatal(err)
						}
						got["statsd "+prefix] += n
					}
				}
			}
			for _, c := range r.http.taken() {
				name := strings.TrimPrefix(c.url, "https://")[:1]
				switch {
				case strings.HasSuffix(c.url, "/meta"):
					var body struct {
						Data struct {
							Success int64 `json:"successCount"`
						} `json:"data"`
					}
					if err := json.Unmarshal([]byte(c.body), &body); err != nil {
						t.Fatal(err)
					}
					got["metadata "+name] += body.Data.Success
				case strings.HasSuffix(c.url, "/envelope/"):
					got["sentry "+name]++
				}
			}
			maps.DeleteFunc(want, func(_ string, n int64) bool { return n == 0 })
			maps.DeleteFunc(got, func(_ string, n int64) bool { return n == 0 })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("seed %d: what each was told (-want +got):\n%s", seed, diff)
			}
		})
	}
}

// TestRenewedWebhook: what asks for somebody is told to a new webhook at once, also when there was
// none before; the death of a pipeline is told once; who stays the same is not told again.
func TestRenewedWebhook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, "", "default")
		p := r.current()[0]
		setup(p, &p.Target, "401")
		hook := func(name string) {
			r.Renew(process(t, strings.Replace(webhookBlock, "user:pass@example.com", name+".example", 1)))
			synctest.Wait()
		}
		told := func() (all []string) {
			for _, c := range r.http.taken() {
				kind := "heartbeat"
				if _, message, ok := strings.Cut(compact(t, c.body), `"message":`); ok {
					kind = strings.TrimSuffix(message, "}}")
				}
				all = append(all, c.url[len("https://"):][:1]+" "+kind)
			}
			return all
		}
		expect := func(what string, want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, told()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		expect("without a webhook")
		hook("a")
		expect("the first", "a heartbeat", `a "401"`)
		hook("a")
		expect("the same again")
		p.Watch.Died(p.Name, errors.New("gone"))
		hook("b")
		expect("another", `a "stopped: gone"`, "b heartbeat", `b "401"`)
		next := r.add("default")
		r.replace(next)
		hook("c")
		expect("what asked was replaced", "c heartbeat")
		r.Renew(process(t, ""))
		setup(next, &next.Target, "403")
		pass(time.Hour)
		expect("none")
		hook("d")
		next.Watch.Healthy(next.Name, &next.Target)
		hook("e")
		expect("it works again", "d heartbeat", `d "403"`, "e heartbeat")
		r.stop()
		r.Renew(process(t, "")) // nobody is there any more
		expect("the end")
	})
}

// TestRenewBesideAReceiverThatHangs: what an old receiver cannot be told holds up nobody, and ends.
func TestRenewBesideAReceiverThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, "sentry {\n dsn = \"https://key@a.example/1\"\n}\n"+webhookBlock, "default")
		log := slog.New(r.Handler(slog.DiscardHandler))
		r.http.answers(hang)
		log.Error("x")
		pass(time.Millisecond)
		began := time.Now()
		r.Renew(process(t, ""))
		if took := time.Since(began); took > 0 {
			t.Errorf("the renewal took %s", took)
		}
		log.Error("y")
		pass(time.Minute)
		if n := r.Dropped().Sentry.Load(); n != 1 {
			t.Errorf("%d events were dropped", n)
		}
		r.stop()
	})
}
