package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

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
		if _, err := w.Write(append(slices.Clip(line), '\n')); err != nil {
			return err
		}
	}
	return errors.Join(w.Flush(), f.Close())
}

// lessons writes lesson events of about 288 bytes, of two hours.
func lessons(path string, events int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	r := rand.New(rand.NewPCG(1, 2))
	names := []string{"lesson:started", "lesson:finished", "lesson:paused", "payment:completed", "payment:failed", "account:created"}
	for i := range events {
		_, err := fmt.Fprintf(w, `{"event_uuid":"%08x-%04x-4%03x-8%03x-%012x","event_name":"%s","created_at":%d,"user_id":%d,"lesson_id":%d,"language":"%s",`+
			`"score":%.2f,"payload":{"session_id":"%016x","client":"web","title":"Lesson %d: greetings"},"event_type":"lesson","event_subtype":"started"}`+"\n",
			r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), r.Uint64N(1<<48), names[r.IntN(len(names))], 1_712_512_800+i*7200/events,
			r.IntN(100_000), r.IntN(2000), []string{"de", "en", "es", "fr"}[r.IntN(4)], r.Float64()*100, r.Uint64(), r.IntN(200))
		if err != nil {
			return err
		}
	}
	return errors.Join(w.Flush(), f.Close())
}

// orders writes orders of about 130 bytes.
func orders(path string, events int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	for i := range events {
		if _, err := fmt.Fprintf(w, `{"id":"%08d","country_code":"GB","total":%d.95,"lines":[{"sku":"a-1","quantity":2},{"sku":"b-7","quantity":1}],"customer":"c-%06d"}`+"\n", i, 10+i%100, i%5000); err != nil {
			return err
		}
	}
	return errors.Join(w.Flush(), f.Close())
}
