package enginetest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// GuardedBroker is a broker of Apache Kafka of one test, with listeners of several kinds. Whoever
// signs in as User, has the certificate, or comes by Plain or Through may do everything, and
// Stranger nothing.
type GuardedBroker struct {
	Plain   string // no TLS, nobody signs in
	Through string // the same, and clients are sent on to the address that was asked for
	Signed  string // TLS, and SASL: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512
	Mutual  string // TLS, and clients show the certificate
	Tokens  string // TLS, and SASL: OAUTHBEARER with what Token gives

	// Authority signed the certificate of the broker; PEM files.
	Authority, Certificate, Key string

	User, Stranger, Password string

	// ConnectionString is the password of "$ConnectionString", with whom clients sign in by PLAIN
	// where the broker is the Kafka endpoint of an Event Hubs namespace.
	ConnectionString string

	tokens tokenKey
}

// Audience is for whom the tokens are that the broker takes.
const Audience = "kafka"

// GuardedKafka starts a broker for this test alone. Clients that come by Through are sent to
// advertised, an address that leads there, when it is not empty.
func GuardedKafka(t testing.TB, advertised string) *GuardedBroker {
	t.Helper()
	dir := t.TempDir()
	b := &GuardedBroker{
		Authority: filepath.Join(dir, "broker.crt"), Certificate: filepath.Join(dir, "broker.crt"), Key: filepath.Join(dir, "broker.key"),
		User: "weir", Stranger: "stranger", Password: "pass-8217-word",
		ConnectionString: "Endpoint=sb://acme.servicebus.windows.net/;SharedAccessKeyName=weir;SharedAccessKey=" + base64.StdEncoding.EncodeToString([]byte("key of a stand-in")),
	}
	certificate, key, err := selfSigned()
	if err == nil {
		b.tokens, err = newTokenKey()
	}
	if err == nil {
		err = errors.Join(os.WriteFile(b.Certificate, certificate, 0o600), os.WriteFile(b.Key, key, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	f := &fetched{
		name: apacheKafka.name, variable: apacheKafka.variable, version: apacheKafka.version, needs: apacheKafka.needs, fetch: apacheKafka.fetch,
		address: plain, answers: answersTCP,
		command: func(ctx context.Context, w *workspace, dir, port string) ([]string, error) {
			return b.command(ctx, w, dir, port, advertised, certificate, key)
		},
	}
	b.Plain = f.alone(t).Address
	return b
}

func (b *GuardedBroker) command(ctx context.Context, w *workspace, dir, port, advertised string, certificate, key []byte) ([]string, error) {
	store, trust := filepath.Join(w.dir, "broker.pem"), filepath.Join(w.dir, "trust.pem")
	ports := []string{port}
	for range 4 {
		p, err := freePort()
		if err != nil {
			return nil, err
		}
		ports = append(ports, p)
	}
	keys := filepath.Join(w.dir, "keys.json")
	if err := errors.Join(give(store, append(bytes.Clone(key), certificate...)), give(trust, certificate), give(keys, b.tokens.set())); err != nil {
		return nil, err
	}
	b.Through, b.Signed, b.Mutual, b.Tokens = plain(ports[1]), plain(ports[2]), plain(ports[3]), plain(ports[4])
	more := fmt.Sprintf(`ssl.keystore.type=PEM
ssl.keystore.location=%[1]s
ssl.truststore.type=PEM
ssl.truststore.location=%[2]s
listener.name.mutual.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.signed.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_%[3]s="%[5]s" user_%[4]s="%[5]s" user_$ConnectionString="%[8]s";
listener.name.signed.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.signed.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.tokens.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.tokens.oauthbearer.connections.max.reauth.ms=3600000
listener.name.tokens.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;
listener.name.tokens.oauthbearer.sasl.server.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler
listener.name.tokens.sasl.oauthbearer.jwks.endpoint.url=file://%[6]s
listener.name.tokens.sasl.oauthbearer.expected.audience=%[7]s
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:%[3]s;User:CN=weir;User:$ConnectionString
`, store, trust, b.User, b.Stranger, b.Password, keys, Audience, b.ConnectionString)
	command, err := kafkaWith(ctx, w, dir, kafkaListeners{
		{name: "PLAINTEXT", port: ports[0], protocol: "PLAINTEXT"},
		{name: "THROUGH", port: ports[1], protocol: "PLAINTEXT", advertised: advertised},
		{name: "SIGNED", port: ports[2], protocol: "SASL_SSL"},
		{name: "MUTUAL", port: ports[3], protocol: "SSL"},
		{name: "TOKENS", port: ports[4], protocol: "SASL_SSL"},
	}, more,
		"--add-scram", fmt.Sprintf("SCRAM-SHA-256=[name=%s,password=%s]", b.User, b.Password),
		"--add-scram", fmt.Sprintf("SCRAM-SHA-512=[name=%s,password=%s]", b.User, b.Password))
	if err != nil {
		return nil, err
	}
	// The broker reads keys from files only where it is told that it may.
	return slices.Insert(command, 1, "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://"+keys, "-Dorg.apache.kafka.sasl.oauthbearer.allowed.files="+keys), nil
}

// selfSigned is a certificate for 127.0.0.1 that is its own authority, and its key, as PEM.
func selfSigned() (certificate, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "weir"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &k.PublicKey, k)
	if err != nil {
		return nil, nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), nil
}
