package snowplow

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/fault"
)

var (
	readAt = time.Date(2026, 5, 26, 18, 45, 15, 999, time.FixedZone("", 2*3600))
	rows   = BadRows{Artifact: "snowbridge", Version: "5.1.1"}
)

func TestBadRowsGolden(t *testing.T) {
	t.Parallel()
	api := fault.Describe(fault.Invalid, errors.New(`HTTP Status Code: 400 Bad Request Body: {"error":"bad field"}`), fault.Detail{Type: "api", Code: "400 Bad Request"})
	tests := []struct {
		name string
		make func() ([]byte, error)
		want string
	}{
		{"size violation", func() ([]byte, error) { return rows.SizeViolation(readAt, []byte("id\tmob\t<&>"), 4) },
			`{"data":{"failure":{"actualSizeBytes":10,"expectation":"Expected payload to fit into requested target","maximumAllowedSizeBytes":4,"timestamp":"2026-05-26T16:45:15Z"},"payload":"id\tmob\t\u003c\u0026\u003e","processor":{"artifact":"snowbridge","version":"5.1.1"}},"schema":"iglu:com.snowplowanalytics.snowplow.badrows/size_violation/jsonschema/1-0-0"}`},
		{"generic error", func() ([]byte, error) {
			return rows.GenericError(readAt, []byte("not\ta\tsnowplow\tevent"), errors.New("intermediate state cannot be parsed as parsedEvent: cannot parse tsv event - wrong number of fields provided: 4"))
		}, `{"data":{"failure":{"errors":["intermediate state cannot be parsed as parsedEvent: cannot parse tsv event - wrong number of fields provided: 4"],"timestamp":"2026-05-26T16:45:15Z"},"payload":"not\ta\tsnowplow\tevent","processor":{"artifact":"snowbridge","version":"5.1.1"}},"schema":"iglu:com.snowplowanalytics.snowplow.badrows/generic_error/jsonschema/1-0-0"}`},
		{"several errors", func() ([]byte, error) {
			return rows.GenericError(time.Time{}, nil, errors.New("a"), nil, errors.New("b\xff"))
		}, `{"data":{"failure":{"errors":["a","b\ufffd"],"timestamp":"0001-01-01T00:00:00Z"},"payload":"","processor":{"artifact":"snowbridge","version":"5.1.1"}},"schema":"iglu:com.snowplowanalytics.snowplow.badrows/generic_error/jsonschema/1-0-0"}`},
		{"no error", func() ([]byte, error) { return rows.GenericError(readAt, []byte("x"), nil) },
			`{"data":{"failure":{"errors":["the message was refused without a reason"],"timestamp":"2026-05-26T16:45:15Z"},"payload":"x","processor":{"artifact":"snowbridge","version":"5.1.1"}},"schema":"iglu:com.snowplowanalytics.snowplow.badrows/generic_error/jsonschema/1-0-0"}`},
		{"forwarding error", func() ([]byte, error) {
			return rows.ForwardingError(readAt, []byte("aid\tmob"), []byte(`{"foo":"bar"}`), fmt.Errorf("%w", api))
		}, `{"data":{"failure":{"errorCode":"400 Bad Request","errorMessage":"HTTP Status Code: 400 Bad Request Body: {\"error\":\"bad field\"}","errorType":"api","latestState":"{\"foo\":\"bar\"}","timestamp":"2026-05-26T16:45:15Z"},"payload":"aid\tmob","processor":{"artifact":"snowbridge","version":"5.1.1"}},"schema":"iglu:com.snowplowanalytics.snowplow.badrows/event_forwarding_error/jsonschema/1-0-0"}`},
		{"forwarding without an error", func() ([]byte, error) { return rows.ForwardingError(readAt, nil, nil, nil) },
			`{"data":{"failure":{"errorCode":"","errorMessage":"the message was refused without a reason","errorType":"","latestState":"","timestamp":"2026-05-26T16:45:15Z"},"payload":"","processor":{"artifact":"snowbridge","version":"5.1.1"}},"schema":"iglu:com.snowplowanalytics.snowplow.badrows/event_forwarding_error/jsonschema/1-0-0"}`},
	}
	for _, tt := range tests {
		got, err := tt.make()
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if diff := cmp.Diff(tt.want, string(got)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tt.name, diff)
		}
	}
}

// slowRow marshals a row's maps, as the format is defined.
func slowRow(schema string, failure map[string]any, payload string, b BadRows) string {
	out, err := json.Marshal(map[string]any{"schema": schema, "data": map[string]any{
		"failure": failure, "payload": payload,
		"processor": map[string]any{"artifact": b.Artifact, "version": b.Version}}})
	if err != nil {
		panic(err)
	}
	return string(out)
}

// slowCut cuts s to n bytes, or fewer where that would split a character.
func slowCut(s string, n int) string {
	if n >= len(s) {
		return s
	}
	at := 0
	for at < n {
		_, size := utf8.DecodeRuneInString(s[at:])
		if at+size > n {
			break
		}
		at += size
	}
	return s[:at]
}

// slowFit shrinks text by tenths until the row made of it fits.
func slowFit(limit int, text string, row func(string) string) string {
	for len(row(text)) > limit && text != "" {
		text = slowCut(text, len(text)*9/10)
	}
	return text
}

func anyText() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var b strings.Builder
		for range rapid.IntRange(0, 60).Draw(t, "pieces") {
			b.WriteString(rapid.SampledFrom([]string{"plain text ", "<&>", "\x00", "\"\\", "é", "椅", "😀", "\xff", "\xe2\x82", "\u2028", "\uFFFD", "\b\f\n\r\t\x7f", "\x80\x80\x80\x80\x80"}).Draw(t, "piece"))
		}
		return b.String()
	})
}

func TestBadRowsAgainstMarshal(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := BadRows{Artifact: "weir", Version: "1.2.3", Limit: rapid.IntRange(200, 1500).Draw(t, "limit")}
		payload, latest, message := anyText().Draw(t, "payload"), anyText().Draw(t, "latest"), anyText().Draw(t, "message")
		stamp := "2026-05-26T16:45:15Z"

		size := func(p string) string {
			return slowRow(SizeViolationSchema, map[string]any{"actualSizeBytes": len(payload), "maximumAllowedSizeBytes": 10, "expectation": expectation, "timestamp": stamp}, p, b)
		}
		got, err := b.SizeViolation(readAt, []byte(payload), 10)
		checkRow(t, "size violation", b.Limit, got, err, size, payload)

		generic := func(p string) string {
			return slowRow(GenericErrorSchema, map[string]any{"errors": []string{message}, "timestamp": stamp}, p, b)
		}
		got, err = b.GenericError(readAt, []byte(payload), errors.New(message))
		if len(generic("")) <= b.Limit {
			checkRow(t, "generic error", b.Limit, got, err, generic, payload)
		} else if err == nil && (len(got) > b.Limit || !json.Valid(got)) {
			t.Errorf("generic error with a long message: %s", got)
		}

		forwarding := func(message, latest, p string) string {
			return slowRow(ForwardingErrorSchema, map[string]any{"errorCode": "c", "errorMessage": message, "errorType": "api", "latestState": latest, "timestamp": stamp}, p, b)
		}
		got, err = b.ForwardingError(readAt, []byte(payload), []byte(latest), fault.Describe(fault.Invalid, errors.New(message), fault.Detail{Type: "api", Code: "c"}))
		latest = slowFit(b.Limit, latest, func(s string) string { return forwarding(message, s, payload) })
		payload = slowFit(b.Limit, payload, func(s string) string { return forwarding(message, latest, s) })
		want := forwarding(message, latest, payload)
		switch {
		case len(want) <= b.Limit && string(got) != want:
			t.Errorf("forwarding error\n got %s %v\nwant %s", got, err, want)
		case err == nil && (len(got) > b.Limit || !json.Valid(got)):
			t.Errorf("forwarding error of %d bytes, limit %d: %s", len(got), b.Limit, got)
		case err != nil && len(forwarding("", "", "")) <= b.Limit-1:
			t.Errorf("forwarding error: %v", err)
		}
	})
}

func checkRow(t *rapid.T, name string, limit int, got []byte, err error, row func(string) string, payload string) {
	t.Helper()
	budget := limit - len(row(""))
	if budget <= 0 {
		if err == nil && len(got) > limit {
			t.Errorf("%s of %d bytes, limit %d", name, len(got), limit)
		}
		return
	}
	want := row(slowFit(limit, slowCut(payload, budget), row))
	if err != nil || string(got) != want || len(got) > limit {
		t.Errorf("%s, limit %d\n got %s %v\nwant %s", name, limit, got, err, want)
	}
}

func TestBadRowTooSmallALimit(t *testing.T) {
	t.Parallel()
	b := BadRows{Artifact: "weir", Version: "1.0.0", Limit: 100}
	long := errors.New(strings.Repeat("long ", 1000))
	for name, row := range map[string]func() ([]byte, error){
		"size":       func() ([]byte, error) { return b.SizeViolation(readAt, []byte("x"), 1) },
		"generic":    func() ([]byte, error) { return b.GenericError(readAt, []byte("x"), long) },
		"forwarding": func() ([]byte, error) { return b.ForwardingError(readAt, []byte("x"), nil, long) },
	} {
		got, err := row()
		if err == nil || got != nil || fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "raise max_message_bytes") {
			t.Errorf("%s: %s %v", name, got, err)
		}
	}
	b.Limit = 1000
	got, err := b.GenericError(readAt, []byte("x"), long)
	if err != nil || len(got) > 1000 || !strings.Contains(string(got), `"errors":["long long`) {
		t.Errorf("a long error: %s %v", got, err)
	}
}

// TestBadRowsKeepTheirSchema tries processors and sizes that the schemas do not allow.
func TestBadRowsKeepTheirSchema(t *testing.T) {
	t.Parallel()
	pattern := regexp.MustCompile(`^(\d+\.\d+\.\d+.*)$`)
	rapid.Check(t, func(t *rapid.T) {
		b := BadRows{
			Artifact: rapid.OneOf(rapid.String(), rapid.Just(strings.Repeat("é", 600))).Draw(t, "artifact"),
			Version:  rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"dev", "", "1.2", "1.2.3\n4", "v1.2.3", strings.Repeat("1", 40) + ".0.0", "1.2.3-rc.1+" + strings.Repeat("x", 40)})).Draw(t, "version"),
		}
		got, err := b.SizeViolation(readAt, []byte("x"), rapid.Int().Draw(t, "maximum"))
		if err != nil {
			t.Fatal(err)
		}
		var row struct {
			Data struct {
				Failure   struct{ ActualSizeBytes, MaximumAllowedSizeBytes int }
				Processor struct{ Artifact, Version string }
			}
		}
		if err := json.Unmarshal(got, &row); err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		p, m := row.Data.Processor, row.Data.Failure.MaximumAllowedSizeBytes
		if utf8.RuneCountInString(p.Artifact) > 512 || utf8.RuneCountInString(p.Version) > 32 || !pattern.MatchString(p.Version) || m < 0 || m > 1<<30 {
			t.Errorf("breaks its schema: %s", got)
		}
	})
	got, _ := BadRows{Artifact: "weir", Version: "dev"}.GenericError(readAt, nil)
	if !strings.Contains(string(got), `"version":"0.0.0-dev"`) {
		t.Errorf("version of %s", got)
	}
}
