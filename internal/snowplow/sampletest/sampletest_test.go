package sampletest

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/snowplow"
)

// TestExampleIsFresh fails when the example's data are not what the generator makes:
// go run ./internal/snowplow/gensample -o examples/snowplow/data/enriched.tsv
func TestExampleIsFresh(t *testing.T) {
	t.Parallel()
	got, err := os.ReadFile("../../../examples/snowplow/data/enriched.tsv")
	if err != nil {
		t.Fatal(err)
	}
	want := append(bytes.Join(Lines(1, 400), []byte("\n")), '\n')
	if !bytes.Equal(want, got) {
		t.Error("examples/snowplow/data/enriched.tsv is stale: run go run ./internal/snowplow/gensample -o examples/snowplow/data/enriched.tsv")
	}
}

func TestMix(t *testing.T) {
	t.Parallel()
	kinds, platforms, entities := map[string]int{}, map[string]int{}, map[int]int{}
	for i, line := range append(Lines(3, 600), Large(3)) {
		e, err := snowplow.Parse(line)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Map(); err != nil || bytes.ContainsAny(line, "\r\n") {
			t.Errorf("event %d: %v", i, err)
		}
		contexts, _, err := e.Contexts()
		if err != nil {
			t.Fatal(err)
		}
		event, _ := snowplow.FieldOf("event")
		platform, _ := snowplow.FieldOf("platform")
		kinds[e.Raw(event)]++
		platforms[e.Raw(platform)]++
		entities[len(contexts)]++
	}
	for _, kind := range []string{"page_view", "page_ping", "struct", "unstruct", "transaction"} {
		if kinds[kind] == 0 {
			t.Errorf("no %s in %v", kind, kinds)
		}
	}
	for _, p := range []string{"web", "mob", "app", "srv"} {
		if platforms[p] == 0 {
			t.Errorf("no %s in %v", p, platforms)
		}
	}
	for n := 1; n <= 4; n++ {
		if entities[n] == 0 {
			t.Errorf("no event with %d contexts in %v", n, entities)
		}
	}
	if n := len(Large(1)); n < 3500 || n > 4200 {
		t.Errorf("the large event has %d bytes", n)
	}
}

func TestSameSeedSameEvents(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(Lines(5, 20), Lines(5, 20)); diff != "" {
		t.Error(diff)
	}
	if bytes.Equal(Lines(5, 1)[0], Lines(6, 1)[0]) {
		t.Error("two seeds made the same event")
	}
}
