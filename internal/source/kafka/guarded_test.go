package kafkasource_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

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
	token := func(user, password, endpoint string) kafka.Connection {
		return kafka.Connection{Brokers: b.Tokens, EnableTLS: true, CAFile: b.Authority, EnableSASL: true, SASLAlgorithm: "oauthbearer",
			SASLOAuth: &kafka.OAuth{ClientID: user, ClientSecret: password, TokenURL: endpoint}}
	}
	issuer, elsewhere := b.Issuer(t, enginetest.Audience, time.Hour), b.Issuer(t, "somebody else", time.Hour)
	for i, c := range []kafka.Connection{
		token(b.User, b.Password, issuer.URL),
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
		{"a wrong secret of a token's client", token(b.User, "wrong-4711-word", issuer.URL), "correct client_id, client_secret"},
		{"a token for somebody else", token(b.User, b.Password, elsewhere.URL), "the brokers do not take the token"},
		{"a token of somebody who may nothing", token(b.Stranger, b.Password, issuer.URL), "give the user the permission"},
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

// TestPermissions: whoever may see a topic and a group, and neither read the one nor join the other, is
// told so, each by itself, and what to give him.
func TestPermissions(t *testing.T) {
	t.Parallel()
	b := enginetest.GuardedKafka(t, "")
	adm := kadm.NewClient(client(t, b.Plain))
	topic := fresh("topic")
	if _, err := adm.CreateTopic(t.Context(), 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	conf := config("", topic)
	conf.Connection = kafka.Connection{Brokers: b.Signed, EnableTLS: true, CAFile: b.Authority, EnableSASL: true, SASLAlgorithm: "plaintext", SASLUsername: b.Stranger, SASLPassword: b.Password}
	group := conf.ConsumerName + "-" + topic
	may := func(acls *kadm.ACLBuilder, ops ...kadm.ACLOperation) {
		t.Helper()
		made, err := adm.CreateACLs(t.Context(), acls.Allow("User:"+b.Stranger).AllowHosts().Operations(ops...).ResourcePatternType(kadm.ACLPatternLiteral))
		for _, one := range made {
			err = errors.Join(err, one.Err)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	says := func(want ...string) {
		t.Helper()
		// The broker has the permissions a moment after they were given.
		var err error
		for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			err = newSource(t, conf, nil).Check(t.Context())
			text, all := fmt.Sprint(err), len(want) > 0 || err == nil
			for _, w := range want {
				all = all && fault.Of(err) == fault.Setup && strings.Contains(text, w)
			}
			if all {
				return
			}
		}
		t.Fatalf("it does not say %q: %v", want, err)
	}
	says("TOPIC_AUTHORIZATION_FAILED")
	may(kadm.NewACLs().Topics(topic), kadm.OpDescribe)
	may(kadm.NewACLs().Groups(group), kadm.OpDescribe)
	says(fmt.Sprintf("the user may not read topic %q", topic), "--operation Read --topic "+topic, "the permission Read on the consumer group")
	may(kadm.NewACLs().Topics(topic), kadm.OpRead)
	says("the permission Read on the consumer group")
	may(kadm.NewACLs().Groups(group), kadm.OpRead)
	says()
}

// TestTokensExpire: a broker that lets nobody in for longer than his token is valid gets a new one
// in time, again and again, and nobody who reads or writes notices.
func TestTokensExpire(t *testing.T) {
	t.Parallel()
	b := enginetest.GuardedKafka(t, "")
	topic := fresh("topic")
	if _, err := kadm.NewClient(client(t, b.Plain)).CreateTopic(t.Context(), 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	issuer := b.Issuer(t, enginetest.Audience, 6*time.Second)
	conf := config("", topic)
	conf.Connection = kafka.Connection{Brokers: b.Tokens, EnableTLS: true, CAFile: b.Authority, EnableSASL: true, SASLAlgorithm: "oauthbearer",
		SASLOAuth: &kafka.OAuth{ClientID: b.User, ClientSecret: b.Password, TokenURL: issuer.URL}}
	log := &notes{}
	s := opened(t, conf, log.log())
	put(t, b.Plain, topic, 0, numbered(0, 10)...)
	read(t, s, 10, true)
	for first, round := issuer.Issued.Load(), int64(1); round <= 2; round++ {
		for end := time.Now().Add(3 * time.Minute); issuer.Issued.Load() < first+round; {
			if time.Now().After(end) {
				t.Fatalf("%d tokens were asked for in round %d, %d before it began", issuer.Issued.Load(), round, first)
			}
			time.Sleep(50 * time.Millisecond)
		}
		at := 10 * int(round)
		put(t, b.Plain, topic, 0, numbered(at, 10)...)
		if got := read(t, s, 10, true); string(got[9].Data) != fmt.Sprintf("payload %06d", at+9) {
			t.Errorf("round %d: the last message is %q", round, got[9].Data)
		}
	}
	if text := log.String(); strings.Contains(text, "level=WARN") || strings.Contains(text, "level=ERROR") {
		t.Errorf("it was noticed: %s", text)
	}
}
