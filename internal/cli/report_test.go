package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/config"
)

// TestReports runs a config with every receiver of reports, each a real server: what they
// get of a run that works, and of one that cannot.
func TestReports(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	got := map[string]string{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		mu.Lock()
		defer mu.Unlock()
		got[q.URL.Path] += string(body) + "\n"
	}))
	defer server.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "in"), []byte("a\nb\nc\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(target string) (code int, log string) {
		t.Helper()
		cfg := fmt.Sprintf(`
			source {
				use "file" {
					path = %q
				}
			}
			target {
				use "file" {
					path = %q
				}
			}
			stats_receiver {
				use "statsd" {
					address  = %q
					host_tag = "here"
				}
			}
			monitoring {
				webhook {
					endpoint = "%s/hook"
				}
				metadata_reporter {
					endpoint = "%s/meta"
				}
			}
			sentry {
				dsn = "%s/1"
			}`, filepath.Join(dir, "in"), target, udp.LocalAddr(), server.URL, server.URL,
			strings.Replace(server.URL, "http://", "http://key@", 1))
		path := filepath.Join(dir, "weir.hcl")
		if err := os.WriteFile(path, []byte(cfg), 0o644); err != nil {
			t.Fatal(err)
		}
		var errs bytes.Buffer
		code = Main([]string{"run", path}, Streams{Out: io.Discard, Err: &errs, Env: func(string) (string, bool) { return "", false }})
		return code, errs.String()
	}
	wants := func(path string, texts ...string) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		for _, s := range texts {
			if !strings.Contains(got[path], s) {
				t.Errorf("%s did not get %s but\n%s", path, s, got[path])
			}
		}
	}

	if code, log := run(filepath.Join(dir, "out")); code != 0 || log != "" {
		t.Fatalf("exit code %d\n%s", code, log)
	}
	wants("/hook", `heartbeat/jsonschema/1-0-0","data":{"appName":"weir"`)
	wants("/meta", `"successCount":3,"filteredCount":0,"failedCount":0,"invalidCount":0`)
	if err := udp.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	packet := make([]byte, 2000)
	n, _, err := udp.ReadFrom(packet)
	if err != nil || !strings.Contains(string(packet[:n]), "snowplow.snowbridge.target_success:3|c|#host:here,") {
		t.Errorf("statsd got %q (%v)", packet[:n], err)
	}
	mu.Lock()
	if got["/api/1/envelope/"] != "" || strings.Contains(got["/hook"], "alert") {
		t.Errorf("a run that works raised %v", got)
	}
	mu.Unlock()

	if code, _ := run(filepath.Join(dir, "missing", "out")); code != 1 {
		t.Errorf("exit code %d of a run that cannot write", code)
	}
	wants("/hook", "alert/jsonschema/1-0-0", "missing")
	wants("/api/1/envelope/", `"level":"fatal"`, "missing")
}

// TestEverySettingIsAppliedOrNamed: whatever setting of the process is another after a reload, it is
// named as one of the next start, or on the list of those that count at once.
func TestEverySettingIsAppliedOrNamed(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	var walk func(block string, of reflect.Value, whole func() []string)
	walk = func(block string, of reflect.Value, whole func() []string) {
		for i := range of.NumField() {
			f, v := of.Type().Field(i), of.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("hcl"), ",")
			if !f.IsExported() || v.Type() == reflect.TypeFor[*config.Use]() {
				continue
			}
			name = strings.TrimPrefix(block+"."+cmp.Or(name, "use"), ".")
			if atReload[name] != "" {
				seen[name] = true
				continue
			}
			before := reflect.ValueOf(v.Interface())
			names := []string{name}
			switch v.Kind() {
			case reflect.Bool:
				v.SetBool(!v.Bool())
			case reflect.Int, reflect.Int64:
				v.SetInt(v.Int() + 1)
			case reflect.Float64:
				v.SetFloat(v.Float() + 1)
			case reflect.String:
				v.SetString(v.String() + "x")
			case reflect.Slice:
				v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			case reflect.Map:
				v.Set(reflect.MakeMap(v.Type()))
				v.SetMapIndex(reflect.ValueOf("k"), reflect.Zero(v.Type().Elem()))
			case reflect.Pointer:
				if !v.IsNil() {
					names = nil
					break
				}
				v.Set(reflect.New(v.Type().Elem()))
			default:
				t.Fatalf("this test does not know how to change %s", name)
			}
			if got := whole(); !slices.Equal(got, names) {
				t.Errorf("%s changes, and what is named is %q", name, got)
			}
			if v.Kind() == reflect.Pointer {
				inner := reflect.New(v.Type().Elem())
				inner.Elem().Set(v.Elem())
				was := reflect.New(v.Type().Elem())
				was.Elem().Set(v.Elem())
				walk(name, inner.Elem(), func() []string { return differ(name, was.Elem(), inner.Elem()) })
			}
			v.Set(before.Convert(v.Type()))
		}
	}
	var was, is config.Process
	was.SetDefaults()
	is.SetDefaults()
	walk("", reflect.ValueOf(&is).Elem(), func() []string { return differ("", reflect.ValueOf(was), reflect.ValueOf(is)) })
	for name := range atReload {
		if !seen[name] {
			t.Errorf("%s is on the list of what a reload changes, and no setting", name)
		}
	}
}
