package cli

import (
	"bytes"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/config"
)

// TestLogsShowNoSecret logs what a library may put into an error, in both forms of a log.
func TestLogsShowNoSecret(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "text"} {
		var out bytes.Buffer
		log := logFlags{format: format}.logger(config.Process{}, &out, &out, slog.LevelInfo)
		cause := &url.Error{Op: "Post", URL: "https://me:s3cret@hooks.example/services/s3cret?k=s3cret", Err: errors.New("refused")}
		log.With("endpoint", "https://h.example/s3cret").WithGroup("request").Error("not sent", "error", cause, "api_key", "s3cret", "count", 3)
		text := out.String()
		if strings.Contains(text, "s3cret") || !strings.Contains(text, "https://hooks.example") || !strings.Contains(text, "refused") || !strings.Contains(text, "3") {
			t.Errorf("%s: %s", format, text)
		}
	}
}
