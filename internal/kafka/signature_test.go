package kafka

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
)

// verified checks what a client has sent to sign in with AWS_MSK_IAM, as the brokers of Amazon do:
// the fields are all there are, the time is now, and the signature is that which the signer of the
// AWS SDK makes of the same request.
func verified(sent []byte, host, region string, by sdk.Credentials) error {
	got := map[string]string{}
	if err := json.Unmarshal(sent, &got); err != nil {
		return err
	}
	at, err := time.Parse("20060102T150405Z", got["x-amz-date"])
	if err != nil {
		return err
	}
	if since := time.Since(at); since < -time.Minute || since > 15*time.Minute {
		return fmt.Errorf("it was signed %s ago", since)
	}
	ask, err := http.NewRequest(http.MethodGet, "kafka://"+host+"/?Action=kafka-cluster%3AConnect&X-Amz-Expires=900", http.NoBody)
	if err != nil {
		return err
	}
	ask.Host = host
	const nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	signed, _, err := v4.NewSigner().PresignHTTP(context.Background(), by, ask, nothing, "kafka-cluster", region, at)
	if err != nil {
		return err
	}
	u, err := url.Parse(signed)
	if err != nil {
		return err
	}
	want := map[string]string{"version": "2020_10_22", "host": host, "user-agent": got["user-agent"]}
	for name, values := range u.Query() {
		want[strings.ToLower(name)] = values[0]
	}
	if got["user-agent"] == "" {
		return fmt.Errorf("it has no user agent")
	}
	if d := cmp.Diff(want, got); d != "" {
		return fmt.Errorf("it differs from what the SDK signs: %s", d)
	}
	return nil
}

// sharedKeys has the chain of credentials find nothing but what the returned function writes.
func sharedKeys(t *testing.T) (write func(sdk.Credentials)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "credentials")
	for name, value := range map[string]string{
		"AWS_SHARED_CREDENTIALS_FILE": file, "AWS_CONFIG_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "",
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
	} {
		t.Setenv(name, value)
	}
	return func(c sdk.Credentials) {
		t.Helper()
		text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = %s\n", c.AccessKeyID, c.SecretAccessKey, c.SessionToken)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSignatureOfAmazon: what signs in with AWS_MSK_IAM is what the signer of the AWS SDK makes,
// at every kind of address that brokers of Amazon have, and with the credentials as they are at
// that time.
func TestSignatureOfAmazon(t *testing.T) {
	write := sharedKeys(t)
	m := Connection{SASLAlgorithm: mskIAM}.mechanism(Means{})
	if _, _, err := m.Authenticate(t.Context(), "b-1.events.abc123.c2.kafka.eu-central-1.amazonaws.com:9098"); err == nil || !strings.Contains(err.Error(), "find credentials") {
		t.Errorf("without credentials: %v", err)
	}
	for i, broker := range []struct{ host, region string }{
		{"b-1.events.abc123.c2.kafka.eu-central-1.amazonaws.com", "eu-central-1"},
		{"boot-abc123.c2.kafka-serverless.us-east-1.amazonaws.com", "us-east-1"},
		{"b-2-public.events.abc123.c2.kafka.us-gov-west-1.amazonaws.com", "us-gov-west-1"},
		{"b-1.events.abc123.c2.kafka.cn-north-1.amazonaws.com.cn", "cn-north-1"},
	} {
		keys := sdk.Credentials{AccessKeyID: fmt.Sprint("AKIDEXAMPLE", i), SecretAccessKey: fmt.Sprint("it/is+a=secret", i)}
		if i%2 == 1 {
			keys.SessionToken = fmt.Sprintf("token/+=%d==", i)
		}
		write(keys)
		_, sent, err := m.Authenticate(t.Context(), broker.host+":9098")
		if err == nil {
			err = verified(sent, broker.host, broker.region, keys)
		}
		if err != nil {
			t.Errorf("%s: %v", broker.host, err)
		}
		if strings.Contains(string(sent), keys.SecretAccessKey) {
			t.Errorf("%s: the secret is sent", broker.host)
		}
	}
	if _, _, err := m.Authenticate(t.Context(), "broker.example.com:9098"); err == nil || !strings.Contains(err.Error(), "region") {
		t.Errorf("an address that has no region in it, and none in the environment: %v", err)
	}
	t.Setenv("AWS_REGION", "eu-west-1")
	keys := sdk.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret"}
	write(keys)
	_, sent, err := m.Authenticate(t.Context(), "broker.example.com:9098")
	if err == nil {
		err = verified(sent, "broker.example.com", "eu-west-1", keys)
	}
	if err != nil {
		t.Errorf("an address of one's own: %v", err)
	}
}

// TestSigningInAtAmazon: a broker that checks signatures lets a client in, and refuses one with
// another secret with what to do about it.
func TestSigningInAtAmazon(t *testing.T) {
	write := sharedKeys(t)
	t.Setenv("AWS_REGION", "eu-west-1")
	keys := sdk.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret-4711", SessionToken: "token-8217"}
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The fake knows no such mechanism: the test has the part of the broker.
	c.ControlKey(int16(kmsg.SASLHandshake), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := r.ResponseKind().(*kmsg.SASLHandshakeResponse)
		resp.SupportedMechanisms = []string{"AWS_MSK_IAM"}
		if r.(*kmsg.SASLHandshakeRequest).Mechanism != "AWS_MSK_IAM" {
			resp.ErrorCode = kerr.UnsupportedSaslMechanism.Code
		}
		return resp, nil, true
	})
	var letIn atomic.Int64
	c.ControlKey(int16(kmsg.SASLAuthenticate), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := r.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		if refused := verified(r.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes, "127.0.0.1", "eu-west-1", keys); refused == nil {
			letIn.Add(1)
			resp.SASLAuthBytes = []byte(`{"version":"2020_10_22","request-id":"1"}`)
		} else {
			resp.ErrorCode, resp.ErrorMessage = kerr.SaslAuthenticationFailed.Code, new("Access denied")
		}
		return resp, nil, true
	})
	reach := func() error {
		conn := DefaultConnection()
		conn.Brokers, conn.EnableSASL, conn.SASLAlgorithm = strings.Join(c.ListenAddrs(), ","), true, mskIAM
		cl, err := kgo.NewClient(conn.Options(connector.Deps{}, Means{})...)
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		return Ping(t.Context(), cl)
	}
	write(keys)
	if err := reach(); err != nil || letIn.Load() == 0 {
		t.Errorf("the right keys: %v; let in %d times", err, letIn.Load())
	}
	other := keys
	other.SecretAccessKey = "secret-0815"
	write(other)
	err = reach()
	if fault.Of(err) != fault.Setup || !strings.Contains(fmt.Sprint(err), "kafka-cluster:Connect") {
		t.Errorf("another secret: %v", err)
	}
	for _, s := range []string{"4711", "0815", "8217"} {
		if strings.Contains(fmt.Sprint(err), s) {
			t.Errorf("it shows a secret: %v", err)
		}
	}
}
