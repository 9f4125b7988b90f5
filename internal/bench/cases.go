package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"

	"github.com/dop251/goja"
)

// script parses a payload, changes two fields and writes it again, as scripts of users do.
const script = `function main(input) {
  var e = JSON.parse(input.Data);
  e.user.plan = "gold";
  e.seen = e.seen + 1;
  return { Data: JSON.stringify(e) };
}`

const dataOnly = `target {
  use "stdout" {
    data_only_output = true
  }
}
`

func benchmarks() []benchmark {
	js := `transform {
  use "js" {
    script = <<EOT
` + script + `
EOT
  }
}
`
	return []benchmark{
		{name: "passthrough, payload only", config: dataOnly, input: jsonLines, events: 1_000_000,
			limit: []string{"lines"}, says: "line scanner into a buffered writer", aim: "0.8 us"},
		{name: "passthrough, default line", config: "", input: jsonLines, events: 1_000_000,
			limit: []string{"lines"}, says: "line scanner into a buffered writer", aim: "0.8 us"},
		{name: "js parse, change, stringify", config: js + dataOnly, input: jsonLines, events: 200_000,
			limit: []string{"goja"}, says: "the script engine alone", aim: "12 us"},
		{name: "enriched TSV to JSON", config: "transform {\n  use \"spEnrichedToJson\" {}\n}\n" + dataOnly, input: enriched, events: 200_000,
			limit: []string{"lines"}, says: "line scanner into a buffered writer", aim: "10 us"},
		{name: "filter, enriched TSV to JSON", config: `transform {
  use "spEnrichedFilter" {
    atomic_field  = "platform"
    regex         = "^web$"
    filter_action = "keep"
  }
  use "spEnrichedToJson" {}
}
` + dataOnly, input: enriched, events: 200_000,
			limit: []string{"lines"}, says: "line scanner into a buffered writer", aim: "10 us"},
	}
}

// jsonLines writes events of 500 bytes, newline included.
func jsonLines(path string, events int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	r := rand.New(rand.NewPCG(1, 2))
	var line []byte
	for i := range events {
		line = fmt.Appendf(line[:0], `{"id":"%016x","type":"page_view","time":"2026-11-20T10:%02d:%02d.%03dZ","user":{"id":%d,"plan":"free","tags":["a","b","c"]},"url":"https://example.org/products/%d?ref=%x","price":%d.%02d,"seen":%d,"ok":true,"none":null,"text":"`,
			r.Uint64(), i/60%60, i%60, i%1000, r.IntN(1e6), r.IntN(1e4), r.Uint32(), r.IntN(100), r.IntN(100), i)
		for len(line) < 500-3 {
			line = append(line, "lorem ipsum dolor sit amet "[len(line)%27])
		}
		line = append(line[:500-3], "\"}\n"...)
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return errors.Join(w.Flush(), f.Close())
}

// enriched repeats the sample of Snowplow enriched events.
func enriched(path string, events int) error {
	sample, err := os.ReadFile(filepath.Join("examples", "snowplow", "data", "enriched.tsv"))
	if err != nil {
		return err
	}
	lines := bytes.SplitAfter(bytes.TrimSuffix(sample, []byte("\n")), []byte("\n"))
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	for i := range events {
		line := bytes.TrimSuffix(lines[i%len(lines)], []byte("\n"))
		if _, err := w.Write(append(line[:len(line):len(line)], '\n')); err != nil {
			return err
		}
	}
	return errors.Join(w.Flush(), f.Close())
}

// limit is a child that does the bare minimum of a case.
func limit(args []string) error {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 1<<24)
	out := bufio.NewWriterSize(os.Stdout, 1<<16)
	each := func(line []byte) ([]byte, error) { return line, nil }
	if args[0] == "goja" {
		runtime.GOMAXPROCS(1)
		vm := goja.New()
		if _, err := vm.RunString(script); err != nil {
			return err
		}
		main, ok := goja.AssertFunction(vm.Get("main"))
		if !ok {
			return errors.New("the script has no main")
		}
		each = func(line []byte) ([]byte, error) {
			input := vm.NewObject()
			if err := input.Set("Data", string(line)); err != nil {
				return nil, err
			}
			v, err := main(goja.Undefined(), input)
			if err != nil {
				return nil, err
			}
			return []byte(v.ToObject(vm).Get("Data").String()), nil
		}
	}
	for in.Scan() {
		b, err := each(in.Bytes())
		if err != nil {
			return err
		}
		if _, err := out.Write(b); err != nil {
			return err
		}
		if err := out.WriteByte('\n'); err != nil {
			return err
		}
	}
	return errors.Join(in.Err(), out.Flush())
}
