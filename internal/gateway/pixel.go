package gateway

import (
	"net/url"
	"sort"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/jsontext"
)

// branch is an object under construction: texts and objects by name.
type branch struct {
	text  string
	under map[string]*branch
}

// maxPixelDepth is how many names a parameter's path may have.
const maxPixelDepth = 100

// pixelEvent makes the text of an event of the parameters of a query: each becomes a
// member whose value is text, a dot in its name leads into an object. The first of several
// parameters of one name counts. writeKey is left out.
func pixelEvent(query string, now time.Time) []byte {
	values, _ := url.ParseQuery(query) // what can be read of it counts
	root := &branch{under: map[string]*branch{
		"channel": {text: "web"},
	}}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if name == "writeKey" || name == "" || strings.Count(name, ".") > maxPixelDepth {
			continue
		}
		at := root
		for part := range strings.SplitSeq(name, ".") {
			if at.under == nil {
				at.under = map[string]*branch{}
			}
			next := at.under[part]
			if next == nil {
				next = &branch{}
				at.under[part] = next
			}
			at = next
		}
		at.text = values.Get(name)
	}
	for _, name := range []string{"originalTimestamp", "sentAt"} {
		if root.under[name] == nil {
			root.under[name] = &branch{text: now.UTC().Format("2006-01-02T15:04:05.000Z")}
		}
	}
	return root.append(nil)
}

func (b *branch) append(dst []byte) []byte {
	if b.under == nil {
		return jsontext.AppendString(dst, b.text)
	}
	names := make([]string, 0, len(b.under))
	for name := range b.under {
		names = append(names, name)
	}
	sort.Strings(names)
	dst = append(dst, '{')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(jsontext.AppendString(dst, name), ':')
		dst = b.under[name].append(dst)
	}
	return append(dst, '}')
}
