package object

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/parquet"
)

// former gives the messages of a write the form that they have in objects. What a message alone decides
// is found out before it comes to an object, so that it is refused alone.
type former struct {
	t    *Target
	d    *parquet.Decoder // of a conversion
	line []byte           // of CSV
}

func (t *Target) former() *former {
	f := &former{t: t}
	if t.conversion != nil {
		f.d = t.conversion.decoder()
	}
	return f
}

// read reads a message, or says why it has no form.
func (f *former) read(m *event.Message) (err error) {
	switch {
	case f.d != nil:
		return f.t.conversion.decode(f.d, m)
	case f.t.table != nil:
		f.line, err = f.t.table.line(f.line[:0], m.Data)
		return err
	}
	return f.t.fits(m)
}

// add adds the message that was read last to g.
func (f *former) add(g *group) {
	switch {
	case f.d != nil:
		if g.rows == nil {
			g.rows = parquet.NewRows()
			g.rows.Compress(f.t.conversion.level)
		}
		g.rows.Append(f.d)
	case f.t.table != nil:
		if g.lines == nil && f.t.config.CSV.Header {
			g.lines = f.t.table.header(nil)
		}
		g.lines = append(g.lines, f.line...)
	}
}

// release lets others have the memory of g's rows.
func (g *group) release() {
	if g.rows != nil {
		g.rows.Release()
		g.rows = nil
	}
}

// fits reports why a message cannot be told from its neighbours in an object.
func (t *Target) fits(m *event.Message) error {
	d := t.config.delimiter()
	if d != "" && !t.config.AllowDelimiters && bytes.Contains(m.Data, []byte(d)) {
		return fault.New(fault.Invalid, fmt.Errorf("the payload holds the delimiter %q, and a reader would take it for several: set allow_delimiters, or another delimiter", d))
	}
	return nil
}

// encode is the content of a group's object.
func (t *Target) encode(g *group, name string) ([]byte, error) {
	var out bytes.Buffer
	if g.rows != nil {
		if err := g.rows.Write(&out, t.conversion.schema, nil); err != nil {
			return nil, fmt.Errorf("write an object of Parquet: %w", err)
		}
		return out.Bytes(), nil
	}
	w, err := compressor(t.config.Compression, &out, name)
	if err != nil {
		return nil, fault.New(fault.Fatal, fmt.Errorf("begin to compress: %w", err))
	}
	if t.table != nil {
		_, err = w.Write(g.lines)
	} else {
		err = t.join(w, g)
	}
	if e := w.Close(); err == nil {
		err = e
	}
	if err != nil {
		return nil, fmt.Errorf("compress an object: %w", err)
	}
	return out.Bytes(), nil
}

// join writes the payloads of a group, with the delimiter behind each.
func (t *Target) join(w io.Writer, g *group) error {
	d := []byte(t.config.delimiter())
	var failed error
	for _, m := range g.messages {
		_, one := w.Write(m.Data)
		_, two := w.Write(d)
		failed = errors.Join(failed, one, two)
	}
	return failed
}
