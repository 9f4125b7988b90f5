package processor_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/firehose"
	"github.com/weirdata/weir/internal/transform/processor"
)

func TestExamples(t *testing.T) {
	conntest.Examples(t, connector.Set{Transforms: []connector.Entry[connector.Transform]{processor.Decompress, processor.CloudWatchLogs, processor.Deaggregate}}, "../../..")
}

// build makes a transform with a changed default config, or the problems of it.
func build[C any](t *testing.T, e connector.Entry[connector.Transform], change func(*C)) (connector.Transform, []connector.Problem) {
	t.Helper()
	var ps []connector.Problem
	tr, err := e.Build(t.Context(), connector.Deps{}, func(into any) error {
		change(into.(*C))
		if ps = into.(connector.Validator).Validate(); len(ps) > 0 {
			return errors.New(ps[0].What)
		}
		return nil
	})
	if err != nil && len(ps) == 0 {
		t.Fatal(err)
	}
	return tr, ps
}

func zipped(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const subscription = `{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"g","logStream":"s","subscriptionFilters":["f"],"logEvents":[{"id":"37","timestamp":1432826855000,"message":"one\n"},{"id":"38","timestamp":1432826855001,"message":"{\"two\":2}"}]}`

// TestProcessors: what payloads become; nil is an invalid one, none at all a filtered one.
func TestProcessors(t *testing.T) {
	t.Parallel()
	decompress := func(format string, most int) connector.Transform {
		tr, _ := build(t, processor.Decompress, func(c *processor.Decompression) { c.CompressionFormat, c.MaxBytes = format, most })
		return tr
	}
	logs := func(extract string) connector.Transform {
		tr, _ := build(t, processor.CloudWatchLogs, func(c *processor.Logs) { c.Extract = extract })
		return tr
	}
	records := func(kind, delimiter string) connector.Transform {
		tr, _ := build(t, processor.Deaggregate, func(c *processor.Aggregation) { c.SubRecordType, c.Delimiter = kind, delimiter })
		return tr
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bomb := strings.Repeat("0", 1<<20)
	for name, row := range map[string]struct {
		tr   connector.Transform
		in   []byte
		want []string
	}{
		"gzip":                   {decompress("gzip", 1<<20), zipped(t, "text"), []string{"text"}},
		"two members":            {decompress("gzip", 1<<20), append(zipped(t, "text"), zipped(t, " more")...), []string{"text more"}},
		"empty":                  {decompress("gzip", 1<<20), zipped(t, ""), []string{""}},
		"zstd":                   {decompress("zstd", 1<<20), z.EncodeAll([]byte("text"), nil), []string{"text"}},
		"no gzip":                {decompress("gzip", 1<<20), []byte("text"), nil},
		"no zstd":                {decompress("zstd", 1<<20), []byte("text"), nil},
		"cut":                    {decompress("gzip", 1<<20), zipped(t, strings.Repeat("text", 99))[:20], nil},
		"as large as may be":     {decompress("gzip", 1<<20), zipped(t, bomb), []string{bomb}},
		"larger":                 {decompress("gzip", 1<<20-1), zipped(t, bomb), nil},
		"larger in zstd":         {decompress("zstd", 1<<20-1), z.EncodeAll([]byte(bomb), nil), nil},
		"messages":               {logs("message"), []byte(subscription), []string{"one\n", `{"two":2}`}},
		"events":                 {logs("event"), []byte(subscription), []string{`{"id":"37","timestamp":1432826855000,"message":"one\n","owner":"1","logGroup":"g","logStream":"s"}`, `{"id":"38","timestamp":1432826855001,"message":"{\"two\":2}","owner":"1","logGroup":"g","logStream":"s"}`}},
		"control":                {logs("message"), []byte(`{"messageType":"CONTROL_MESSAGE","logEvents":[{"id":"","message":"CWL CONTROL MESSAGE: Checking health"}]}`), []string{}},
		"no log events":          {logs("message"), []byte(`{"messageType":"DATA_MESSAGE","logEvents":[]}`), []string{}},
		"other JSON":             {logs("message"), []byte(`{"a":1}`), nil},
		"still compressed":       {logs("message"), zipped(t, subscription), nil},
		"no message in one":      {logs("message"), []byte(`{"messageType":"DATA_MESSAGE","logEvents":[{"message":"a"},{}]}`), nil},
		"objects":                {records("JSON", ""), []byte(` {"a":"}{"}{"b":2}` + "\n" + `{"c":[{}]} `), []string{`{"a":"}{"}`, `{"b":2}`, `{"c":[{}]}`}},
		"one object":             {records("JSON", ""), []byte(`{"a":1}`), []string{`{"a":1}`}},
		"one with a line end":    {records("JSON", ""), []byte(`{"a":1}` + "\n"), []string{`{"a":1}`}},
		"white space":            {records("JSON", ""), []byte(" \n"), []string{}},
		"an array":               {records("JSON", ""), []byte(`[{"a":1}]`), nil},
		"commas":                 {records("JSON", ""), []byte(`{"a":1},{"a":2}`), nil},
		"the last one cut":       {records("JSON", ""), []byte(`{"a":1}{"a":`), nil},
		"a number":               {records("JSON", ""), []byte(`1 2`), nil},
		"delimited":              {records("DELIMITED", "####"), []byte("a####b########c"), []string{"a", "b", "c"}},
		"delimited, one":         {records("DELIMITED", "####"), []byte("a###"), []string{"a###"}},
		"delimited, binary":      {records("DELIMITED", "\n"), []byte("\xff\n\x00\n"), []string{"\xff", "\x00"}},
		"delimiters and no more": {records("DELIMITED", "\n"), []byte("\n\n"), []string{}},
	} {
		m := event.New(bytes.Clone(row.in))
		var outcomes event.Outcomes
		event.Track(event.Batch{m}, func(o event.Outcomes) { outcomes = o })
		out, err := conntest.Worker(t, row.tr).Apply(t.Context(), nil, m)
		got := []string{}
		for _, x := range out {
			got = append(got, string(x.Data))
			if !bytes.Equal(x.Raw(), row.in) {
				t.Errorf("%s: what was read is forgotten", name)
			}
		}
		switch f, ok := errors.AsType[*firehose.Failure](err); {
		case row.want == nil:
			if !ok || f.Type != firehose.ProcessingFailedType || fault.Of(err) != fault.Invalid || len(out) > 0 || !bytes.Equal(m.Data, row.in) {
				t.Errorf("%s: %.200q, %v", name, got, err)
			}
		case err != nil || !slices.Equal(got, row.want) || (len(got) == 0) != (m.Dropped() != ""):
			t.Errorf("%s: %.200q (%v), want %.200q", name, got, err, row.want)
		}
		for i, x := range out {
			if outcomes != nil {
				t.Errorf("%s: it is settled before message %d is", name, i)
			}
			event.Settle(x, nil)
		}
	}
}

func TestConformance(t *testing.T) {
	for name, row := range map[string]struct {
		e  connector.Entry[connector.Transform]
		in []byte
	}{
		"decompress": {processor.Decompress, zipped(t, "text")}, "cloudWatchLogs": {processor.CloudWatchLogs, []byte(subscription)}, "deaggregate": {processor.Deaggregate, []byte(`{}{}`)},
	} {
		t.Run(name, func(t *testing.T) {
			conntest.Transform(t, conntest.TransformCase{
				New: func(t *testing.T) connector.Transform {
					tr, err := row.e.Build(t.Context(), connector.Deps{}, func(any) error { return nil })
					if err != nil {
						t.Fatal(err)
					}
					return tr
				},
				Inputs: [][]byte{row.in},
			})
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	refused := func(field string, ps []connector.Problem) {
		t.Helper()
		if len(ps) != 1 || ps[0].Field != field || ps[0].Fix == "" {
			t.Errorf("%s: %v", field, ps)
		}
	}
	_, ps := build(t, processor.Decompress, func(c *processor.Decompression) { c.CompressionFormat = "zip" })
	refused("compression_format", ps)
	_, ps = build(t, processor.Decompress, func(c *processor.Decompression) { c.MaxBytes = 0 })
	refused("max_bytes", ps)
	_, ps = build(t, processor.CloudWatchLogs, func(c *processor.Logs) { c.Extract = "all" })
	refused("extract", ps)
	_, ps = build(t, processor.Deaggregate, func(c *processor.Aggregation) { c.SubRecordType = "CSV" })
	refused("sub_record_type", ps)
	_, ps = build(t, processor.Deaggregate, func(c *processor.Aggregation) { c.SubRecordType = "DELIMITED" })
	refused("delimiter", ps)
	_, ps = build(t, processor.Deaggregate, func(c *processor.Aggregation) { c.Delimiter = "x" })
	refused("delimiter", ps)
}
