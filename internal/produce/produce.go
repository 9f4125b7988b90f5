// Package produce makes lesson events, the sample data of `weir produce`: what a language
// school's app would send. Event i of a seed is always the same, apart from its time:
//
//	{"event_uuid":"6a09e667-f3bc-4908-8b2f-0d1a5c3e7b42","event_name":"lesson:started",
//	 "created_at":1712513462,"user_id":48213,"lesson_id":1207,"language":"de","score":null,
//	 "payload":{"session_id":"c1f7...","client":"ios","title":"Lesson 7: greetings"}}
//
// There are about a hundred names of events, a few of them common and most rare. A score is
// there for finished lessons, an amount and a currency for payments. created_at is in
// seconds since 1970.
package produce

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"time"
)

// Options say which events are made, and how fast.
type Options struct {
	// Count is how many events are made; 0 means until the context ends.
	Count int64
	// Rate is how many events are made in a second; 0 means as many as the writer takes.
	Rate float64
	// Seed decides what is in the events.
	Seed uint64
	// Start is the time of the first event; zero means that each event has the time at which
	// it is made. Later events follow at the rate, or one a millisecond without one.
	Start time.Time
	// Progress, if set, is called about four times a second, and at the end.
	Progress func(Progress)
}

// Progress is how far a run is.
type Progress struct {
	Events, Bytes int64
	Count         int64 // of Options
	Elapsed       time.Duration
	Done          bool
}

// Rate is the events made in a second so far.
func (p Progress) Rate() float64 {
	if p.Elapsed <= 0 {
		return 0
	}
	return float64(p.Events) / p.Elapsed.Seconds()
}

// Line is p as a line for a terminal, without its end.
func (p Progress) Line() string {
	s := strconv.FormatInt(p.Events, 10)
	if p.Count > 0 {
		s += fmt.Sprintf(" of %d (%d%%)", p.Count, p.Events*100/p.Count)
	}
	s += fmt.Sprintf(" events, %.1f MB, %.0f a second", float64(p.Bytes)/1e6, p.Rate())
	if left := p.Count - p.Events; left > 0 && p.Rate() > 0 {
		s += ", " + time.Duration(float64(left)/p.Rate()*float64(time.Second)).Round(time.Second).String() + " left"
	}
	return s
}

// tick is how often events are made when there is a rate, and how often progress is looked at.
const tick = 20 * time.Millisecond

// between is how far apart two calls of Progress are.
const between = 250 * time.Millisecond

// Run writes events to w, one a line, until it has made them all, or ctx ends: then it
// returns nil too, since stopping is how a run without a count ends. Every event that was
// made is written out by then.
func Run(ctx context.Context, w io.Writer, o Options) error {
	if o.Rate < 0 || math.IsNaN(o.Rate) || math.IsInf(o.Rate, 0) || o.Count < 0 {
		return errors.New("make events: neither the count nor the rate may be negative or endless")
	}
	r := run{o: o, out: bufio.NewWriterSize(w, 1<<16), g: New(o.Seed), begin: time.Now()}
	err := r.all(ctx)
	if ferr := r.out.Flush(); err == nil {
		err = ferr
	}
	r.report(true)
	if err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	return nil
}

// run is one Run under way.
type run struct {
	o           Options
	out         *bufio.Writer
	g           *Generator
	begin, told time.Time
	events      int64
	bytes       int64
	line        []byte
}

func (r *run) all(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	for ctx.Err() == nil && (r.o.Count == 0 || r.events < r.o.Count) {
		n := int64(1000)
		if r.o.Rate > 0 {
			// What is due by now, so that a writer that was slow is caught up with.
			n = int64(time.Since(r.begin).Seconds()*r.o.Rate) + 1 - r.events
		}
		if r.o.Count > 0 {
			n = min(n, r.o.Count-r.events)
		}
		for i := int64(0); i < n && (i%1000 != 999 || ctx.Err() == nil); i++ {
			if err := r.one(); err != nil {
				return err
			}
		}
		r.report(false)
		if r.o.Rate == 0 || r.o.Count > 0 && r.events == r.o.Count {
			continue
		}
		if err := r.out.Flush(); err != nil {
			return err
		}
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return nil
}

func (r *run) one() error {
	at := time.Now()
	if !r.o.Start.IsZero() {
		rate := r.o.Rate
		if rate == 0 {
			rate = 1000
		}
		at = r.o.Start.Add(time.Duration(float64(r.events) / rate * float64(time.Second)))
	}
	r.line = append(r.g.Append(r.line[:0], at), '\n')
	r.events++
	r.bytes += int64(len(r.line))
	_, err := r.out.Write(r.line)
	return err
}

func (r *run) report(done bool) {
	if r.o.Progress == nil {
		return
	}
	now := time.Now()
	if !done && now.Sub(r.told) < between {
		return
	}
	r.told = now
	r.o.Progress(Progress{Events: r.events, Bytes: r.bytes, Count: r.o.Count, Elapsed: now.Sub(r.begin), Done: done})
}

// Generator makes the events of one seed, in their order.
type Generator struct {
	r     *rand.Rand
	names []string
	bound []float64 // share of the names up to each
}

// New returns the generator of a seed.
func New(seed uint64) *Generator {
	g := &Generator{r: rand.New(rand.NewPCG(seed, 0x77656972))}
	total := 0.0
	for _, subject := range subjects {
		for _, verb := range verbs {
			g.names = append(g.names, subject+":"+verb)
		}
	}
	for i := range g.names { // the k-th name is as common as 1/k
		total += 1 / float64(i+1)
		g.bound = append(g.bound, total)
	}
	for i := range g.bound {
		g.bound[i] /= total
	}
	return g
}

var (
	subjects   = []string{"lesson", "exercise", "payment", "account", "review", "course", "subscription", "chat", "reminder", "profile"}
	verbs      = []string{"started", "completed", "finished", "paused", "resumed", "created", "updated", "cancelled", "failed", "deleted"}
	languages  = []string{"de", "en", "es", "fr", "it", "pl", "pt", "sv", "tr", "uk"}
	clients    = []string{"web", "ios", "android"}
	topics     = []string{"greetings", "numbers", "travel", "food", "weather", "work", "family", "past tense"}
	currencies = []string{"EUR", "USD", "GBP", "SEK"}
)

func (g *Generator) pick(from []string) string { return from[g.r.IntN(len(from))] }

func (g *Generator) name() string {
	x, low, high := g.r.Float64(), 0, len(g.bound)-1
	for low < high {
		if mid := (low + high) / 2; g.bound[mid] < x {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return g.names[low]
}

// Append appends the next event, at the given time, as JSON.
func (g *Generator) Append(dst []byte, at time.Time) []byte {
	name := g.name()
	dst = append(dst, `{"event_uuid":"`...)
	dst = g.uuid(dst)
	dst = append(append(dst, `","event_name":"`...), name...)
	dst = strconv.AppendInt(append(dst, `","created_at":`...), at.Unix(), 10)
	dst = strconv.AppendInt(append(dst, `,"user_id":`...), int64(g.r.IntN(100_000)+1), 10)
	lesson := g.r.IntN(2000) + 1
	dst = strconv.AppendInt(append(dst, `,"lesson_id":`...), int64(lesson), 10)
	dst = append(append(append(dst, `,"language":"`...), g.pick(languages)...), `","score":`...)
	if name == "lesson:finished" || name == "exercise:finished" {
		dst = strconv.AppendFloat(dst, float64(g.r.IntN(1001))/10, 'f', 1, 64)
	} else {
		dst = append(dst, "null"...)
	}
	if name == "payment:completed" || name == "payment:failed" {
		dst = strconv.AppendFloat(append(dst, `,"amount":`...), float64(g.r.IntN(20_000)+99)/100, 'f', 2, 64)
		dst = append(append(append(dst, `,"currency":"`...), g.pick(currencies)...), '"')
	}
	var session [8]byte
	binary.BigEndian.PutUint64(session[:], g.r.Uint64())
	dst = hex.AppendEncode(append(dst, `,"payload":{"session_id":"`...), session[:])
	dst = append(append(dst, `","client":"`...), g.pick(clients)...)
	dst = strconv.AppendInt(append(dst, `","title":"Lesson `...), int64(lesson%200), 10)
	return append(append(append(dst, ": "...), g.pick(topics)...), `"}}`...)
}

// uuid appends a random UUID (version 4).
func (g *Generator) uuid(dst []byte) []byte {
	var u [16]byte
	binary.BigEndian.PutUint64(u[:8], g.r.Uint64())
	binary.BigEndian.PutUint64(u[8:], g.r.Uint64())
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	for i, part := range [][]byte{u[:4], u[4:6], u[6:8], u[8:10], u[10:]} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, part)
	}
	return dst
}
