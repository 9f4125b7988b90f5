//go:build unix

package cli_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// signers is an address that answers everybody 503, and tells by which key they came.
func signers(t *testing.T, by *regexp.Regexp) (at string, came <-chan string) {
	t.Helper()
	seen := make(chan string, 1<<16)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if found := by.FindStringSubmatch(r.Header.Get("Authorization") + "\n" + string(body)); found != nil {
			select {
			case seen <- found[1]:
			default: // enough has been seen
			}
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(s.Close)
	return s.URL, seen
}

// TestKeysOfCloudsRotate: a reload with the same config has what speaks to AWS, and what asks for a
// token, use the keys that files hold now.
func TestKeysOfCloudsRotate(t *testing.T) {
	t.Parallel()
	const aws, secret = `Credential=([^/]+)/`, `client_secret=([^&\s]+)`
	for name, c := range map[string]struct{ by, block string }{
		"source sqs":     {aws, "    queue_name = \"q\"\n    region = \"eu-central-1\"\n    custom_aws_endpoint = %[1]q\n"},
		"target sqs":     {aws, "    queue_name = \"q\"\n    region = \"eu-central-1\"\n    custom_aws_endpoint = %[1]q\n"},
		"source kinesis": {aws, "    stream_name = \"s\"\n    region = \"eu-central-1\"\n    app_name = \"weir\"\n    custom_aws_endpoint = %[1]q\n    custom_dynamodb_endpoint = %[1]q\n"},
		"target kinesis": {aws, "    stream_name = \"s\"\n    region = \"eu-central-1\"\n    custom_aws_endpoint = %[1]q\n"},
		"target http": {secret, "    url = \"http://127.0.0.1:1/\"\n    oauth_client {\n      token_url = %[1]q\n      client_id = \"me\"\n" +
			"      client_secret = file(\"secret\")\n    }\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at, came := signers(t, regexp.MustCompile(c.by))
			kind, use, _ := strings.Cut(name, " ")
			other := map[string]string{"target": "  source {\n    use \"generate\" {\n      kind = \"events\"\n      rate = 20\n    }\n  }\n", "source": "  target {\n    use \"file\" {\n      path = \"out\"\n    }\n  }\n"}[kind]
			config := fmt.Sprintf("pipeline \"p\" {\n  on_failure = \"restart\"\n%s  %s {\n    use %q {\n%s    }\n  }\n  failure_target {\n    use \"file\" {\n      path = \"failed\"\n    }\n  }\n"+
				"  retry {\n    setup {\n      max_attempts = 1\n    }\n    transient {\n      delay_ms = 100\n      max_attempts = 1\n    }\n  }\n}\n", other, kind, use, fmt.Sprintf(c.block, at))
			keys := func(name string) (string, string) {
				return fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = it-is-a-secret\n", name), name + "\n"
			}
			shared, plain := keys("first-key")
			w := weir(t, files(t, "p.hcl", config, "keys", shared, "secret", plain), "run", "p.hcl")
			w.Env = append(w.Env, "AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(w.Dir, "keys"), "AWS_CONFIG_FILE="+filepath.Join(w.Dir, "none"),
				"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_SESSION_TOKEN=", "AWS_PROFILE=", "AWS_EC2_METADATA_DISABLED=true")
			p := launch(t, w)
			wait := func(key string) { t.Helper(); p.untilSeen(came, key) }
			wait("first-key")
			shared, plain = keys("second-key")
			write(t, filepath.Join(p.dir, "keys"), shared)
			write(t, filepath.Join(p.dir, "secret"), plain)
			for n := 1; !strings.Contains(p.err.String(), "the new config runs"); n++ {
				p.reloads(n) // before the first attempt to open has failed nothing runs that could be replaced
			}
			wait("second-key")
			if strings.Contains(p.err.String(), "it-is-a-secret") {
				t.Errorf("a secret is in the log:\n%s", p.err)
			}
			p.signal(syscall.SIGKILL)
		})
	}
}

// untilSeen waits until somebody has come with a key.
func (p *process) untilSeen(came <-chan string, key string) {
	p.t.Helper()
	late := time.After(patience)
	for {
		select {
		case k := <-came:
			if k == key {
				return
			}
		case <-p.ended:
			p.t.Fatalf("it has ended:\n%s", p.err)
		case <-late:
			p.t.Fatalf("nobody came with %s:\n%s", key, p.err)
		}
	}
}
