package tlsconfig

import (
	"crypto/tls"
	"os"
	"sync"
	"time"
)

// recheck is how long a loaded certificate is used before its files are looked at again.
const recheck = 10 * time.Second

// keyPair is a certificate that follows its files. It starts no goroutine: a handshake
// that finds the last look older than recheck looks again.
type keyPair struct {
	certFile, keyFile string

	mu                sync.Mutex
	cert              *tls.Certificate
	certTime, keyTime time.Time // modification times of the files cert was made from
	looked            time.Time
}

// current is the certificate to use for a handshake that starts now.
func (k *keyPair) current() *tls.Certificate {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); now.Sub(k.looked) >= recheck {
		k.looked = now
		// A half-written pair is expected while files are being replaced: the old
		// certificate stays until a matching pair can be read.
		if certTime, keyTime, err := k.times(); err == nil && !(certTime.Equal(k.certTime) && keyTime.Equal(k.keyTime)) {
			_ = k.read(certTime, keyTime)
		}
	}
	return k.cert
}

func (k *keyPair) load() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.looked = time.Now()
	certTime, keyTime, err := k.times()
	if err != nil {
		return err
	}
	return k.read(certTime, keyTime)
}

func (k *keyPair) read(certTime, keyTime time.Time) error {
	cert, err := tls.LoadX509KeyPair(k.certFile, k.keyFile)
	if err != nil {
		return err
	}
	k.cert, k.certTime, k.keyTime = &cert, certTime, keyTime
	return nil
}

func (k *keyPair) times() (cert, key time.Time, err error) {
	ci, err := os.Stat(k.certFile)
	if err != nil {
		return cert, key, err
	}
	ki, err := os.Stat(k.keyFile)
	if err != nil {
		return cert, key, err
	}
	return ci.ModTime(), ki.ModTime(), nil
}
