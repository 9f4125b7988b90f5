package snowplow_test

import (
	"testing"
	"time"

	"github.com/weirdata/weir/internal/snowplow"
	"github.com/weirdata/weir/internal/snowplow/sampletest"
)

var fixed = time.Unix(1_780_000_000, 0)

func BenchmarkParse(b *testing.B) {
	line := sampletest.Large(1)
	b.ReportAllocs()
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if _, err := snowplow.Parse(line); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	line := sampletest.Large(1)
	var buf []byte
	b.ReportAllocs()
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		e, err := snowplow.Parse(line)
		if err != nil {
			b.Fatal(err)
		}
		if buf, err = e.AppendJSON(buf[:0]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMap(b *testing.B) {
	line := sampletest.Large(1)
	b.ReportAllocs()
	for b.Loop() {
		e, err := snowplow.Parse(line)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := e.Map(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSizeViolation(b *testing.B) {
	payload := make([]byte, 0, 2<<20)
	line := sampletest.Large(1)
	for len(payload)+len(line) < cap(payload) {
		payload = append(payload, line...)
	}
	rows := snowplow.BadRows{Artifact: "weir", Version: "1.0.0", Limit: 1 << 20}
	b.ReportAllocs()
	b.SetBytes(1 << 20)
	for b.Loop() {
		if _, err := rows.SizeViolation(fixed, payload, 1<<20); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAppendJSONAllocates(t *testing.T) {
	line := sampletest.Large(1)
	e, err := snowplow.Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, e.JSONSize())
	got := testing.AllocsPerRun(100, func() {
		e, _ := snowplow.Parse(line)
		if _, err := e.AppendJSON(buf); err != nil {
			t.Fatal(err)
		}
	})
	if got > 1 { // the Event itself
		t.Errorf("parse and AppendJSON allocate %v times, want at most 1", got)
	}
}
