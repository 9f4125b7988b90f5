package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/fault"
)

// TestAddresses: spaces and empty parts of a list mean nothing, and the order of addresses does
// not tell clusters apart.
func TestAddresses(t *testing.T) {
	t.Parallel()
	for list, want := range map[string][]string{
		"": nil, " , ,": nil, "a:1": {"a:1"}, " b:2 ,, a:1,b:2 ": {"b:2", "a:1", "b:2"},
	} {
		if d := cmp.Diff(want, Connection{Brokers: list}.Seeds()); d != "" {
			t.Errorf("%q: %s", list, d)
		}
	}
	one, same, other := Connection{Brokers: "a:1, b:2"}, Connection{Brokers: "b:2,a:1,b:2"}, Connection{Brokers: "a:1"}
	if one.Cluster() != same.Cluster() || one.Cluster() == other.Cluster() {
		t.Errorf("the clusters are %q, %q and %q", one.Cluster(), same.Cluster(), other.Cluster())
	}
}

// TestValidate: what could never work is named, at its option.
func TestValidate(t *testing.T) {
	t.Parallel()
	sound := DefaultConnection()
	sound.Brokers = "a:1"
	with := func(change func(*Connection)) Connection {
		c := sound
		change(&c)
		return c
	}
	for name, row := range map[string]struct {
		c    Connection
		want []string
	}{
		"the defaults":            {sound, nil},
		"no address":              {with(func(c *Connection) { c.Brokers = " ," }), []string{"brokers"}},
		"an algorithm of nobody":  {with(func(c *Connection) { c.SASLAlgorithm = "md5" }), []string{"sasl_algorithm"}},
		"no name to sign in with": {with(func(c *Connection) { c.EnableSASL = true }), []string{"enable_sasl"}},
		"no name without SASL":    {with(func(c *Connection) { c.SASLAlgorithm = plaintext }), nil},
		"tokens from nowhere":     {with(func(c *Connection) { c.EnableSASL, c.SASLAlgorithm = true, bearer }), []string{"sasl_algorithm"}},
		"tokens":                  {with(func(c *Connection) { c.EnableSASL, c.SASLAlgorithm, c.SASLOAuth = true, bearer, &OAuth{} }), nil},
		"the credentials of AWS":  {with(func(c *Connection) { c.EnableSASL, c.SASLAlgorithm = true, mskIAM }), nil},
		"nothing that is right":   {Connection{EnableSASL: true, SASLAlgorithm: plaintext}, []string{"brokers", "enable_sasl"}},
	} {
		var got []string
		for _, p := range row.c.Validate() {
			got = append(got, p.Field)
			if p.What == "" || p.Fix == "" {
				t.Errorf("%s: %+v says too little", name, p)
			}
		}
		if d := cmp.Diff(row.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// TestFault: what an error means for delivery, and that it says what to do where somebody has to
// do something. One that means nothing of its own is transient.
func TestFault(t *testing.T) {
	t.Parallel()
	if Fault(nil) != nil {
		t.Error("no error became one")
	}
	for e, m := range meanings {
		err := Fault(fmt.Errorf("write: %w", e))
		if fault.Of(err) != m.kind || !errors.Is(err, e) {
			t.Errorf("%s is %v: %v", e.Message, fault.Of(err), err)
		}
		if m.kind == fault.Setup && (m.fix == "" || !strings.Contains(err.Error(), m.fix)) {
			t.Errorf("%s does not say what to do: %v", e.Message, err)
		}
		if e.Retriable && (m.kind == fault.Invalid || m.kind == fault.Fatal) {
			t.Errorf("%s passes by itself, and is %v", e.Message, m.kind)
		}
	}
	fatal := fault.New(fault.Fatal, errors.New("somebody else's"))
	for _, row := range []struct {
		err  error
		want fault.Kind
	}{
		{kerr.NotLeaderForPartition, fault.Transient},
		{kerr.UnknownServerError, fault.Transient},
		{kgo.ErrRecordTimeout, fault.Transient},
		{kgo.ErrRecordRetries, fault.Transient},
		{io.ErrUnexpectedEOF, fault.Transient},
		{&net.OpError{Op: "dial", Err: errors.New("connection refused")}, fault.Transient},
		{fmt.Errorf("dial: %w", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), fault.Setup},
		{fmt.Errorf("dial: %w", x509.HostnameError{Certificate: &x509.Certificate{}, Host: "a"}), fault.Setup},
		{fmt.Errorf("write: %w", fatal), fault.Fatal},
	} {
		if got := fault.Of(Fault(row.err)); got != row.want {
			t.Errorf("%v is %v, want %v", row.err, got, row.want)
		}
	}
}

// TestSoftwareVersion: brokers refuse other characters, and a name that begins or ends badly.
func TestSoftwareVersion(t *testing.T) {
	t.Parallel()
	for v, want := range map[string]string{"1.2.3": "1.2.3", "": "unknown", "-.-": "unknown", "1.0.0+dirty (x)": "1.0.0-dirty--x", "v2/ä": "v2"} {
		if got := softwareVersion(v); got != want {
			t.Errorf("%q becomes %q, want %q", v, got, want)
		}
	}
}

// TestWarnings: what has no effect is said, and so is a password that anybody can read.
func TestWarnings(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		c    Connection
		want string // empty: nothing is said
	}{
		"nothing":               {Connection{}, ""},
		"TLS that is not on":    {Connection{CAFile: "ca.crt"}, "no effect without enable_tls"},
		"TLS":                   {Connection{EnableTLS: true, CAFile: "ca.crt"}, ""},
		"SASL without TLS":      {Connection{EnableSASL: true, SASLAlgorithm: plaintext, SASLUsername: "u", SASLPassword: "pass-8217"}, "SASL without TLS"},
		"SASL with TLS":         {Connection{EnableTLS: true, EnableSASL: true, SASLAlgorithm: scram256, SASLUsername: "u", SASLPassword: "pass-8217"}, ""},
		"a signature is no key": {Connection{EnableSASL: true, SASLAlgorithm: mskIAM}, ""},
	} {
		var log strings.Builder
		opts := row.c.Options(connector.Deps{Log: slog.New(slog.NewTextHandler(&log, nil))}, Means{TLS: &tls.Config{MinVersion: tls.VersionTLS12}})
		if len(opts) == 0 || (row.want == "") != (log.Len() == 0) || !strings.Contains(log.String(), row.want) || strings.Contains(log.String(), "8217") {
			t.Errorf("%s: %d options, and it says %q", name, len(opts), &log)
		}
	}
}

// TestMechanisms: each way to sign in is the one of its name, and a token that cannot be had is
// an error of signing in.
func TestMechanisms(t *testing.T) {
	t.Parallel()
	broken := errors.New("the token endpoint is away")
	by := Means{Token: func(context.Context) (string, error) { return "", broken }}
	for algorithm, want := range map[string]string{scram512: "SCRAM-SHA-512", scram256: "SCRAM-SHA-256", plaintext: "PLAIN", bearer: "OAUTHBEARER", mskIAM: "AWS_MSK_IAM"} {
		m := Connection{SASLAlgorithm: algorithm, SASLUsername: "u", SASLPassword: "p"}.mechanism(by)
		if m.Name() != want {
			t.Errorf("%s is %s, want %s", algorithm, m.Name(), want)
		}
		if algorithm != bearer {
			continue
		}
		if _, _, err := m.Authenticate(t.Context(), "a:1"); !errors.Is(err, broken) || !strings.Contains(err.Error(), "OAUTHBEARER") {
			t.Errorf("a token that cannot be had: %v", err)
		}
	}
}

// TestPing: a cluster that answers, and none, which is transient and named by its addresses.
func TestPing(t *testing.T) {
	t.Parallel()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	reach := func(ctx context.Context, addresses string) error {
		conn := DefaultConnection()
		conn.Brokers = addresses
		cl, err := kgo.NewClient(conn.Options(connector.Deps{}, Means{})...)
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		return Ping(ctx, cl)
	}
	if err := reach(t.Context(), strings.Join(c.ListenAddrs(), ",")); err != nil {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := reach(ctx, nobody); err == nil || fault.Of(err) != fault.Transient || !strings.Contains(err.Error(), "reach the brokers "+nobody) {
		t.Errorf("nobody listens: %v", err)
	}
}
