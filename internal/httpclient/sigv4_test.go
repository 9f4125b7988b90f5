package httpclient

import (
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestSigV4: signatures that AWS has published, of its test suite for Signature Version 4 and of
// the documentation of S3.
func TestSigV4(t *testing.T) {
	t.Parallel()
	suite := Keys{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
	documented := Keys{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
	for _, row := range []struct {
		name, method, url, service string
		keys                       Keys
		at                         time.Time
		header                     http.Header
		signed, signature          string
	}{
		{"get-vanilla", "GET", "https://example.amazonaws.com/", "service", suite, time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC), nil,
			"host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"post-vanilla", "POST", "https://example.amazonaws.com/", "service", suite, time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC), nil,
			"host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
		{"get-vanilla-query-order-key-case", "GET", "https://example.amazonaws.com/?Param2=value2&Param1=value1", "service", suite, time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC), nil,
			"host;x-amz-date", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
		{"S3, GET Object", "GET", "https://examplebucket.s3.amazonaws.com/test.txt", "s3", documented, time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC), http.Header{"Range": {"bytes=0-9"}},
			"host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
	} {
		s := NewSigV4("us-east-1", row.service, row.keys)
		s.now = func() time.Time { return row.at }
		req, err := http.NewRequest(row.method, row.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(req.Header, row.header)
		if err := s.Authorize(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		want := "AWS4-HMAC-SHA256 Credential=" + row.keys.AccessKeyID + "/" + row.at.Format("20060102") + "/us-east-1/" + row.service + "/aws4_request, SignedHeaders=" + row.signed + ", Signature=" + row.signature
		if got := req.Header.Get("Authorization"); got != want {
			t.Errorf("%s:\n%s, want\n%s", row.name, got, want)
		}
	}
}

// TestSigV4Body: the body is signed and still sent, one that cannot be read twice is refused,
// and requests that share a URL may be signed at once.
func TestSigV4Body(t *testing.T) {
	t.Parallel()
	s := NewSigV4("r", "execute-api", Keys{"AKID", "secret", "session"})
	shared, err := url.Parse("https://a.example/x?b=1&a=2")
	if err != nil {
		t.Fatal(err)
	}
	sign := func(body string) string {
		req, _ := http.NewRequest("POST", shared.String(), strings.NewReader(body))
		req.URL = shared
		if err := s.Authorize(t.Context(), req); err != nil {
			t.Error(err)
		}
		if req.Header.Get("X-Amz-Security-Token") != "session" {
			t.Error("no session token")
		}
		return req.Header.Get("Authorization")
	}
	s.now = func() time.Time { return time.Unix(0, 0) }
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { sign("x") })
	}
	wg.Wait()
	if sign("a") == sign("b") {
		t.Error("two bodies have one signature")
	}
	if shared.RawQuery != "b=1&a=2" {
		t.Errorf("the shared URL is now %s", shared)
	}
	if got := s.Secrets(); len(got) != 2 {
		t.Errorf("secrets %q", got)
	}
	once, _ := http.NewRequest("POST", "https://a.example", http.MaxBytesReader(nil, http.NoBody, 1))
	if err := s.Authorize(t.Context(), once); err == nil || !strings.Contains(err.Error(), "read twice") {
		t.Error(err)
	}
}
