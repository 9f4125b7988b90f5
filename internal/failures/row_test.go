package failures

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

var (
	readAt     = time.Date(2026, 5, 26, 16, 45, 15, 0, time.UTC)
	generic    = Format{Artifact: Artifact, Version: "1.2.3"}
	forwarding = Format{Artifact: Artifact, Version: "1.2.3", Forwarding: true}
	errNo      = errors.New("no")
)

// payload is any bytes, often ones that are hard to write as text.
func payload() *rapid.Generator[[]byte] {
	piece := rapid.OneOf(
		rapid.SampledFrom([][]byte{[]byte("plain"), []byte("<&>\u2028"), {0}, []byte("\"\\\n\t"), []byte("é椅😀"), {0xff}, {0xe2, 0x82}, []byte("\uFFFD"),
			[]byte(binaryPrefix), []byte(binaryPrefix + "AAAA"), []byte(cutMark), []byte("PartitionKey:x,Data:{}")}),
		rapid.SliceOfN(rapid.Byte(), 0, 40))
	return rapid.Custom(func(t *rapid.T) []byte {
		return bytes.Join(rapid.SliceOfN(piece, 0, 6).Draw(t, "pieces"), nil)
	})
}

var kinds = []Kind{GenericError, ForwardingError, SizeViolation}

// write makes a row of one of the three kinds.
func write(t *rapid.T, original, latest []byte, maximum, limit int) ([]byte, Kind, error) {
	cause := errors.New(rapid.SampledFrom([]string{"no", "", cutMark[:5], "a: b bytes: c", "400 Bad Request"}).Draw(t, "cause"))
	kind := rapid.SampledFrom(kinds).Draw(t, "kind")
	row, err := writeKind(kind, original, latest, cause, maximum, limit)
	return row, kind, err
}

func writeKind(kind Kind, original, latest []byte, cause error, maximum, limit int) ([]byte, error) {
	switch kind {
	case GenericError:
		return generic.Invalid(readAt, original, latest, cause, limit)
	case ForwardingError:
		return forwarding.Invalid(readAt, original, latest, cause, limit)
	default:
		return generic.Oversized(readAt, latest, maximum, limit)
	}
}

// TestRowsGiveThePayloadBack: every byte of it, whatever they are, in every format; through a
// line of the target stdout as well.
func TestRowsGiveThePayloadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		original, latest := payload().Draw(t, "original"), payload().Draw(t, "latest")
		row, kind, err := write(t, original, latest, 3, 0)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.ContainsRune(row, '\n') || !utf8.Valid(row) || !json.Valid(row) {
			t.Fatalf("no line of JSON: %q", row)
		}
		if rapid.Bool().Draw(t, "stdout") {
			row = []byte("PartitionKey:k,TimeCreated:2026-01-01 00:00:00 +0000 UTC,TimePulled:x,TimeTransformed:y,Data:" + string(row))
		}
		f, err := Parse(row)
		if err != nil {
			t.Fatal(err)
		}
		want, asRead := latest, false
		if kind == ForwardingError {
			want, asRead = original, true
		}
		got, read, err := f.Replayed(Original)
		if err != nil || read != asRead || !bytes.Equal(got, want) {
			t.Fatalf("%s: %q (as read: %t, %v), want %q", kind, got, read, err, want)
		}
		if got, _, err := f.Replayed(Latest); err != nil || !bytes.Equal(got, latest) {
			t.Fatalf("%s: latest %q, %v, want %q", kind, got, err, latest)
		}
		if f.Kind != kind || !f.Time.Equal(readAt) || f.Doubtful || f.Size() != len(want) || f.Version != "1.2.3" {
			t.Fatalf("%+v", f)
		}
		if kind == SizeViolation && (f.Actual != len(latest) || f.Maximum != 3) {
			t.Fatalf("sizes %d and %d", f.Actual, f.Maximum)
		}
	})
}

// TestACutIsKnown: a row fits its limit, and what had to be cut for it is never taken for
// the whole.
func TestACutIsKnown(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		original, latest := payload().Draw(t, "original"), payload().Draw(t, "latest")
		limit := rapid.IntRange(450, 900).Draw(t, "limit")
		row, kind, err := write(t, original, latest, 3, limit)
		if err != nil {
			return // nothing that fits can be made
		}
		checkCut(t, row, kind, original, latest, limit)
	})
	// Draws may all fit their limit. These do not.
	for _, kind := range kinds {
		for _, piece := range []string{"plain", "<&>", "\x00", "\xff", "😀", "\"", binaryPrefix} {
			original, latest := []byte(strings.Repeat(piece, 1000)), []byte(strings.Repeat(piece, 900))
			row, err := writeKind(kind, original, latest, errNo, 3, 900)
			if err != nil {
				t.Fatalf("%s of %q: %v", kind, piece, err)
			}
			if !checkCut(t, row, kind, original, latest, 900) {
				t.Errorf("%s of %q: nothing was cut", kind, piece)
			}
		}
	}
}

// checkCut asserts that a row fits its limit and gives back all of a payload or says that
// it cannot; it reports the latter.
func checkCut(t rapid.TB, row []byte, kind Kind, original, latest []byte, limit int) (cut bool) {
	t.Helper()
	if len(row) > limit {
		t.Fatalf("%d bytes, the limit is %d", len(row), limit)
	}
	f, err := Parse(row)
	if err != nil {
		t.Fatal(err)
	}
	want := latest
	if kind == ForwardingError {
		want = original
	}
	got, _, err := f.Replayed(Original)
	switch {
	case err == nil && !bytes.Equal(got, want):
		t.Fatalf("%s: %q is taken for %q", kind, got, want)
	case err != nil && !errors.Is(err, ErrNoPayload):
		t.Fatal(err)
	}
	if got, _, err := f.Replayed(Latest); err == nil && !bytes.Equal(got, latest) {
		t.Fatalf("%s: latest %q is taken for %q", kind, got, latest)
	}
	return err != nil
}

// TestALatestStateThatIsCut takes no payload with it.
func TestALatestStateThatIsCut(t *testing.T) {
	t.Parallel()
	original, latest := []byte(strings.Repeat("a", 300)), []byte(strings.Repeat("b", 1000))
	cause := fault.Describe(fault.Invalid, errNo, fault.Detail{Type: "api", Code: "400 Bad Request"})
	row, err := forwarding.Invalid(readAt, original, latest, cause, 1000)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(row)
	if err != nil {
		t.Fatal(err)
	}
	if got, asRead, err := f.Replayed(Original); err != nil || !asRead || !bytes.Equal(got, original) {
		t.Errorf("payload %q, %t, %v", got, asRead, err)
	}
	if _, _, err := f.Replayed(Latest); !errors.Is(err, ErrNoPayload) {
		t.Errorf("latest state: %v", err)
	}
	if f.Cause() != "400 Bad Request: no" || f.Code != "400 Bad Request" || f.Type != "api" {
		t.Errorf("cause %q, code %q, type %q", f.Cause(), f.Code, f.Type)
	}
}

// The rows of Snowbridge 5.
const (
	snowGeneric    = `{"data":{"failure":{"errors":["cannot parse: \u003ctsv\u003e"],"timestamp":"2026-05-26T16:45:15Z"},"payload":"not\ta\tsnowplow\tevent","processor":{"artifact":"snowbridge","version":"5.1.1"}},"schema":"iglu:com.snowplowanalytics.snowplow.badrows/generic_error/jsonschema/1-0-0"}`
	snowNoErrors   = `{"data":{"failure":{"errors":[],"timestamp":"2026-05-26T16:45:15Z"},"payload":"x","processor":{"artifact":"snowbridge","version":"5.1.1"}},"schema":"iglu:com.snowplowanalytics.snowplow.badrows/generic_error/jsonschema/1-0-0"}`
	snowForwarding = `{"data":{"failure":{"errorCode":"400 Bad Request","errorMessage":"HTTP Status Code: 400 Bad Request Body: {\"error\":\"bad field\"}","errorType":"api","latestState":"{\"foo\":\"bar\"}","timestamp":"2026-05-26T16:45:15Z"},"payload":"aid\tmob","processor":{"artifact":"snowbridge","version":"5.1.1"}},"schema":"iglu:com.snowplowanalytics.snowplow.badrows/event_forwarding_error/jsonschema/1-0-0"}`
	snowSize       = `{"data":{"failure":{"actualSizeBytes":2097152,"expectation":"Expected payload to fit into requested target","maximumAllowedSizeBytes":1048576,"timestamp":"2026-05-26T16:45:15Z"},"payload":"aid\tmob","processor":{"artifact":"snowbridge","version":"5.1.1"}},"schema":"iglu:com.snowplowanalytics.snowplow.badrows/size_violation/jsonschema/1-0-0"}`
	snowBinary     = `{"data":{"failure":{"errors":["a","b"],"timestamp":"2026-05-26T16:45:15Z"},"payload":"data:application/octet-stream;base64,AA\ufffd","processor":{"artifact":"snowbridge","version":"5.1.1"}},"schema":"iglu:com.snowplowanalytics.snowplow.badrows/generic_error/jsonschema/1-0-0"}`
)

func TestRowsOfSnowbridge(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		row   string
		want  Failure
		cause string
	}{
		"generic error": {snowGeneric, Failure{Kind: GenericError, Errors: []string{"cannot parse: <tsv>"}, Payload: []byte("not\ta\tsnowplow\tevent")}, "cannot parse: <tsv>"},
		"no errors":     {snowNoErrors, Failure{Kind: GenericError, Payload: []byte("x")}, ""},
		"forwarding error": {snowForwarding, Failure{Kind: ForwardingError, Code: "400 Bad Request", Type: "api", AsRead: true,
			Errors: []string{`HTTP Status Code: 400 Bad Request Body: {"error":"bad field"}`}, Payload: []byte("aid\tmob"), Latest: []byte(`{"foo":"bar"}`)},
			`HTTP Status Code: 400 Bad Request Body: {"error":"bad field"}`},
		"size violation": {snowSize, Failure{Kind: SizeViolation, Actual: 2097152, Maximum: 1048576, Cut: true, Payload: []byte("aid\tmob")},
			"payload of 2097152 bytes is larger than the target takes (1048576)"},
		// What is ours means nothing in a row of another, and its lost bytes are doubtful.
		"lost bytes": {snowBinary, Failure{Kind: GenericError, Errors: []string{"a", "b"}, Doubtful: true, Payload: []byte("data:application/octet-stream;base64,AA\ufffd")}, "a; b"},
	} {
		got, err := Parse([]byte(test.row + "\r\n"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		test.want.Time, test.want.Artifact, test.want.Version, test.want.Row = readAt, "snowbridge", "5.1.1", []byte(test.row)
		if d := cmp.Diff(&test.want, got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		if got.Cause() != test.cause {
			t.Errorf("%s: cause %q", name, got.Cause())
		}
	}
}

func TestLinesThatAreNoRows(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"", "text", "{}", `{"payload":1}`, `{"payload":"x","schema":"iglu:com.acme/x/jsonschema/1-0-0"}`,
		`{"data":{"payload":"x"},"schema":"iglu:com.snowplowanalytics.snowplow.badrows/schema_violations/jsonschema/2-0-0"}`,
		strings.Replace(snowGeneric, "1-0-0", "2-0-0", 1), "PartitionKey:x", "PartitionKey:x,Data:text", `{"payload"`} {
		if f, err := Parse([]byte(line)); !errors.Is(err, ErrNotFailure) {
			t.Errorf("%q is %+v, %v", line, f, err)
		}
	}
	for _, line := range []string{snowGeneric[:len(snowGeneric)-40], strings.Replace(snowGeneric, `"payload":"not\ta\tsnowplow\tevent"`, `"payload":null`, 1),
		strings.Replace(snowGeneric, `"payload":"not\ta\tsnowplow\tevent"`, `"payload":{}`, 1)} {
		if f, err := Parse([]byte(line)); err == nil || errors.Is(err, ErrNotFailure) {
			t.Errorf("the damaged row %q is %+v, %v", line, f, err)
		}
	}
}

// TestMessagesOfQueues hold the payload as it was read, whatever the row holds.
func TestMessagesOfQueues(t *testing.T) {
	t.Parallel()
	m := event.New([]byte("read\xff"))
	m.Replace([]byte("made"))
	row, err := generic.Invalid(readAt, m.Raw(), m.Data, errNo, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.Replace(row)
	f, err := OfMessage(m)
	if err != nil {
		t.Fatal(err)
	}
	if got, asRead, err := f.Replayed(Original); err != nil || !asRead || string(got) != "read\xff" {
		t.Errorf("as read: %q, %t, %v", got, asRead, err)
	}
	if got, _, err := f.Replayed(Latest); err != nil || string(got) != "made" {
		t.Errorf("as left: %q, %v", got, err)
	}
	// A size violation, which is cut in its row, is whole here.
	if row, err = generic.Oversized(readAt, bytes.Repeat([]byte("x"), 1000), 10, 500); err != nil {
		t.Fatal(err)
	}
	m = event.New(bytes.Repeat([]byte("x"), 1000))
	m.Replace(row)
	if f, err = OfMessage(m); err != nil {
		t.Fatal(err)
	}
	if got, asRead, err := f.Replayed(Original); err != nil || !asRead || len(got) != 1000 || f.Size() != 1000 {
		t.Errorf("oversized: %d bytes, %t, %v", len(got), asRead, err)
	}
	if _, _, err := f.Replayed(Latest); !errors.Is(err, ErrNoPayload) {
		t.Errorf("the latest state of a size violation that was cut: %v", err)
	}
	// A row that came into the queue as a row has no more than it says.
	if f, err = OfMessage(event.New([]byte(snowGeneric))); err != nil || f.AsRead {
		t.Errorf("imported: %+v, %v", f, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, row := range []string{snowGeneric, snowNoErrors, snowForwarding, snowSize, snowBinary, "PartitionKey:x,Data:" + snowGeneric, "", "{", `{"data":{"failure":`} {
		f.Add([]byte(row))
	}
	for _, limit := range []int{0, 500} {
		row, err := forwarding.Invalid(readAt, []byte("\xff\xfe"+strings.Repeat("x", 400)), []byte("y"), errNo, limit)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(row)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		x, err := Parse(line)
		if !bytes.Equal(line, before) {
			t.Fatal("the line was changed")
		}
		if err != nil {
			if x != nil {
				t.Fatal("a failure with an error")
			}
			return
		}
		_ = x.Cause() + fmt.Sprint(x.Size())
		for _, w := range []Which{Original, Read, Latest} {
			p, _, err := x.Replayed(w)
			if err != nil && !errors.Is(err, ErrNoPayload) || err == nil && p == nil {
				t.Fatalf("payload %d: %q, %v", w, p, err)
			}
		}
		again, err := Parse(x.Row)
		if err != nil {
			t.Fatalf("the row of a failure is none: %v", err)
		}
		if d := cmp.Diff(x, again); d != "" {
			t.Fatal(d)
		}
	})
}
