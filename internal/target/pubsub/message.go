package pubsubtarget

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"unicode/utf8"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
)

// The limits of the service on one message.
const (
	maxAttributes     = 100
	maxAttributeName  = 256
	maxAttributeValue = 1024
	maxOrderingKey    = 1024
	reservedName      = "goog"
)

// errEmpty is in the words that Snowbridge's users know.
var errEmpty = errors.New("pubsub cannot accept empty messages: each message must contain either non-empty data, or at least one attribute")

// published is m as it is published. The error says why the service would never take it.
func (t *Target) published(m *event.Message) (*pubsubpb.PubsubMessage, error) {
	p := &pubsubpb.PubsubMessage{Data: m.Data}
	if t.c.Attributes {
		attributes, err := t.attributes(m.Meta.Headers)
		if err != nil {
			return nil, refused(err, "attributes that Pub/Sub does not take")
		}
		p.Attributes = attributes
	}
	if len(p.Data) == 0 && len(p.Attributes) == 0 {
		return nil, refused(errEmpty, "pubsub cannot accept empty messages")
	}
	if t.ordered() && m.Key != "" {
		if len(m.Key) > maxOrderingKey || !utf8.ValidString(m.Key) {
			return nil, refused(fmt.Errorf("the key, of %d bytes, cannot be an ordering key, which is UTF-8 of at most %d", len(m.Key), maxOrderingKey), "key that cannot be an ordering key")
		}
		p.OrderingKey = m.Key
	}
	return p, nil
}

// attributes are the headers of a message as its attributes.
func (t *Target) attributes(hs event.Headers) (map[string]string, error) {
	if len(hs) == 0 {
		return nil, nil
	}
	as := make(map[string]string, len(hs))
	for i := range hs {
		name, value := hs[i].Name, string(hs[i].Value)
		if name == t.c.TopicHeader && name != "" {
			continue
		}
		_, twice := as[name]
		switch {
		case twice:
			return nil, fmt.Errorf("header %q is there more than once, and a message has one attribute of a name", name)
		case name == "" || len(name) > maxAttributeName || strings.HasPrefix(name, reservedName):
			return nil, fmt.Errorf("header %q cannot be an attribute, whose name has 1 to %d bytes and does not begin with %s", clip(name), maxAttributeName, reservedName)
		case len(value) > maxAttributeValue:
			return nil, fmt.Errorf("header %q has %d bytes, and the value of an attribute at most %d", name, len(value), maxAttributeValue)
		case !utf8.ValidString(name) || !utf8.ValidString(value):
			return nil, fmt.Errorf("header %q is not UTF-8, as attributes are", name)
		}
		as[name] = value
	}
	if len(as) > maxAttributes {
		return nil, fmt.Errorf("%d headers are more than the %d attributes a message may have", len(as), maxAttributes)
	}
	return as, nil
}

func clip(name string) string {
	if len(name) > maxAttributeName {
		return name[:maxAttributeName] + "..."
	}
	return name
}

func refused(err error, safe string) error {
	return fault.Describe(fault.Invalid, err, fault.Detail{Type: "api", Code: "InvalidArgument", Safe: safe})
}

// size is how m counts in a request, in bytes: as it is encoded there. It reads nothing of m but
// its lengths, and is right for what [Target.published] refuses too.
func (t *Target) size(m *event.Message) int {
	n := field(len(m.Data))
	if t.ordered() {
		n += field(len(m.Key))
	}
	if t.c.Attributes {
		for i := range m.Meta.Headers {
			h := &m.Meta.Headers[i]
			if h.Name == t.c.TopicHeader && h.Name != "" {
				continue
			}
			n += tagged(tagged(len(h.Name)) + tagged(len(h.Value)))
		}
	}
	return tagged(n)
}

// tagged is the size of n bytes with the tag and length before them.
func tagged(n int) int { return 1 + (bits.Len64(uint64(n)|1)+6)/7 + n }

// field is tagged of what is left out when it is empty.
func field(n int) int {
	if n == 0 {
		return 0
	}
	return tagged(n)
}
