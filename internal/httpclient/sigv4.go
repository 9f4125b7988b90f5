package httpclient

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	signer "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// SigV4 signs requests as AWS services ask for it, Signature Version 4: the signature covers
// method, URL, headers and body, so it is made anew for each request. A body must be one that
// can be read again (GetBody).
type SigV4 struct {
	region, service string
	from            aws.CredentialsProvider
	signer          *signer.Signer
	now             func() time.Time

	mu   sync.Mutex
	last aws.Credentials
}

// NewSigV4 signs for a service of a region, such as "execute-api" of "eu-central-1", with
// credentials of from.
func NewSigV4(region, service string, from aws.CredentialsProvider) *SigV4 {
	return &SigV4{
		region: region, service: service, from: from, now: time.Now,
		// Of all services, S3 alone signs the path as it is sent.
		signer: signer.NewSigner(func(o *signer.SignerOptions) { o.DisableURIPathEscaping = service == "s3" }),
	}
}

// Authorize implements Auth.
func (s *SigV4) Authorize(ctx context.Context, req *http.Request) error {
	credentials, err := s.from.Retrieve(ctx)
	if err != nil {
		return fmt.Errorf("get AWS credentials: %w", err)
	}
	s.mu.Lock()
	s.last = credentials
	s.mu.Unlock()
	hash, err := bodyHash(req)
	if err != nil {
		return fmt.Errorf("sign the request: %w", err)
	}
	if s.service == "s3" {
		req.Header.Set("X-Amz-Content-Sha256", hash)
	}
	u := *req.URL // the signer writes to it
	req.URL = &u
	if err := s.signer.SignHTTP(ctx, credentials, req, hash, s.service, s.region, s.now().UTC()); err != nil {
		return fmt.Errorf("sign the request: %w", err)
	}
	return nil
}

func bodyHash(req *http.Request) (string, error) {
	h := sha256.New()
	if req.Body != nil && req.Body != http.NoBody {
		if req.GetBody == nil {
			return "", errors.New("its body cannot be read twice")
		}
		body, err := req.GetBody()
		if err != nil {
			return "", fmt.Errorf("read its body: %w", err)
		}
		_, err = io.Copy(h, body)
		if err = errors.Join(err, body.Close()); err != nil {
			return "", fmt.Errorf("read its body: %w", err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Secrets implements Auth.
func (s *SigV4) Secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []string{s.last.SecretAccessKey, s.last.SessionToken}
}

// Drop implements Auth: credentials that are cached are fetched again.
func (s *SigV4) Drop(*http.Request) {
	if cache, ok := s.from.(*aws.CredentialsCache); ok {
		cache.Invalidate()
	}
}

// Keys are AWS credentials that never change.
type Keys struct{ AccessKeyID, SecretAccessKey, SessionToken string }

// Retrieve implements aws.CredentialsProvider.
func (k Keys) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: k.AccessKeyID, SecretAccessKey: k.SecretAccessKey, SessionToken: k.SessionToken, Source: "config"}, nil
}
