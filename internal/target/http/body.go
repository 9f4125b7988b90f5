package httptarget

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptrace"
	"os"
	"sync"
	"sync/atomic"
	"text/template"

	"github.com/klauspost/compress/gzip"

	"github.com/weirdata/weir/internal/jsontext"
)

const (
	// maxPooled is the largest body buffer kept for the next request.
	maxPooled = 4 << 20
	// minTemplateOutput is the least that a template may always make.
	minTemplateOutput = 64 << 20
)

// payload is a pooled request body. The transport may read a body after the request has
// returned, so the bytes go back to the pool only when it is known to be done with them:
// see [sending].
type payload struct{ data []byte }

var payloads = sync.Pool{New: func() any { return new(payload) }}

func newPayload() *payload {
	p := payloads.Get().(*payload)
	p.data = p.data[:0]
	return p
}

// release gives the bytes back; nobody may read them any more.
func (p *payload) release() {
	if cap(p.data) <= maxPooled {
		payloads.Put(p)
	}
}

// Write appends b; it makes payload an io.Writer for compressors.
func (p *payload) Write(b []byte) (int, error) {
	p.data = append(p.data, b...)
	return len(b), nil
}

// reader is a body of a kind net/http knows to be in memory, which it writes together with
// the headers instead of after them.
func (p *payload) reader() io.ReadCloser { return io.NopCloser(bytes.NewReader(p.data)) }

// sending watches one request to learn whether the transport is done with its payload. It
// is when the request was written once, without error and without a second try; in any
// other case the bytes are left to the garbage collector.
type sending struct {
	wrote atomic.Int32 // requests written
	odd   atomic.Bool  // a write that failed, or a body asked for again
}

// trace is told about each request that was written.
func (s *sending) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{WroteRequest: func(i httptrace.WroteRequestInfo) {
		if i.Err != nil {
			s.odd.Store(true)
		}
		s.wrote.Add(1)
	}}
}

func (s *sending) done() bool { return s.wrote.Load() == 1 && !s.odd.Load() }

var compressors = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

// compressed returns p's bytes compressed, and releases p.
func (p *payload) compressed() (*payload, error) {
	defer p.release()
	z := newPayload()
	w := compressors.Get().(*gzip.Writer)
	defer compressors.Put(w)
	w.Reset(z)
	_, err := w.Write(p.data)
	if err = errors.Join(err, w.Close()); err != nil {
		z.release()
		return nil, fmt.Errorf("compress the request body: %w", err)
	}
	return z, nil
}

// The classes of bytes that appendCompact must look at.
const (
	plain = iota
	space
	quote
	backslash
	markup  // < > &
	lineSep // first byte of U+2028 and U+2029
)

var classes = func() (c [256]uint8) {
	c[' '], c['\t'], c['\n'], c['\r'] = space, space, space, space
	c['"'], c['\\'] = quote, backslash
	c['<'], c['>'], c['&'] = markup, markup, markup
	c[0xE2] = lineSep
	return c
}()

// appendMessage appends the JSON value src as encoding/json writes a raw message inside
// an array: without white space between tokens, and with <, >, &, U+2028 and U+2029
// escaped. It reports false, and appends nothing, when src is not one JSON value.
func appendMessage(dst, src []byte) ([]byte, bool) {
	if !jsontext.Valid(src) {
		return dst, false
	}
	return appendCompact(dst, src), true
}

// appendCompact is appendMessage without validation.
func appendCompact(dst, src []byte) []byte {
	const hex = "0123456789abcdef"
	inString, from := false, 0
	for i := 0; i < len(src); i++ {
		c := src[i]
		class := classes[c]
		if class == plain {
			continue
		}
		switch {
		case class == quote:
			inString = !inString
		case inString && class == backslash:
			i++
		case class == markup:
			dst = append(dst, src[from:i]...)
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			from = i + 1
		case class == lineSep:
			if i+2 < len(src) && src[i+1] == 0x80 && src[i+2]&^1 == 0xA8 {
				dst = append(dst, src[from:i]...)
				dst = append(dst, '\\', 'u', '2', '0', '2', hex[src[i+2]&15])
				i += 2
				from = i + 1
			}
		case inString:
		case class == space:
			dst = append(dst, src[from:i]...)
			from = i + 1
		}
	}
	return append(dst, src[min(from, len(src)):]...)
}

// templateValue makes Go values of a message for a template: numbers are float64, and those that a
// float64 would change are kept as they are written.
func templateValue(data []byte) (any, error) {
	return jsontext.Decode(string(data), func(token string) (any, error) {
		if x, ok := jsontext.Float(token); ok && jsontext.Exact(token, x) {
			return x, nil
		}
		return json.Number(token), nil
	})
}

// notJSON says why data is not JSON, in the words that Snowbridge's users know.
func notJSON(data []byte) error {
	var raw json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	return jsontext.Check(data)
}

// parseTemplate parses a request template. The name is part of its error texts.
func parseTemplate(text string) (*template.Template, error) {
	return template.New("HTTP").Funcs(template.FuncMap{
		"prettyPrint": func(v any) (string, error) {
			b, err := json.Marshal(v)
			return string(b), err
		},
		"env": os.Getenv,
	}).Parse(text)
}

// execute appends what tmpl makes of vals to p; it gives up when ctx ends or the output
// exceeds limit bytes, so that a template that loops cannot hold a write for ever.
func (p *payload) execute(ctx context.Context, tmpl *template.Template, vals []any, limit int) error {
	return tmpl.Execute(&templateOutput{p: p, ctx: ctx, limit: limit}, vals)
}

type templateOutput struct {
	p     *payload
	ctx   context.Context // the write's, for the length of one execution
	limit int
}

func (o *templateOutput) Write(b []byte) (int, error) {
	if err := o.ctx.Err(); err != nil {
		return 0, err
	}
	if len(o.p.data)+len(b) > o.limit {
		return 0, fmt.Errorf("the request body exceeds %d bytes", o.limit)
	}
	return o.p.Write(b)
}
