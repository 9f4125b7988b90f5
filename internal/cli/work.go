package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// work is the live line of an operation that may take long. Nothing is shown of one that
// is over at once, nor when standard error is no terminal.
type work struct {
	w     io.Writer
	what  atomic.Pointer[string]
	quit  chan struct{}
	ended sync.WaitGroup
}

// showAfter is how long an operation takes before its line appears.
const showAfter = 300 * time.Millisecond

// begin shows the line until stop.
func begin(s Streams, what string) *work {
	p := &work{w: s.Err, quit: make(chan struct{})}
	p.what.Store(&what)
	if !terminal(s.Err) {
		return p
	}
	p.ended.Go(p.run)
	return p
}

func (p *work) run() {
	tick := time.NewTicker(showAfter)
	defer tick.Stop()
	for shown := false; ; shown = true {
		select {
		case <-tick.C:
			fmt.Fprintf(p.w, "\r\x1b[K%s", *p.what.Load())
		case <-p.quit:
			if shown {
				fmt.Fprint(p.w, "\r\x1b[K")
			}
			return
		}
	}
}

// say changes the line.
func (p *work) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	p.what.Store(&text)
}

// bytes shows how much of how much is done.
func (p *work) bytes(what string) func(done, total int64) {
	return func(done, total int64) {
		if total > 0 {
			p.say("%s: %s of %s (%d%%)", what, size(done), size(total), 100*done/total)
		}
	}
}

func (p *work) stop() {
	close(p.quit)
	p.ended.Wait()
}

// size is a number of bytes as a person reads it: 950 B, 1.5 MiB.
func size(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, units := float64(n)/1024, "KMGTPE"
	for v >= 1024 && len(units) > 1 {
		v, units = v/1024, units[1:]
	}
	return fmt.Sprintf("%.1f %ciB", v, units[0])
}

// age is a duration as a person reads it, in its two largest units.
func age(d time.Duration) string {
	d = max(d, 0)
	days := int64(d / (24 * time.Hour))
	h, m, s := int64(d.Hours())%24, int64(d.Minutes())%60, int64(d.Seconds())%60
	switch {
	case days > 0:
		return fmt.Sprintf("%dd%dh", days, h)
	case h > 0:
		return fmt.Sprintf("%dh%dm", h, m)
	case m > 0:
		return fmt.Sprintf("%dm%ds", m, s)
	}
	return fmt.Sprintf("%ds", s)
}

// plural is "1 message" or "5 messages".
func plural(n int) string {
	if n == 1 {
		return "1 message"
	}
	return fmt.Sprintf("%d messages", n)
}

// shorten makes text of at most most characters for a table: what is not printable, and
// could command the terminal, is escaped.
func shorten(text string, most int) string {
	var b strings.Builder
	n := 0
	for _, r := range text {
		part := string(r)
		switch {
		case r == '\n':
			part = `\n`
		case r == '\t':
			part = `\t`
		case r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0xfffd:
			part = fmt.Sprintf(`\x%02x`, r)
			if r == 0xfffd {
				part = "?"
			}
		}
		if n+len([]rune(part)) > most {
			return b.String() + "…"
		}
		n += len([]rune(part))
		b.WriteString(part)
	}
	return b.String()
}

// middle is shorten for text that says most at its beginning and its end, as the causes of
// errors do: what is left out is in the middle.
func middle(text string, most int) string {
	whole := []rune(shorten(text, len(text)*8))
	if len(whole) <= most {
		return string(whole)
	}
	head := most / 3
	return string(whole[:head]) + "…" + string(whole[len(whole)-(most-head):])
}
