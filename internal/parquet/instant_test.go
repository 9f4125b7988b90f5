package parquet_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/parquet"
)

// differs reports whether RFC 3339 says something else of a text than the standard library.
func differs(text string) bool {
	return strings.ContainsAny(text, ",tz") || strings.Contains(text, ":60") || len(text) > 12 && (text[10] == ' ' || text[12] == ':')
}

// TestForms: what RFC 3339 allows and its usual readers do not, and what it does not.
func TestForms(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2026-01-02t03:04:05z":               "2026-01-02T03:04:05Z",
		"2026-01-02 03:04:05Z":               "2026-01-02T03:04:05Z",
		"2026-01-02t03:04:05.25+01:00":       "2026-01-02T02:04:05.25Z",
		"2026-06-30T23:59:60Z":               "2026-07-01T00:00:00Z",
		"1990-12-31T15:59:60-08:00":          "1991-01-01T00:00:00Z",
		"2026-06-30T23:59:60.5Z":             "2026-07-01T00:00:00.5Z",
		"2026-01-02T03:04:05.1234567891234Z": "2026-01-02T03:04:05.123456789Z",
		"2026-01-02T03:04:05-00:00":          "2026-01-02T03:04:05Z",
		"0000-01-01T00:00:00Z":               "0000-01-01T00:00:00Z",
		"9999-12-31T23:59:59.999999999Z":     "9999-12-31T23:59:59.999999999Z",
		"2026-01-02T03:04:05,123Z":           "",
		"2026-06-30T22:59:60Z":               "",
		"2026-06-30T23:59:61Z":               "",
		"2026-01-02T03:04:05":                "",
		"2026-01-02T03:04:05.Z":              "",
		"2026-01-02T03:04:05+24:00":          "",
		"2026-01-02T03:04:05+0100":           "",
		"2026-01-02T24:00:00Z":               "",
		"2026-01-02_03:04:05Z":               "",
		"2026-01-02T03:04:05 Z":              "",
	} {
		got, ok := parquet.Instant([]byte(text))
		if ok != (want != "") || ok && got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%q is %v %t, want %q", text, got, ok, want)
		}
	}
}

// TestInstant compares with the standard library: times of any kind, and such with a
// character changed.
func TestInstant(t *testing.T) {
	t.Parallel()
	agree := func(t interface{ Errorf(string, ...any) }, text string) {
		if differs(text) {
			return
		}
		want, err := time.Parse(time.RFC3339Nano, text)
		got, ok := parquet.Instant([]byte(text))
		if ok != (err == nil) || ok && !got.Equal(want) {
			t.Errorf("%q is %v %t, want %v %v", text, got, ok, want, err)
		}
	}
	for _, text := range []string{
		"2024-02-29T00:00:00Z", "2023-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2000-02-29T00:00:00Z", "0000-01-01T00:00:00Z", "0000-02-29T23:59:59.9Z",
		"9999-12-31T23:59:59.999999999Z", "2024-04-31T00:00:00Z", "2024-13-01T00:00:00Z", "2024-00-01T00:00:00Z", "2024-01-00T00:00:00Z", "2024-01-01T24:00:00Z",
		"2024-01-01T23:60:00Z", "2024-01-01T23:59:60Z", "2024-01-01T00:00:00.Z", "2024-01-01T00:00:00.1234567890Z", "2024-01-01T00:00:00,5Z", "2024-01-01t00:00:00z",
		"2024-01-01 00:00:00Z", "2024-01-01T00:00:00", "2024-01-01T00:00:00+05:30", "2024-01-01T00:00:00.5-23:59", "", "Z", "2024-01-01T1:00:00Z", "2024-01-01T00:00:0\xffZ",
	} {
		agree(t, text)
	}
	first, last := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	for at := first; at.Before(last); at = at.AddDate(0, 0, 1) {
		if got, ok := parquet.Instant([]byte(at.Format(time.RFC3339))); !ok || !got.Equal(at) {
			t.Fatalf("%v is %v %t", at, got, ok)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(first.Unix(), last.Unix()).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC()
		text := []byte(at.Format(rapid.SampledFrom([]string{time.RFC3339, time.RFC3339Nano, "2006-01-02T15:04:05.000Z"}).Draw(t, "form")))
		if rapid.Bool().Draw(t, "change") {
			text[rapid.IntRange(0, len(text)-1).Draw(t, "place")] = rapid.SampledFrom([]byte("0123459:.-TZ+ x")).Draw(t, "by")
		}
		agree(t, string(text))
	})
}
