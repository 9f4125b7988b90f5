package secret

import (
	"regexp"
	"strings"
)

var (
	// repeated is where a text begins to repeat what was signed.
	repeated = regexp.MustCompile(`(?is)\s*\b(the canonical string|the string-to-sign|authorization[=:]).*$`)
	// carried are the parts of a signed request that are credentials, with their values.
	carried = regexp.MustCompile(`(?i)\b(x-amz-security-token|x-amz-signature|x-amz-credential|signature|credential|sessiontoken|secretaccesskey)\s*[:=]\s*"?[^\s,;"&]+`)
)

// Signed is the text of an answer to a signed request, without what it repeats of it: some
// services write into the error about a signature all that should have been signed, the token
// of the session with it.
func Signed(text string) string {
	text = repeated.ReplaceAllString(text, "")
	return carried.ReplaceAllStringFunc(text, func(part string) string {
		if strings.HasSuffix(part, Mark) {
			return part
		}
		return part[:strings.IndexAny(part, ":=")+1] + Mark
	})
}
