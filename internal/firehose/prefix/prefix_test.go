package prefix

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // zones where the machine has none

	"github.com/weirdata/weir/internal/firehose"
)

var at = time.Date(2026, 1, 9, 15, 4, 5, 78_900_000, time.UTC)

func values(t *testing.T, zone string) Values {
	t.Helper()
	z, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	return Values{
		At: at.In(z), ErrorType: firehose.ProcessingFailedType,
		Key: func(k Key) string {
			return map[string]string{"partitionKeyFromQuery:shop": "a/b", "partitionKeyFromLambda:year": "2026", "partitionKeyFromQuery:up": ".."}[k.Source.Header(k.Name)]
		},
		Random: func() string { n++; return "random" + string(rune('0'+n)) },
	}
}

// TestEvaluate: what prefixes become; the rows of AWS's documentation are among them.
func TestEvaluate(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		text, zone string
		kind       Kind
		want       string
	}{
		{"", "UTC", Records, "2026/01/09/15/"},
		{"logs", "UTC", Records, "logs2026/01/09/15/"},
		{"logs/", "UTC", Records, "logs/2026/01/09/15/"},
		{"", "UTC", Errors, "processing-failed/2026/01/09/15/"},
		{"bad/", "UTC", Errors, "bad/processing-failed/2026/01/09/15/"},
		{"bad/!{firehose:error-output-type}", "UTC", Errors, "bad/processing-failed"},
		{"bad/!{firehose:error-output-type}/!{timestamp:yyyy}/anyMonth/!{timestamp:dd}", "UTC", Errors, "bad/processing-failed/2026/anyMonth/09"},
		{"bad/!{firehose:random-string}/!{firehose:error-output-type}/", "UTC", Errors, "bad/random1/processing-failed/"},
		{"my/year=!{timestamp:yyyy}/month=!{timestamp:MM}/day=!{timestamp:dd}/", "UTC", Records, "my/year=2026/month=01/day=09/"},
		{"!{timestamp:yyyy'/at/'MM'/'dd}", "UTC", Records, "2026/at/01/09"},
		{"!{timestamp:'a}b'}x", "UTC", Records, "a}bx"},
		{"!{timestamp:'it''s'''}''", "UTC", Records, "it's'''"},
		{"!{timestamp:y.M.d H:m:s}", "UTC", Records, "2026.1.9 15:4:5"},
		{"!{timestamp:yy MMM MMMM E EEEE D DDD Q QQ}", "UTC", Records, "26 Jan January Fri Friday 9 009 1 01"},
		{"!{timestamp:h hh a K k kk SSS S SSSSSSSSS}", "UTC", Records, "3 03 PM 3 15 15 078 0 078900000"},
		{"!{timestamp:A N n G}", "UTC", Records, "54245078 54245078900000 78900000 AD"},
		{"!{timestamp:yyyy-MM-dd'T'HH:mmXXX}", "Asia/Tokyo", Records, "2026-01-10T00:04+09:00"},
		{"!{timestamp:H k h K}", "Asia/Tokyo", Records, "0 24 12 0"},
		{"!{timestamp:X XX x xx xxx Z}", "Asia/Kolkata", Records, "+0530 +0530 +0530 +0530 +05:30 +0530"},
		{"!{timestamp:X XXX x VV}", "UTC", Records, "Z Z +00 UTC"},
		{"", "America/New_York", Records, "2026/01/09/10/"},
		{"!{firehose:random-string}/!{firehose:random-string}", "UTC", Records, "random1/random2"},
		{"s=!{partitionKeyFromQuery:shop}/y=!{partitionKeyFromLambda:year}/!{partitionKeyFromQuery:up}", "UTC", Records, "s=a%2Fb/y=2026/%2E%2E"},
		{"!x{y}! {", "UTC", Records, "!x{y}! {2026/01/09/15/"},
	} {
		p, err := Parse(row.text, row.kind)
		if err != nil {
			t.Errorf("%q: %v", row.text, err)
			continue
		}
		if got, err := p.Evaluate(values(t, row.zone)); err != nil || got != row.want {
			t.Errorf("%q is %q (%v), want %q", row.text, got, err, row.want)
		}
	}
}

// TestRefused: each rule, with what is said of it.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		text string
		kind Kind
		want string
	}{
		{"!{timestamp:yyyy", Records, "no end"},
		{"!{timestamp:'yyyy}", Records, "no end"},
		{"!{", Records, "no end"},
		{"!{}", Records, "namespace:value"},
		{"!{timestamp}", Records, "namespace:value"},
		{"!{timestamp:}", Records, "namespace:value"},
		{"!{time:yyyy}", Records, `no namespace "time"`},
		{"!{Timestamp:yyyy}", Records, "no namespace"},
		{"!{firehose:random}", Records, "random-string"},
		{"!{firehose:error-output-type}/", Records, "failure target"},
		{"bad/!{timestamp:yyyy}", Errors, "needs !{firehose:error-output-type}"},
		{"!{firehose:error-output-type}/!{partitionKeyFromQuery:a}", Errors, "does not stand in error prefixes"},
		{"!{timestamp:YYYY}", Records, "year of the week"},
		{"!{timestamp:yyyy/MM/DD}", Records, "day of the year"},
		{"!{timestamp:ww}", Records, "is a week"},
		{"!{timestamp:yyyy-[MM]}", Records, "keeps for itself"},
		{"!{timestamp:yyyy#}", Records, "keeps for itself"},
		{"!{timestamp:HHH}", Records, "HHH"},
		{"!{timestamp:b}", Records, "none of the letters"},
		{strings.Repeat("x", 1025), Records, "1024"},
	} {
		if _, err := Parse(row.text, row.kind); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%.60q: %v, want %q", row.text, err, row.want)
		}
	}
	for text, want := range map[string]string{
		"!{partitionKeyFromQuery:none}/":                      "no partition key for !{partitionKeyFromQuery:none}",
		strings.Repeat("x", 510) + "!{timestamp:yyyy}":        "514 bytes",
		strings.Repeat("!{partitionKeyFromLambda:year}", 30):  "",
		strings.Repeat("!{partitionKeyFromQuery:shop}/", 100): "bytes, more than",
	} {
		p, err := Parse(text, Records)
		if err != nil {
			if want != "bytes, more than" { // it may be too long as it is written
				t.Errorf("%.60q: %v", text, err)
			}
			continue
		}
		if _, err := p.Evaluate(values(t, "UTC")); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
	}
}

// FuzzParse: whatever is written is refused or becomes a prefix, which keeps its bound.
func FuzzParse(f *testing.F) {
	f.Add("a/!{timestamp:yyyy'x'}/!{partitionKeyFromQuery:k}")
	f.Add("!{firehose:error-output-type}")
	f.Add("!{timestamp:'''}'}!{")
	f.Fuzz(func(t *testing.T, text string) {
		for _, kind := range []Kind{Records, Errors} {
			p, err := Parse(text, kind)
			if err != nil {
				continue
			}
			name, err := p.Evaluate(Values{At: at, Key: func(Key) string { return "../" }, Random: func() string { return "r" }})
			if err == nil && len(name) > MostEvaluated {
				t.Errorf("%q becomes %d bytes", text, len(name))
			}
			if !strings.Contains(text, "/") && !strings.Contains(text, "..") && strings.Contains(name, "../") {
				t.Errorf("%q becomes %q", text, name)
			}
		}
	})
}
