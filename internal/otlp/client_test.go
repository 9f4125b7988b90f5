package otlp

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestClient: the environment's certificates and timeouts count, the signal's own first, and
// what could never work is refused.
func TestClient(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		env     map[string]string
		refused string
		timeout time.Duration
		reaches bool
	}{
		{nil, "", 10 * time.Second, false},
		{map[string]string{"OTEL_EXPORTER_OTLP_CERTIFICATE": ca, "OTEL_EXPORTER_OTLP_TIMEOUT": "20000"}, "", 20 * time.Second, true},
		{map[string]string{"OTEL_EXPORTER_OTLP_CERTIFICATE": "/no", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": ca}, "", 10 * time.Second, true},
		{map[string]string{"OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE": ca}, "", 10 * time.Second, false},
		{map[string]string{"OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": "/no"}, "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", 0, false},
		{map[string]string{"OTEL_EXPORTER_OTLP_TIMEOUT": "10s"}, "milliseconds", 0, false},
		{map[string]string{"OTEL_EXPORTER_OTLP_CLIENT_KEY": "x"}, "without the other", 0, false},
		{map[string]string{"OTEL_EXPORTER_OTLP_CLIENT_KEY": "x", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "y"}, "CLIENT_KEY", 0, false},
	} {
		c, err := client("traces", func(name string) string { return row.env[name] })
		if row.refused != "" {
			if err == nil || !strings.Contains(err.Error(), row.refused) {
				t.Errorf("%v: %v", row.env, err)
			}
			continue
		}
		if err != nil || c.Timeout != row.timeout {
			t.Fatalf("%v: %v, %v", row.env, c.Timeout, err)
		}
		resp, err := c.Get(s.URL)
		if (err == nil) != row.reaches {
			t.Errorf("%v: %v", row.env, err)
		}
		if err == nil {
			_ = resp.Body.Close()
		}
		c.CloseIdleConnections()
	}
}

// TestRedirects: no export takes its headers to another server.
func TestRedirects(t *testing.T) {
	t.Parallel()
	away := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the other server was asked") }))
	defer away.Close()
	s := httptest.NewServer(http.RedirectHandler(away.URL, http.StatusTemporaryRedirect))
	defer s.Close()
	c, err := client("metrics", func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	req, _ := http.NewRequest(http.MethodPost, s.URL, strings.NewReader("x"))
	req.Header.Set("Api-Key", "hush")
	resp, err := c.Do(req)
	if err != nil || resp.StatusCode != http.StatusTemporaryRedirect {
		t.Errorf("%v", err)
	}
	_ = resp.Body.Close()
}
