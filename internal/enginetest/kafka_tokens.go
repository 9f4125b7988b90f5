package enginetest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// tokenKey signs tokens that a broker takes, as an identity provider does: JWTs with RS256.
type tokenKey struct{ *rsa.PrivateKey }

func newTokenKey() (tokenKey, error) {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	return tokenKey{k}, err
}

const tokenKeyID = "key-1"

// set is the public key as a JSON Web Key Set.
func (k tokenKey) set() []byte {
	return fmt.Appendf(nil, `{"keys":[{"kty":"RSA","use":"sig","alg":"RS256","kid":%q,"n":%q,"e":%q}]}`,
		tokenKeyID, base64.RawURLEncoding.EncodeToString(k.N.Bytes()), base64.RawURLEncoding.EncodeToString(big.NewInt(int64(k.E)).Bytes()))
}

// sign is a token of the user that is valid for so long.
func (k tokenKey) sign(user, audience string, valid time.Duration) (string, error) {
	now := time.Now()
	return k.signClaims(map[string]any{"sub": user, "aud": audience, "scope": "events", "iss": "weir tests", "iat": now.Unix(), "exp": now.Add(valid).Unix()})
}

func (k tokenKey) signClaims(all map[string]any) (string, error) {
	claims, err := json.Marshal(all)
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT","kid":"`+tokenKeyID+`"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, k.PrivateKey, crypto.SHA256, sum[:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), err
}

// Issuer is a token endpoint of OAuth 2 for clients that show the password of a broker as their
// secret; who they are is their client_id.
type Issuer struct {
	URL    string
	Issued atomic.Int64 // tokens so far
}

// Issuer starts a token endpoint whose tokens are valid for so long. The broker takes those for
// [Audience] only.
func (b *GuardedBroker) Issuer(t testing.TB, audience string, valid time.Duration) *Issuer {
	t.Helper()
	i := &Issuer{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, secret, ok := r.BasicAuth()
		if !ok {
			user, secret = r.FormValue("client_id"), r.FormValue("client_secret")
		}
		w.Header().Set("Content-Type", "application/json")
		if r.Method != http.MethodPost || r.FormValue("grant_type") != "client_credentials" || secret != b.Password {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"error":"invalid_client"}`)) // the client reads the status
			return
		}
		token, err := b.tokens.sign(user, audience, valid)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		i.Issued.Add(1)
		_, _ = fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":%d}`, token, int(valid.Seconds()))
	}))
	t.Cleanup(s.Close)
	i.URL = s.URL
	return i
}
