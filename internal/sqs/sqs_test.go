package sqs_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/sqs"
)

func header(name, value string) event.Header { return event.Header{Name: name, Value: []byte(value)} }

// TestRoundTrip: whatever headers a message has, they are what is read from the attributes that
// carry them, and the attributes are what SQS takes.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	names := []string{"a", "b", "content-type", "x.y", "", ".dot", "end.", "two..dots", "AWS.mine", "amazon.x", "ü", "bad\xff", "with space", strings.Repeat("n", 256), strings.Repeat("n", 257), sqs.RestAttribute, sqs.EncodingAttribute}
	values := []string{"", "v", "nul \x00", "\xff\xfe", "12", "ünï", strings.Repeat("v", 1000), "\ufffe"}
	for range 3000 {
		var h event.Headers
		for range r.IntN(14) {
			h = append(h, header(names[r.IntN(len(names))], values[r.IntN(len(values))]))
		}
		if r.IntN(4) == 0 {
			for i := range 12 {
				h = append(h, header(fmt.Sprint("many", i), "v"))
			}
		}
		most := 9 + r.IntN(2)
		as := sqs.Attributes(h, most)
		if len(as) > most {
			t.Fatalf("%d attributes for %q", len(as), h)
		}
		taken := map[string]bool{}
		for _, a := range as {
			if taken[a.Name] || len(a.Value) == 0 || !a.Binary() && !sqs.Legal(a.Value) {
				t.Fatalf("attribute %q of %q is refused", a, h)
			}
			taken[a.Name] = true
		}
		got := sqs.Headers(as).Del(sqs.TypesHeader)
		byName := func(a, b event.Header) int {
			return strings.Compare(a.Name+"\x00"+string(a.Value), b.Name+"\x00"+string(b.Value))
		}
		want := slices.Clone(h)
		slices.SortFunc(want, byName)
		got = slices.Clone(got)
		slices.SortFunc(got, byName)
		if len(want) == 0 && len(got) == 0 {
			continue
		}
		if d := cmp.Diff([]event.Header(want), []event.Header(got)); d != "" {
			t.Fatalf("headers that came back: %s", d)
		}
	}
}

// TestTypes: the type of an attribute goes with it, as long as the value has it.
func TestTypes(t *testing.T) {
	t.Parallel()
	as := []sqs.Attribute{
		{"b", "Number.int", []byte("12345678901234567890123456789012345678")},
		{"c", "Binary.png", []byte{0x89, 'P', 'N', 'G'}},
		{"d", "String.note", []byte("x")},
		{"e", "String", []byte("y")},
		{"f", "Number", []byte("-1.5e3")},
	}
	h := sqs.Headers(as)
	if got, want := h.Text(sqs.TypesHeader), "b=Number.int,c=Binary.png,d=String.note,f=Number"; got != want {
		t.Errorf("types are %q, want %q", got, want)
	}
	if d := cmp.Diff(as, sqs.Attributes(h, 10)); d != "" {
		t.Error(d)
	}
	changed := sqs.Attributes(h.Set("b", []byte("twelve")).Set("f", []byte(strings.Repeat("9", 39))).Set("e", []byte{0}), 10)
	for _, a := range changed {
		if want := map[string]string{"b": "String", "f": "String", "e": "Binary"}[a.Name]; want != "" && a.Type != want {
			t.Errorf("%s has type %s, want %s", a.Name, a.Type, want)
		}
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	for _, data := range [][]byte{nil, {}, []byte("x"), {0}, {0xff, 0}, bytes.Repeat([]byte{1}, 1000)} {
		body, how := sqs.Encode(data)
		if got := sqs.Decode(body, []sqs.Attribute{how}); !bytes.Equal(got, data) || (got == nil) != (data == nil) {
			t.Errorf("%q came back as %q", data, got)
		}
		if got, most := sqs.Size(len(body), []sqs.Attribute{how}), sqs.EncodedSize(data); got > most {
			t.Errorf("%q is %d bytes, and was counted %d", data, got, most)
		}
	}
	if got := sqs.Decode("not base64!", []sqs.Attribute{{sqs.EncodingAttribute, "String", []byte("base64")}}); string(got) != "not base64!" {
		t.Errorf("a body that is not what it says was read as %q", got)
	}
}

func TestLegal(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"": true, "a\t\r\n": true, "\x00": false, "\x0b": false, "\x1f": false, "\x7f": true, "ü\U0001F98A": true,
		"\xff": false, "\ufffd": true, "\ufffe": false, "\uffff": false, "\U0010ffff": true, "\xed\xa0\x80": false,
	} {
		if got := sqs.Legal([]byte(s)); got != want {
			t.Errorf("Legal(%q) = %t", s, got)
		}
	}
	for s, want := range map[string]bool{"": false, "a": true, "a b": false, strings.Repeat("x", 128): true, strings.Repeat("x", 129): false, "ü": false, "!~": true} {
		if got := sqs.LegalID(s); got != want {
			t.Errorf("LegalID(%q) = %t", s, got)
		}
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	got := sqs.Describe("a.fifo", "u", map[string]string{
		"MaximumMessageSize": "262144", "ApproximateNumberOfMessages": "7",
		"RedrivePolicy": `{"deadLetterTargetArn":"arn:aws:sqs:eu-central-1:1:dead.fifo","maxReceiveCount":"3"}`,
	})
	want := sqs.Queue{Name: "a.fifo", URL: "u", FIFO: true, MaxMessageBytes: 262144, MaxReceives: 3, DeadLetters: "arn:aws:sqs:eu-central-1:1:dead.fifo", Waiting: 7}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got := sqs.Describe("a", "u", map[string]string{"RedrivePolicy": "{"}); got.MaxReceives != 0 || got.FIFO || got.MaxMessageBytes != sqs.MaxBytes || got.Waiting != -1 {
		t.Errorf("%+v", got)
	}
}

func TestPosition(t *testing.T) {
	t.Parallel()
	numbers := []string{"0", "9", "10", "18849496460467696128", "99999999999999999999", "100000000000000000000"}
	for i := range numbers[1:] {
		if a, b := sqs.Position(numbers[i]), sqs.Position(numbers[i+1]); bytes.Compare(a, b) >= 0 {
			t.Errorf("%s is not before %s", numbers[i], numbers[i+1])
		}
	}
	for _, bad := range []string{"", "x", "-1", strings.Repeat("9", 60)} {
		if sqs.Position(bad) != nil {
			t.Errorf("%q is a position", bad)
		}
	}
}

func TestPointer(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{
		`["software.amazon.payloadoffloading.PayloadS3Pointer",{"s3BucketName":"b","s3Key":"k"}]`: true,
		`["com.amazon.sqs.javamessaging.MessageS3Pointer",{"s3BucketName":"b","s3Key":"k"}]`:      true,
		`{"s3BucketName":"b"}`: false, "": false,
	} {
		if sqs.Pointer(body) != want {
			t.Errorf("Pointer(%s) = %t", body, !want)
		}
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add("weir-headers", "String", []byte(`[{"name":"a","value":"YQ=="}]`))
	f.Add("a", "Number", []byte("1"))
	f.Fuzz(func(t *testing.T, name, kind string, value []byte) {
		h := sqs.Headers([]sqs.Attribute{{name, kind, value}})
		if as := sqs.Attributes(h, 10); len(as) > 10 {
			t.Errorf("%d attributes", len(as))
		}
	})
}
