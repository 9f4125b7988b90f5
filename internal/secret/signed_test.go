package secret_test

import (
	"strings"
	"testing"

	"github.com/weirdata/weir/internal/secret"
)

func TestSigned(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "",
		"The security token included in the request is expired":                                                                           "The security token included in the request is expired",
		"Check your key and signing method.\n\nThe Canonical String for this request should have been\n'POST\nx-amz-security-token:hush'": "Check your key and signing method.",
		"Authorization header requires 'Signature' parameter. Authorization=AWS4-HMAC-SHA256 Credential=A/hush":                           "Authorization header requires 'Signature' parameter.",
		"refused x-amz-security-token: hush, signature=hush&more":                                                                         "refused x-amz-security-token:(hidden), signature=(hidden)&more",
		"Credential should be scoped to a valid region":                                                                                   "Credential should be scoped to a valid region",
	} {
		got := secret.Signed(in)
		if got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
		if again := secret.Signed(got); again != got || strings.Contains(got, "hush") {
			t.Errorf("%q became %q", got, again)
		}
	}
}
