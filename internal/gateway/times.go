package gateway

import (
	"strconv"
	"strings"
	"time"
)

// layouts are the ways of writing a time that are understood beside RFC 3339.
var layouts = []string{
	"2006-01-02T15:04:05.999999999",
	"2006-01-02 15:04:05.999999999Z07:00",
	"2006-01-02 15:04:05.999999999 -0700 MST",
	"2006-01-02 15:04:05.999999999 -0700",
	"2006-01-02 15:04:05.999999999",
	"2006-01-02T15:04:05.999999999-0700",
	"2006-01-02T15:04Z07:00",
	"2006-01-02T15:04",
	"2006-01-02 15:04",
	"2006-01-02",
	"2006/01/02 15:04:05",
	"2006/01/02",
	"01/02/2006 15:04:05",
	"01/02/2006",
	time.RFC1123, time.RFC1123Z, time.RFC850, time.RFC822, time.RFC822Z, time.ANSIC, time.UnixDate, time.RubyDate,
	"Mon Jan 02 2006 15:04:05 GMT-0700",
}

// maxTime is the longest text that is looked at as a time.
const maxTime = 100

// parseTime reads the text of a time as SDKs write it. A time without a zone is in UTC; a
// number of 10, 13, 16 or 19 digits is a Unix time in seconds, or in thousandths of the
// unit before. false when the text is not a time that RFC 3339 can write.
func parseTime(text string) (time.Time, bool) {
	if len(text) == len("2006-01-02T15:04:05.000Z") {
		if t, err := time.Parse(time.RFC3339, text); err == nil {
			return t, true
		}
	}
	text = strings.TrimSpace(text)
	if text == "" || len(text) > maxTime {
		return time.Time{}, false
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return writable(t)
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		switch len(text) {
		case 10:
			return writable(time.Unix(n, 0).UTC())
		case 13:
			return writable(time.UnixMilli(n).UTC())
		case 16:
			return writable(time.UnixMicro(n).UTC())
		case 19:
			return writable(time.Unix(0, n).UTC())
		}
		return time.Time{}, false
	}
	// JavaScript's Date in words names its zone twice: "... GMT+0100 (CET)".
	if i := strings.Index(text, " ("); i > 0 {
		text = text[:i]
	}
	for _, layout := range layouts {
		if t, err := time.Parse(layout, text); err == nil {
			return writable(t)
		}
	}
	return time.Time{}, false
}

func writable(t time.Time) (time.Time, bool) {
	if y := t.Year(); y < 0 || y > 9999 {
		return time.Time{}, false
	}
	return t, true
}

// appendTime appends t as a JSON string in RFC 3339 with milliseconds, or as many more digits as
// it takes: thousandths of them, or millionths. Years beyond what
// four digits can say are cut to the nearest that they can.
func appendTime(dst []byte, t time.Time) []byte {
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		t = time.Date(min(max(year, 0), 9999), month, day, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), t.Location())
		year, month, day = t.Date()
	}
	hour, minute, second := t.Clock()
	dst = append(dst, '"', byte('0'+year/1000), byte('0'+year/100%10), byte('0'+year/10%10), byte('0'+year%10), '-')
	dst = append(two(dst, int(month)), '-')
	dst = append(two(dst, day), 'T')
	dst = append(two(dst, hour), ':')
	dst = append(two(dst, minute), ':')
	dst = append(two(dst, second), '.')
	ns := t.Nanosecond()
	dst = three(dst, ns/1e6)
	if ns%1e6 != 0 {
		dst = three(dst, ns/1e3%1e3)
	}
	if ns%1e3 != 0 {
		dst = three(dst, ns%1e3)
	}
	_, offset := t.Zone()
	if offset == 0 {
		return append(dst, 'Z', '"')
	}
	sign := byte('+')
	if offset < 0 {
		sign, offset = '-', -offset
	}
	dst = append(two(append(dst, sign), offset/3600), ':')
	return append(two(dst, offset/60%60), '"')
}

func two(dst []byte, n int) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }

func three(dst []byte, n int) []byte { return two(append(dst, byte('0'+n/100)), n%100) }
