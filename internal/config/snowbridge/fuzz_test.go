package snowbridge

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weirdata/weir/internal/config"
)

// convertsAlike asserts that converting never panics, that what it writes is read and means
// the same, and that converting it again changes nothing.
func convertsAlike(t *testing.T, src []byte) {
	t.Helper()
	text, ds := Convert("x.hcl", src)
	if ds.HasErrors() {
		return
	}
	again, ds := Convert("x.hcl", text)
	if ds.HasErrors() {
		t.Fatalf("what was converted is refused:\n%s\n%s", ds.Text(), text)
	}
	if !bytes.Equal(again, text) {
		t.Fatalf("converting again changes (-once +twice):\n%s", cmp.Diff(string(text), string(again)))
	}
	read := func(src []byte) bool {
		c, _ := config.ParseFiles([]config.File{{Name: "x.hcl", Src: src}}, config.Options{Older: Older, Env: dialectLookup})
		return c != nil
	}
	if read(src) != read(text) {
		t.Fatalf("the old file is read: %v, the new one: %v\n%s", read(src), read(text), text)
	}
	if read(src) && !broken(src) {
		if diff := cmp.Diff(meaning(t, "x.hcl", src), meaning(t, "x.hcl", text)); diff != "" {
			t.Fatalf("the converted file means something else (-old +new):\n%s\n%s", diff, text)
		}
	}
}

// fuzzFamily fuzzes one family of dialects, from the examples of its dialects and the
// fixtures whose names begin so.
func fuzzFamily(f *testing.F, family []Dialect, fixtures ...string) {
	for _, d := range family {
		f.Add([]byte(d.Old))
		f.Add([]byte(d.New))
		f.Add([]byte("pipeline \"p\" {\n" + d.Old + "\n}\n"))
	}
	for _, path := range dialectFiles(f) {
		for _, name := range fixtures {
			if !strings.HasPrefix(filepath.Base(path), name) {
				continue
			}
			src, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(src)
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) { convertsAlike(t, src) })
}

// FuzzConvert is all dialects together.
func FuzzConvert(f *testing.F) { fuzzFamily(f, Dialects(), "") }

func FuzzScriptDialects(f *testing.F) {
	fuzzFamily(f, []Dialect{scriptDialect, sourceMapsDialect}, "script", "tls_lua")
}

func FuzzFilterDialects(f *testing.F) {
	fuzzFamily(f, []Dialect{filterDialect, transformsDialect}, "filters", "transforms")
}

func FuzzTLSDialect(f *testing.F) { fuzzFamily(f, []Dialect{tlsDialect}, "tls") }

func FuzzHTTPDialects(f *testing.F) {
	fuzzFamily(f, []Dialect{httpBodyDialect, responseRulesDialect, headersDialect, timeoutDialect}, "http", "response", "headers", "timeout", "docs")
}

func FuzzSizeDialects(f *testing.F) {
	fuzzFamily(f, []Dialect{httpSizeDialect, eventHubSizeDialect, kafkaSizeDialect, kinesisSizeDialect}, "http_sizes", "eventhub", "kafka")
}

func FuzzProcessDialects(f *testing.F) {
	fuzzFamily(f, []Dialect{concurrencyDialect, failureFormatDialect, statsTimeoutDialect}, "concurrent", "failure", "stats")
}

// FuzzEnvironment: whatever the variables hold, the file they stand for is read as they are,
// is in the present form, and shows no secret.
func FuzzEnvironment(f *testing.F) {
	f.Add("http", "https://example.com", "transform {\n  use \"spEnrichedToJson\" {}\n}\n", `{"a":"b"}`, "10")
	f.Add("kafka", "broker:9092", "transform {\n  use \"js\" {\n    source_b64 = \"ZnVuY3Rpb24gbWFpbih4KSB7IHJldHVybiB4IH0=\"\n  }\n}\n", "", "0")
	f.Add("kinesis", "stream", "", "x", "-1")
	f.Add("\"", "${env.X}", "%{", "\\", "1e9")
	f.Fuzz(func(t *testing.T, target, text, transforms, headers, number string) {
		const secret = "value-of-a-secret-7151"
		if strings.Contains(target+text+transforms+headers+number, "7151") {
			return
		}
		env := lookupIn(map[string]string{
			"SOURCE_NAME": "stdin", "TARGET_NAME": target, "TARGET_HTTP_URL": text, "TARGET_HTTP_HEADERS": headers, "TARGET_HTTP_BYTE_LIMIT": number,
			"TARGET_HTTP_BASICAUTH_PASSWORD": secret, "TARGET_KAFKA_BROKERS": text, "TARGET_KAFKA_SASL_PASSWORD": secret, "TARGET_KINESIS_STREAM_NAME": text,
			"TRANSFORM_CONFIG_B64": base64.StdEncoding.EncodeToString([]byte(transforms)), "SOURCE_CONCURRENT_WRITES": number, "FAILURE_TARGET_NAME": target,
		})
		src, ds := FromEnvironment(env)
		if strings.Contains(string(src)+ds.Text(), secret) {
			t.Fatalf("a secret is shown:\n%s%s", src, ds.Text())
		}
		if ds.HasErrors() {
			return
		}
		again, ds := Convert("x.hcl", src)
		if ds.HasErrors() {
			t.Fatalf("the file is refused:\n%s\n%s", ds.Text(), src)
		}
		if !bytes.Equal(again, src) {
			t.Fatalf("the file is not in the present form (-written +converted):\n%s", cmp.Diff(string(src), string(again)))
		}
	})
}
