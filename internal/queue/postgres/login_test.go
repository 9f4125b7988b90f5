package postgres

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
)

// signer makes certificates for "weir" and for this machine.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// certificate is signed by s, or by itself where s is nil; as PEM.
func (s *signer) certificate(t *testing.T, number int64) (next *signer, cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := &x509.Certificate{
		SerialNumber: big.NewInt(number), Subject: pkix.Name{CommonName: "weir"}, NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IsCA: s == nil, BasicConstraintsValid: true,
	}
	by := s
	if s == nil { // an authority is not called as those whom it signs for
		text.Subject.CommonName, text.KeyUsage = "authority", x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
		by = &signer{text, private}
	}
	der, err := x509.CreateCertificate(rand.Reader, text, by.cert, &private.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{parsed, private}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// TestLoginIsRenewed: a store that is open goes on when its password and its certificate are
// replaced, and the connections of before are cut. A login that the server refuses, and a
// certificate that cannot be read, change nothing.
func TestLoginIsRenewed(t *testing.T) {
	t.Parallel()
	sv := startServer(t)
	files := t.TempDir()
	save := func(dir, name string, text []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if dir == sv.dir && sv.cred != nil {
			if err := os.Chown(path, int(sv.cred.Uid), int(sv.cred.Gid)); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	ca, authority, key := (*signer)(nil).certificate(t, 1)
	save(sv.dir, "server.crt", authority)
	save(sv.dir, "server.key", key)
	save(sv.dir, "root.crt", authority)
	root := save(files, "root.crt", authority)
	issue := func(number int64) {
		_, cert, key := ca.certificate(t, number)
		save(files, "own.crt", cert)
		save(files, "own.key", key)
	}
	issue(11)
	admin, err := pgx.Connect(t.Context(), sv.dsn())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(t.Context())
	do := func(statement string) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	// Others sign in by a password and show a certificate; the administrator of the test does not.
	do("CREATE ROLE tenant LOGIN PASSWORD 'first-word'")
	do("GRANT CREATE ON DATABASE postgres TO tenant")
	do("ALTER SYSTEM SET ssl = on")
	do("ALTER SYSTEM SET ssl_ca_file = 'root.crt'")
	save(sv.dir, "pg_hba.conf", []byte("hostssl all tenant 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\nhost all weir 127.0.0.1/32 trust\n"))
	do("SELECT pg_reload_conf()")
	dsn := func(password string) string {
		return fmt.Sprintf("host=127.0.0.1 port=%d dbname=postgres user=tenant password=%s sslmode=verify-ca sslrootcert=%s sslcert=%s sslkey=%s",
			sv.port, password, root, filepath.Join(files, "own.crt"), filepath.Join(files, "own.key"))
	}
	var last error
	until := func(what string, ok func() bool) {
		t.Helper()
		for late := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(late) {
				t.Fatalf("not within three minutes: %s (%v)", what, last)
			}
		}
	}
	until("the server asks for certificates", func() bool {
		c, err := pgx.Connect(t.Context(), dsn("first-word"))
		if err != nil {
			last = err
			return false
		}
		return c.Close(t.Context()) == nil
	})
	s := open(t, Options{DSN: dsn("first-word"), Schema: "login", Partitions: 2, Lease: 3 * time.Second, Log: discard()})
	add := func() error {
		return s.Update(t.Context(), func(tx queue.Tx) error { return tx.Append(queue.Job{Queue: "q", Msg: event.New([]byte("x"))}) })
	}
	shown := func(serial int) bool {
		var n int
		if err := admin.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.usename = 'tenant' AND s.client_serial = $1", serial).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n > 0
	}
	cut := func() { do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tenant'") }
	if err := add(); err != nil || !shown(11) {
		t.Fatal(err, shown(11))
	}

	// The files are followed without being told, and while they cannot be read, those of before are.
	issue(12)
	cut()
	until("a job after the certificate was replaced", func() bool { return add() == nil && shown(12) })
	save(files, "own.key", []byte("half of it"))
	cut()
	until("a job while the new key cannot be read", func() bool { return add() == nil && shown(12) })
	if _, err := s.Relogin(t.Context(), dsn("first-word")); err == nil || strings.Contains(err.Error(), "first-word") {
		t.Errorf("a key that cannot be read is taken: %v", err)
	}
	issue(13)

	// A password is another once it is told.
	do("ALTER ROLE tenant PASSWORD 'second-word'")
	if _, err := s.Relogin(t.Context(), dsn("wrong-word")); fault.Of(err) != fault.Setup || strings.Contains(err.Error(), "wrong-word") {
		t.Errorf("a wrong password is taken: %v", err)
	}
	adopt, err := s.Relogin(t.Context(), dsn("second-word"))
	if err != nil {
		t.Fatal(err)
	}
	adopt()
	cut()
	until("a job after the password was replaced", func() bool { return add() == nil && shown(13) })
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
