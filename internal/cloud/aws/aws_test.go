package aws_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/fault"
)

// request is what a service was asked.
type request struct{ action, authorization, token, agent, body string }

// service answers as AWS does: STS by the query protocol, others in JSON.
type service struct {
	*httptest.Server
	mu   sync.Mutex
	seen []request
	// answer decides about the n-th request (from 0) that is not one to STS.
	answer func(n int, w http.ResponseWriter)
	// assumed counts sessions.
	assumed int
	denied  bool
}

func serve(t *testing.T, answer func(n int, w http.ResponseWriter)) *service {
	t.Helper()
	s := &service{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(s.handle))
	t.Cleanup(s.Close)
	return s
}

func (s *service) handle(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	req := request{action: r.Header.Get("X-Amz-Target"), authorization: r.Header.Get("Authorization"), token: r.Header.Get("X-Amz-Security-Token"), agent: r.UserAgent(), body: string(body)}
	for _, action := range []string{"AssumeRole", "AssumeRoleWithWebIdentity"} {
		if strings.Contains(req.body, "Action="+action+"&") {
			req.action = action
		}
	}
	if strings.HasPrefix(r.URL.Path, "/role") {
		req.action = "container"
		_, _ = io.WriteString(w, `{"AccessKeyId":"AKIDBOX","SecretAccessKey":"s","Token":"box-token","Expiration":"2999-01-01T00:00:00Z"}`)
	}
	s.seen = append(s.seen, req)
	switch {
	case req.action == "container":
	case strings.HasPrefix(req.action, "Assume") && s.denied:
		w.WriteHeader(403)
		_, _ = io.WriteString(w, `<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>`)
	case strings.HasPrefix(req.action, "Assume"):
		s.assumed++
		_, _ = fmt.Fprintf(w, `<%[1]sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%[1]sResult><Credentials><AccessKeyId>AKIDROLE%[2]d</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>token%[2]d</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration></Credentials><AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/r/weir</Arn><AssumedRoleId>A:weir</AssumedRoleId></AssumedRoleUser></%[1]sResult></%[1]sResponse>`, req.action, s.assumed)
	default:
		n := 0
		for _, q := range s.seen[:len(s.seen)-1] {
			if strings.HasPrefix(q.action, "Kinesis") {
				n++
			}
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		s.answer(n, w)
	}
}

func (s *service) requests() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]request(nil), s.seen...)
}

func fine(_ int, w http.ResponseWriter) {
	_, _ = io.WriteString(w, `{"StreamNames":[],"HasMoreStreams":false}`)
}

func refuse(status int, code, text string) func(int, http.ResponseWriter) {
	return func(_ int, w http.ResponseWriter) {
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"__type":%q,"message":%q}`, code, text)
	}
}

// alone clears what the machine and other tests say about AWS.
func alone(t *testing.T) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func keys(t *testing.T) {
	t.Helper()
	alone(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hush-hush-key")
}

func call(t *testing.T, a aws.Access) error {
	t.Helper()
	cfg, err := aws.Load(t.Context(), a)
	if err != nil {
		return err
	}
	defer aws.Close(cfg)
	_, err = kinesis.NewFromConfig(cfg).ListStreams(t.Context(), &kinesis.ListStreamsInput{})
	return aws.Fault("list streams", err)
}

// TestChain: each link of the standard chain is found.
func TestChain(t *testing.T) {
	for _, row := range []struct {
		name  string
		set   func(t *testing.T, s *service)
		key   string
		token string
		asks  string // before the call itself
	}{
		{"environment", func(t *testing.T, _ *service) {
			t.Setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
			t.Setenv("AWS_SESSION_TOKEN", "env-token")
		}, "AKIDENV", "env-token", ""},
		{"profile", func(t *testing.T, _ *service) {
			file := filepath.Join(t.TempDir(), "credentials")
			if err := os.WriteFile(file, []byte("[mine]\naws_access_key_id = AKIDFILE\naws_secret_access_key = x\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
			t.Setenv("AWS_PROFILE", "mine")
		}, "AKIDFILE", "", ""},
		{"container", func(t *testing.T, s *service) {
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", s.URL+"/role")
		}, "AKIDBOX", "box-token", "container"},
		{"web identity", func(t *testing.T, _ *service) {
			file := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(file, []byte("signed-by-cluster"), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file)
			t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/pod")
		}, "AKIDROLE1", "token1", "AssumeRoleWithWebIdentity"},
	} {
		t.Run(row.name, func(t *testing.T) {
			alone(t)
			s := serve(t, fine)
			row.set(t, s)
			if err := call(t, aws.Access{Region: "eu-central-1", Endpoint: s.URL, Version: "1.2.3"}); err != nil {
				t.Fatal(err)
			}
			seen := s.requests()
			last := seen[len(seen)-1]
			if !strings.Contains(last.authorization, "Credential="+row.key+"/") || !strings.Contains(last.authorization, "/eu-central-1/kinesis/") || last.token != row.token || !strings.Contains(last.agent, "weir/1.2.3") {
				t.Errorf("the call was signed %+v", last)
			}
			asked := ""
			if len(seen) > 1 {
				asked = seen[0].action
			}
			if asked != row.asks || len(seen) > 2 {
				t.Errorf("%d requests, the first %q, want %q before the call", len(seen), asked, row.asks)
			}
		})
	}
}

// TestRole: a role is assumed by the first request that needs it, with the external id, and again when a
// service has refused what the session gave.
func TestRole(t *testing.T) {
	keys(t)
	s := serve(t, func(n int, w http.ResponseWriter) {
		if n == 1 {
			refuse(400, "com.amazonaws.kinesis#ExpiredTokenException", "it is over")(n, w)
			return
		}
		fine(n, w)
	})
	cfg, err := aws.Load(t.Context(), aws.Access{Region: "eu-central-1", Endpoint: s.URL, RoleARN: "arn:aws:iam::123456789012:role/reader", ExternalID: "theirs"})
	if err != nil {
		t.Fatal(err)
	}
	if seen := s.requests(); len(seen) != 0 {
		t.Fatalf("loading asked %+v", seen)
	}
	c := kinesis.NewFromConfig(cfg)
	list := func() error {
		_, err := c.ListStreams(t.Context(), &kinesis.ListStreamsInput{})
		return aws.Fault("list streams", err)
	}
	if err := list(); err != nil {
		t.Fatal(err)
	}
	if err := list(); err == nil || fault.Of(err) != fault.Transient || fault.DetailOf(err).Code != "ExpiredTokenException" {
		t.Fatalf("an expired token: %v", err)
	}
	if err := list(); err != nil {
		t.Fatal(err)
	}
	var trace []string
	for _, r := range s.requests() {
		trace = append(trace, r.action+"/"+r.token)
	}
	want := "AssumeRole/ Kinesis_20131202.ListStreams/token1 Kinesis_20131202.ListStreams/token1 AssumeRole/ Kinesis_20131202.ListStreams/token2"
	if got := strings.Join(trace, " "); got != want {
		t.Errorf("asked\n%s, want\n%s", got, want)
	}
	if body := s.requests()[0].body; !strings.Contains(body, "ExternalId=theirs") {
		t.Errorf("the role was assumed by %s", body)
	}
}

func TestRoleDenied(t *testing.T) {
	keys(t)
	s := serve(t, fine)
	s.denied = true
	err := call(t, aws.Access{Region: "eu-central-1", Endpoint: s.URL, RoleARN: "arn:aws:iam::123456789012:role/reader"})
	if fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "AccessDenied: not you; allow sts:AssumeRole in a policy") {
		t.Error(err)
	}
}

func TestNothingKnown(t *testing.T) {
	alone(t)
	if err := call(t, aws.Access{Endpoint: "http://127.0.0.1:1"}); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "AWS_REGION") {
		t.Errorf("without a region: %v", err)
	}
	if err := call(t, aws.Access{Region: "r-1", Endpoint: "http://127.0.0.1:1"}); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "AWS_PROFILE") {
		t.Errorf("without credentials: %v", err)
	}
	t.Setenv("AWS_PROFILE", "nobody")
	if err := call(t, aws.Access{Region: "r-1"}); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("with a profile that is not there: %v", err)
	}
}

// TestOneAttempt: what a service refuses is not asked again, whatever it is.
func TestOneAttempt(t *testing.T) {
	keys(t)
	for _, row := range []struct {
		status int
		code   string
		kind   fault.Kind
		says   string
	}{
		{400, "ProvisionedThroughputExceededException", fault.Throttled, "too fast"},
		{400, "LimitExceededException", fault.Throttled, ""},
		{500, "InternalFailure", fault.Transient, ""},
		{503, "", fault.Transient, ""},
		{500, "NeverHeardOf", fault.Transient, ""},
		{400, "NeverHeardOf", fault.Setup, ""},
		{429, "NeverHeardOf", fault.Throttled, ""},
		{400, "AccessDeniedException", fault.Setup, "allow kinesis:ListStreams in a policy"},
		{400, "ResourceNotFoundException", fault.Setup, "make it"},
		{400, "KMSDisabledException", fault.Setup, "kms:Decrypt"},
		{400, "com.amazonaws.kinesis.v20131202#ResourceInUseException:http://internal/", fault.Transient, ""},
		{400, "UnrecognizedClientException", fault.Setup, "credentials are not valid"},
	} {
		s := serve(t, refuse(row.status, row.code, "too fast"))
		err := call(t, aws.Access{Region: "eu-central-1", Endpoint: s.URL})
		if fault.Of(err) != row.kind || !strings.Contains(err.Error(), row.says) || !strings.HasPrefix(err.Error(), "list streams: ") {
			t.Errorf("%d %s is %s: %v", row.status, row.code, fault.Of(err), err)
		}
		if n := len(s.requests()); n != 1 {
			t.Errorf("%d %s was asked %d times", row.status, row.code, n)
		}
	}
}

func TestUnreachable(t *testing.T) {
	keys(t)
	s := serve(t, fine)
	s.Close()
	err := call(t, aws.Access{Region: "eu-central-1", Endpoint: s.URL})
	if fault.Of(err) != fault.Transient || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%s: %v", fault.Of(err), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cfg, err := aws.Load(t.Context(), aws.Access{Region: "eu-central-1", Endpoint: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	_, err = kinesis.NewFromConfig(cfg).ListStreams(ctx, &kinesis.ListStreamsInput{})
	if err = aws.Fault("list streams", err); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestFrozen: a service that says nothing ends an attempt, before or in the middle of its answer.
func TestFrozen(t *testing.T) {
	keys(t)
	for _, begin := range []string{"", `{"Stre`} {
		hold := make(chan struct{})
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if begin != "" {
				_, _ = io.WriteString(w, begin)
				_ = http.NewResponseController(w).Flush()
			}
			<-hold
		}))
		err := call(t, aws.Access{Region: "eu-central-1", Endpoint: s.URL, Timeout: 100 * time.Millisecond})
		if err == nil || fault.Of(err) != fault.Transient {
			t.Errorf("frozen after %q: %v", begin, err)
		}
		close(hold)
		s.Close()
	}
}

// TestSecrets: what a service repeats of a signed request is not shown.
func TestSecrets(t *testing.T) {
	keys(t)
	text := "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.\n\nThe Canonical String for this request should have been\n'POST\n/\n\nhost:kinesis\nx-amz-security-token:hush-token\n\nhost;x-amz-date\nhash'\n\nThe String-to-Sign should have been\n'AWS4-HMAC-SHA256\n20261129'"
	for _, row := range []struct{ code, text string }{
		{"InvalidSignatureException", text},
		{"IncompleteSignatureException", "Authorization header requires 'Signature' parameter. Authorization=AWS4-HMAC-SHA256 Credential=AKID/hush-token, Signature=hush-token"},
		{"SomethingElse", "refused x-amz-security-token: hush-token, look at https://user:hush-token@host/hush-token?x=hush-token"},
	} {
		s := serve(t, refuse(400, row.code, row.text))
		err := call(t, aws.Access{Region: "eu-central-1", Endpoint: s.URL})
		if err == nil || strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "\n") || fault.DetailOf(err).Code != row.code {
			t.Errorf("%s says: %v", row.code, err)
		}
	}
}

func TestEntry(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		code string
		kind fault.Kind
	}{
		{"ProvisionedThroughputExceededException", fault.Throttled}, {"InternalFailure", fault.Transient}, {"InvalidMessageContents", fault.Invalid},
		{"AWS.SimpleQueueService.NonExistentQueue", fault.Setup}, {"Unknown", fault.Transient}, {"", fault.Transient},
	} {
		err := aws.Entry("put a record", row.code, "why")
		if fault.Of(err) != row.kind || aws.Kind(row.code) != row.kind || !strings.Contains(err.Error(), ": why") {
			t.Errorf("%s is %s: %v", row.code, fault.Of(err), err)
		}
	}
	if aws.Fault("x", nil) != nil {
		t.Error("no error became one")
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	good := aws.Access{Region: "us-gov-west-1", RoleARN: "arn:aws-us-gov:iam::123456789012:role/path/name", Endpoint: "http://localhost:4566"}
	if ps := good.Problems(); len(ps) != 0 {
		t.Error(ps)
	}
	standIn := aws.Access{Region: "eu-test-1", RoleARN: "xxx-test-role-arn", Endpoint: "http://integration-localstack-1:4566"}
	if ps := standIn.Problems(); len(ps) != 0 {
		t.Error(ps)
	}
	bad := aws.Access{Region: "Frankfurt!", RoleARN: "the reader", Endpoint: "localhost:4566"}
	var fields []string
	for _, p := range bad.Problems() {
		fields = append(fields, p.Field)
	}
	if got := strings.Join(fields, " "); got != "region role_arn custom_aws_endpoint" {
		t.Errorf("problems of %s", got)
	}
}

// TestAuthorities: the certificates of AWS_CA_BUNDLE are trusted, and others are not.
func TestAuthorities(t *testing.T) {
	keys(t)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fine(0, w) }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshake that is refused
	defer s.Close()
	if err := call(t, aws.Access{Region: "eu-central-1", Endpoint: s.URL}); fault.Of(err) != fault.Setup || !strings.Contains(err.Error(), "AWS_CA_BUNDLE") {
		t.Errorf("an unknown authority: %v", err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", file)
	if err := call(t, aws.Access{Region: "eu-central-1", Endpoint: s.URL}); err != nil {
		t.Error(err)
	}
}

// TestRedirect: a redirect is the answer; a request is signed for where it goes.
func TestRedirect(t *testing.T) {
	keys(t)
	elsewhere := serve(t, fine)
	s := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer s.Close()
	if err := call(t, aws.Access{Region: "eu-central-1", Endpoint: s.URL}); err == nil || len(elsewhere.requests()) != 0 {
		t.Errorf("%v, and %d requests elsewhere", err, len(elsewhere.requests()))
	}
}

// TestClock: a request that a wrong clock has spoilt is sent again with the right one.
func TestClock(t *testing.T) {
	keys(t)
	s := serve(t, func(n int, w http.ResponseWriter) {
		w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		if n == 0 {
			refuse(400, "InvalidSignatureException", "Signature expired")(n, w)
			return
		}
		fine(n, w)
	})
	if err := call(t, aws.Access{Region: "eu-central-1", Endpoint: s.URL}); err != nil {
		t.Error(err)
	}
}
