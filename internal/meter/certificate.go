package meter

import "crypto/tls"

// Certificate shows when the certificate ends that connections of c show the other side now, if
// they have one.
func Certificate(c *tls.Config, emit Emit) {
	var shown *tls.Certificate
	switch {
	case c == nil:
	case c.GetCertificate != nil:
		shown, _ = c.GetCertificate(&tls.ClientHelloInfo{})
	case c.GetClientCertificate != nil:
		shown, _ = c.GetClientCertificate(&tls.CertificateRequestInfo{})
	}
	if shown != nil && shown.Leaf != nil {
		emit(CertificateExpiry, float64(shown.Leaf.NotAfter.Unix()))
	}
}
