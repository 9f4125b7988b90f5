package kafkasource_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/weirdata/weir/internal/enginetest"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/kafka"
)

// TestGuardedBroker: with TLS, and each way to sign in, a broker of Apache Kafka gives its
// messages; to whom it gives none, the error says why and what to do, and shows no password.
func TestGuardedBroker(t *testing.T) {
	t.Parallel()
	b := enginetest.GuardedKafka(t, "")
	topic := fresh("topic")
	if _, err := kadm.NewClient(client(t, b.Plain)).CreateTopic(t.Context(), 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	put(t, b.Plain, topic, 0, numbered(0, 10)...)
	signed := kafka.Connection{Brokers: b.Signed, EnableTLS: true, CAFile: b.Authority, EnableSASL: true, SASLUsername: b.User, SASLPassword: b.Password}
	with := func(algorithm string, change func(*kafka.Connection)) kafka.Connection {
		c := signed
		c.SASLAlgorithm = algorithm
		if change != nil {
			change(&c)
		}
		return c
	}
	for i, c := range []kafka.Connection{
		with("plaintext", nil), with("sha256", nil), with("sha512", nil),
		with("sha512", func(c *kafka.Connection) { c.CAFile, c.SkipVerifyTLS = "", true }),
		{Brokers: b.Mutual, EnableTLS: true, CAFile: b.Authority, CertFile: b.Certificate, KeyFile: b.Key, SASLAlgorithm: "sha512"},
	} {
		conf := config("", topic)
		conf.Connection = c
		log := &notes{}
		s := opened(t, conf, log.log())
		if got := read(t, s, 10, true); string(got[9].Data) != "payload 000009" {
			t.Errorf("%d: the last message is %q", i, got[9].Data)
		}
		if strings.Contains(log.String(), "SASL without TLS") {
			t.Errorf("%d: it warns of what is not so", i)
		}
	}
	for _, row := range []struct {
		name string
		c    kafka.Connection
		want string
	}{
		{"a wrong password of SCRAM", with("sha512", func(c *kafka.Connection) { c.SASLPassword = "wrong-4711-word" }), "correct the user name, the password or sasl_algorithm"},
		{"a wrong password of PLAIN", with("plaintext", func(c *kafka.Connection) { c.SASLPassword = "wrong-4711-word" }), "correct the user name, the password or sasl_algorithm"},
		{"nobody signs in by a token", with("oauthbearer", func(c *kafka.Connection) {
			c.SASLOAuth = &kafka.OAuth{ClientID: "client", ClientSecret: "4711", TokenURL: "http://127.0.0.1:1/"}
		}), "set sasl_algorithm to a mechanism that the brokers enable"},
		{"an authority that nobody knows", with("sha512", func(c *kafka.Connection) { c.CAFile = "" }), "set ca_file to the authority"},
		{"somebody who may nothing", with("plaintext", func(c *kafka.Connection) { c.SASLUsername = b.Stranger }), "give the user the permission"},
	} {
		conf := config("", topic)
		conf.Connection = row.c
		log := &notes{}
		s := newSource(t, conf, log.log())
		err := s.Check(t.Context())
		if fault.Of(err) != fault.Setup || !strings.Contains(fmt.Sprint(err), row.want) {
			t.Errorf("%s: %v", row.name, err)
		}
		if text := fmt.Sprint(err) + log.String(); strings.Contains(text, "4711") || strings.Contains(text, "8217") {
			t.Errorf("%s: it shows a secret: %s", row.name, text)
		}
	}
}
