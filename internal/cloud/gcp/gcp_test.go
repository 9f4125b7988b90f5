package gcp_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	"github.com/weirdata/weir/internal/cloud/gcp"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
)

func TestCheckEndpoint(t *testing.T) {
	t.Parallel()
	for endpoint, good := range map[string]bool{
		"": true, "pubsub.googleapis.com:443": true, "http://localhost:8085": true, "https://europe-west1-pubsub.googleapis.com": true,
		"http://localhost": true, "[::1]:8085": true, "http://[::1]:1/": true,
		"localhost": false, ":443": false, "ftp://a:1": false, "http://a:1/path": false, "http://user:secret@a:1": false, "http://": false, "a:": false,
	} {
		ps := gcp.CheckEndpoint(endpoint)
		if (len(ps) == 0) != good {
			t.Errorf("%q: %v", endpoint, ps)
		}
		for _, p := range ps {
			if p.Field != "endpoint" || p.Fix == "" || strings.Contains(p.What, "secret") {
				t.Errorf("%q: %+v", endpoint, p)
			}
		}
		_, err := gcp.Access{Endpoint: endpoint}.Options()
		if good && err != nil {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
}

// TestCredentials: what a file holds is looked at before it is used, and its contents are in no
// error.
func TestCredentials(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for text, want := range map[string]string{
		`{"type": "service_account", "private_key": "hidden"}`:      "",
		`{"type": "authorized_user", "refresh_token": "hidden"}`:    "",
		`{"type": "external_account"}`:                              "",
		`{"type": "gdch_service_account", "private_key": "hidden"}`: "not one of",
		`{"private_key": "hidden"}`:                                 `type ""`,
		`hidden`:                                                    "not JSON",
		`["hidden"]`:                                                "not JSON",
	} {
		path := filepath.Join(dir, "credentials.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := gcp.Access{Credentials: path, Field: "credentials_path"}.Options()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", text, err)
		}
		if err == nil {
			continue
		}
		m, ok := errors.AsType[*connector.Misconfigured](err)
		if !ok || m.Field != "credentials_path" || fault.Of(err) != fault.Setup || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %#v", text, err)
		}
	}
	// Where nothing is encrypted, no credentials are looked at.
	if _, err := (gcp.Access{Credentials: "none", Endpoint: "http://localhost:1"}).Options(); err != nil {
		t.Error(err)
	}
}

func TestEmulator(t *testing.T) {
	t.Setenv("WEIR_TEST_EMULATOR_HOST", "localhost:1")
	a := gcp.Access{Emulator: "WEIR_TEST_EMULATOR_HOST", Credentials: "none", Endpoint: "example.com:443"}
	if a.Emulated() != "localhost:1" {
		t.Errorf("the emulator is at %q", a.Emulated())
	}
	if _, err := a.Options(); err != nil {
		t.Errorf("credentials are looked at for an emulator: %v", err)
	}
}

func TestFailed(t *testing.T) {
	t.Parallel()
	r := gcp.Remedy{Missing: "create it", Denied: "grant it"}
	for code, want := range map[codes.Code]struct {
		kind fault.Kind
		text string
	}{
		codes.Unavailable: {fault.Transient, ""}, codes.Internal: {fault.Transient, ""}, codes.DeadlineExceeded: {fault.Transient, ""},
		codes.Canceled: {fault.Transient, ""}, codes.Aborted: {fault.Transient, ""}, codes.Unknown: {fault.Transient, ""},
		codes.ResourceExhausted: {fault.Throttled, ""}, codes.InvalidArgument: {fault.Invalid, ""}, codes.OutOfRange: {fault.Invalid, ""},
		codes.NotFound: {fault.Setup, "create it"}, codes.PermissionDenied: {fault.Setup, "grant it"}, codes.Unauthenticated: {fault.Setup, "credentials"},
		codes.FailedPrecondition: {fault.Setup, ""}, codes.Unimplemented: {fault.Setup, ""},
	} {
		err := gcp.Failed("do it", status.Error(code, "see https://example.com/a?token=hidden"), r)
		text := err.Error()
		if fault.Of(err) != want.kind || !strings.HasPrefix(text, "do it: ") || !strings.Contains(text, want.text) || strings.Contains(text, "hidden") {
			t.Errorf("%s is %s: %v", code, fault.Of(err), err)
		}
		if status.Code(errors.Unwrap(errors.Unwrap(err))) != code {
			t.Errorf("%s is not in the chain of its error", code)
		}
	}
	if gcp.Failed("do it", nil, r) != nil {
		t.Error("no error is one")
	}
	slow, err := status.New(codes.ResourceExhausted, "slow").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(7 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	if d := fault.After(gcp.Failed("do it", slow.Err(), r)); d != 7*time.Second {
		t.Errorf("asked to wait %s", d)
	}
}

// client is one that notes how it is used.
type client struct {
	closed int
	users  int
}

func (c *client) Close() error {
	c.closed++
	return nil
}

// TestLink: whatever is taken, given back and given up, a client that was given up is not given
// out again, none is closed while it is used, and each is closed once.
func TestLink(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var all []*client
		fails := false
		link := gcp.NewLink(func(context.Context) (*client, error) {
			if fails {
				return nil, errors.New("could not find default credentials")
			}
			c := &client{}
			all = append(all, c)
			return c, nil
		})
		given := map[*client]bool{}
		var uses []*gcp.Use[*client]
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			fails = rapid.IntRange(0, 9).Draw(t, "fails") == 0
			if len(uses) == 0 || rapid.Bool().Draw(t, "take") {
				n := len(all)
				u, err := link.Take(t.Context())
				if err != nil {
					if !fails || fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "gcloud auth application-default login") {
						t.Fatal(err)
					}
					continue
				}
				if given[u.Client] || u.Client.closed > 0 {
					t.Fatal("a client is given out that was given up")
				}
				if len(all) > n+1 {
					t.Fatal("two clients were made for one")
				}
				u.Client.users++
				uses = append(uses, u)
				continue
			}
			i := rapid.IntRange(0, len(uses)-1).Draw(t, "which")
			u, stale := uses[i], rapid.IntRange(0, 3).Draw(t, "stale") == 0
			uses = append(uses[:i], uses[i+1:]...)
			u.Client.users--
			link.Give(u, stale)
			given[u.Client] = given[u.Client] || stale
			select {
			case <-u.Stale:
				if !given[u.Client] {
					t.Fatal("a client is stale that was not given up")
				}
			default:
				if given[u.Client] {
					t.Fatal("nobody is told of a client that was given up")
				}
			}
			for _, c := range all {
				if (c.closed > 0) != (given[c] && c.users == 0) {
					t.Fatalf("closed %d times, given up %t, used by %d", c.closed, given[c], c.users)
				}
			}
		}
		if err := link.Close(); err != nil {
			t.Fatal(err)
		}
		for _, u := range uses {
			link.Give(u, rapid.Bool().Draw(t, "late"))
		}
		for i, c := range all {
			if c.closed != 1 {
				t.Fatalf("client %d was closed %d times", i, c.closed)
			}
		}
		if _, err := link.Take(t.Context()); err == nil {
			t.Fatal("a client is given out after Close")
		}
	})
}

func TestUnanswered(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx  context.Context
		err  error
		want bool
	}{
		{t.Context(), status.Error(codes.DeadlineExceeded, "x"), true},
		{t.Context(), fmt.Errorf("x: %w", context.DeadlineExceeded), true},
		{ended, status.Error(codes.DeadlineExceeded, "x"), false},
		{t.Context(), status.Error(codes.Unavailable, "x"), false},
		{t.Context(), nil, false},
	} {
		if got := gcp.Unanswered(c.ctx, c.err); got != c.want {
			t.Errorf("%v: %t", c.err, got)
		}
	}
}
