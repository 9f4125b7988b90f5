package base64

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// build makes a worker as the engine does.
func build(t testing.TB, e connector.Entry[connector.Transform]) connector.Worker {
	t.Helper()
	return conntest.Worker(t, compile(t, e))
}

func compile(t testing.TB, e connector.Entry[connector.Transform]) connector.Transform {
	t.Helper()
	tr, err := e.Build(context.Background(), connector.Deps{}, func(any) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestBase64(t *testing.T) {
	t.Parallel()
	decode, encode := build(t, Decode), build(t, Encode)
	for plain, coded := range map[string]string{"": "", "f": "Zg==", "fo": "Zm8=", "foobar": "Zm9vYmFy", "\xff\xfe?": "//4/"} {
		m := event.New([]byte(plain))
		m.Keep("view")
		if out, err := encode.Apply(context.Background(), nil, m); err != nil || len(out) != 1 || string(m.Data) != coded || m.View() != nil {
			t.Errorf("encode %q: %s, %v", plain, m.Data, err)
		}
		if out, err := decode.Apply(context.Background(), nil, m); err != nil || len(out) != 1 || string(m.Data) != plain || m.Data == nil {
			t.Errorf("decode %q: %s, %v", coded, m.Data, err)
		}
	}
	for _, bad := range []string{"Zg", "Z", "Zm9v!", "_-4_"} {
		m := event.New([]byte(bad))
		out, err := decode.Apply(context.Background(), nil, m)
		if fault.Of(err) != fault.Invalid || len(out) != 0 || string(m.Data) != bad || !strings.HasPrefix(err.Error(), "error decoding base64: illegal base64 data") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("Zm9vYmFy"))
	f.Add([]byte("Zm9v\r\nYmFy"))
	f.Add([]byte("===="))
	decode, encode := build(f, Decode), build(f, Encode)
	f.Fuzz(func(t *testing.T, data []byte) {
		m := event.New(bytes.Clone(data))
		if _, err := decode.Apply(context.Background(), nil, m); err != nil {
			return
		}
		plain := bytes.Clone(m.Data)
		if _, err := encode.Apply(context.Background(), nil, m); err != nil {
			t.Fatal(err)
		}
		if _, err := decode.Apply(context.Background(), nil, m); err != nil || !bytes.Equal(m.Data, plain) {
			t.Errorf("%q became %q, %v", plain, m.Data, err)
		}
	})
}

func TestAllocations(t *testing.T) {
	encode, out := build(t, Encode), make(event.Batch, 0, 1)
	m, data := event.New(nil), make([]byte, 1000)
	if n := testing.AllocsPerRun(100, func() {
		m.Replace(data)
		if _, err := encode.Apply(context.Background(), out, m); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("%.0f allocations, want 1", n)
	}
}

func FuzzEncode(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("foobar"))
	f.Add([]byte{0, 255, 128})
	decode, encode := build(f, Decode), build(f, Encode)
	f.Fuzz(func(t *testing.T, data []byte) {
		m := event.New(bytes.Clone(data))
		for _, tr := range []connector.Worker{encode, decode} {
			if out, err := tr.Apply(context.Background(), nil, m); err != nil || len(out) != 1 {
				t.Fatalf("%d messages, %v", len(out), err)
			}
		}
		if !bytes.Equal(m.Data, data) || !bytes.Equal(m.Raw(), data) {
			t.Errorf("%q became %q", data, m.Data)
		}
	})
}
