package gateway

import (
	"testing"
	"time"
)

func TestAppendRudderID(t *testing.T) {
	t.Parallel()
	// MD5 of the empty text is d41d8cd98f00b204e9800998ecf8427e; version and variant are set.
	if got, want := string(appendRudderID(nil, nil)), "d41d8cd9-8f00-4204-a980-0998ecf8427e"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2026-01-02T03:04:05.678Z":        `"2026-01-02T03:04:05.678Z"`,
		"2026-01-02T03:04:05Z":            `"2026-01-02T03:04:05.000Z"`,
		"2026-01-02T03:04:05.123456789Z":  `"2026-01-02T03:04:05.123456789Z"`,
		"2026-01-02T03:04:05+05:30":       `"2026-01-02T03:04:05.000+05:30"`,
		"2026-01-02T03:04:05.5-0800":      `"2026-01-02T03:04:05.500-08:00"`,
		" 2026-01-02 03:04:05 ":           `"2026-01-02T03:04:05.000Z"`,
		"2026-01-02":                      `"2026-01-02T00:00:00.000Z"`,
		"1700000000":                      `"2023-11-14T22:13:20.000Z"`,
		"1700000000123":                   `"2023-11-14T22:13:20.123Z"`,
		"Fri, 02 Jan 2026 03:04:05 +0100": `"2026-01-02T03:04:05.000+01:00"`,
		"Fri Jan 02 2026 03:04:05 GMT+0100 (Central European Standard Time)": `"2026-01-02T03:04:05.000+01:00"`,
		"":                         "",
		"soon":                     "",
		"12":                       "",
		"2026-13-01T00:00:00.000Z": "",
	} {
		at, ok := parseTime(text)
		got := ""
		if ok {
			got = string(appendTime(nil, at))
		}
		if got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
	if got, want := string(appendTime(nil, time.Date(12000, 1, 2, 3, 4, 5, 0, time.UTC))), `"9999-01-02T03:04:05.000Z"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
