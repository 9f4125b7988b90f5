package jq

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/itchyny/gojq"

	"github.com/weirdata/weir/internal/script"
)

const defaultLayout = "2006-01-02T15:04:05.999Z"

// functions are what programs find beside jq's own.
func functions(c Config) []gojq.CompilerOption {
	most := sizes(c.MemoryLimitMB << 20)
	return []gojq.CompilerOption{
		gojq.WithFunction(sumName, 2, 2, most.sum),
		gojq.WithFunction(productName, 2, 2, most.product),
		gojq.WithFunction(fitName, 0, 0, most.fit),
		gojq.WithFunction(separatorName, 1, 1, most.separator),
		gojq.WithFunction(charactersName, 0, 0, most.characters),
		gojq.WithFunction(indexName, 0, 0, index),
		gojq.WithFunction(matchName, 2, 2, new(expressions).match),
		gojq.WithFunction("epoch", 0, 1, func(v any, args []any) any {
			return epoch("epoch", v, args, func(t time.Time) any { return int(t.Unix()) })
		}),
		gojq.WithFunction("epochMillis", 0, 1, func(v any, args []any) any {
			return epoch("epochMillis", v, args, func(t time.Time) any { return int(t.UnixMilli()) })
		}),
		gojq.WithFunction("hash", 1, 2, func(v any, args []any) any { return digest(c.HashVersion, v, args) }),
	}
}

// epoch reads v as a time of the given layout; null stays null.
func epoch(name string, v any, args []any, of func(time.Time) any) any {
	if v == nil {
		return nil
	}
	text, ok := v.(string)
	if !ok {
		return fmt.Errorf("%s: the input is a %s, not a timestamp", name, gojq.TypeOf(v))
	}
	layout := defaultLayout
	if len(args) > 0 {
		if layout, ok = args[0].(string); !ok {
			return fmt.Errorf("%s: the layout is a %s, not a string", name, gojq.TypeOf(args[0]))
		}
	}
	t, err := time.Parse(layout, text)
	if err != nil {
		// Timestamps of enriched events have this form whatever the layout says.
		var other error
		if t, other = time.Parse(time.RFC3339Nano, text); other != nil {
			return fmt.Errorf("%s: the input is not a timestamp of the layout %q", name, layout)
		}
	}
	return of(t)
}

func digest(version int, v any, args []any) any {
	text := make([]string, 0, 3)
	for i, a := range append([]any{v}, args...) {
		s, ok := a.(string)
		if !ok {
			return fmt.Errorf("hash: the %s is a %s, not a string", []string{"input", "algorithm", "salt"}[i], gojq.TypeOf(a))
		}
		text = append(text, s)
	}
	salt := ""
	if len(text) > 2 {
		salt = text[2]
	}
	sum, ok := script.Hash(version, text[1], text[0], salt)
	if !ok {
		return fmt.Errorf("hash: unknown algorithm %q; use sha1, sha256 or md5", text[1])
	}
	return sum
}

// limit is a context that ends a while after start, made for being started again and
// again: a timer and a channel serve until the timer has fired once.
type limit struct {
	context.Context
	after time.Duration
	timer *time.Timer

	mu    sync.Mutex
	done  chan struct{}
	fired bool
	why   error  // of fired
	round uint64 // a timer that fires late must not end a later round
}

func newLimit(after time.Duration) *limit {
	return &limit{Context: context.Background(), after: after, done: make(chan struct{})}
}

func (l *limit) start() {
	if l.timer == nil || !l.timer.Reset(l.after) || l.Err() != nil {
		l.arm()
	}
}

// cut ends it for another reason than time.
func (l *limit) cut(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fire(why)
}

// fire ends it, unless it has ended. The lock is held.
func (l *limit) fire(why error) {
	if !l.fired {
		l.fired, l.why = true, why
		close(l.done)
	}
}

// arm makes a timer, and a channel where the last one is closed. Only a timer that is
// known not to have run its function is started again.
func (l *limit) arm() {
	if l.timer != nil {
		l.timer.Stop()
	}
	l.mu.Lock()
	l.round++
	round := l.round
	if l.fired {
		l.done, l.fired = make(chan struct{}), false
	}
	l.mu.Unlock()
	l.timer = time.AfterFunc(l.after, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if round == l.round {
			l.fire(context.DeadlineExceeded)
		}
	})
}

// stop leaves the timer running: the next start moves it on, and a firing in between
// ends nothing, as the next start then makes a new channel.
func (l *limit) stop() {}

// Done is closed when the time is up.
func (l *limit) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done
}

// Err is context.DeadlineExceeded when the time is up, or why it was cut.
func (l *limit) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fired {
		return l.why
	}
	return nil
}
