package sqstarget

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/fault"
	format "github.com/weirdata/weir/internal/sqs"
)

var emptyBatch = []types.SendMessageBatchRequestEntry{}

// size is what SQS counts for a message.
func (t *Target) size(m *event.Message) int {
	body, most := len(m.Data), format.MaxAttributes
	if t.encoded(m) {
		body, most = format.EncodedSize(m.Data), most-1
	}
	return format.Size(body, t.attributes(m, most))
}

// encoded reports whether the payload is sent in base64.
func (t *Target) encoded(m *event.Message) bool {
	return t.c.IllegalPayloads == illegalBase64 && (len(m.Data) == 0 || !format.Legal(m.Data))
}

func (t *Target) attributes(m *event.Message, most int) []format.Attribute {
	if !t.c.Attributes {
		return nil
	}
	return format.Attributes(m.Meta.Headers, most)
}

// outgoing is a message as it is sent.
type outgoing struct {
	index int // in the batch
	size  int
	group string
	entry types.SendMessageBatchRequestEntry
}

// outgoing makes of a message what q is sent; encode has the payload in base64 whatever it is.
func (t *Target) outgoing(q format.Queue, m *event.Message, index int, encode bool) (outgoing, error) {
	o := outgoing{index: index}
	var body string
	var as []format.Attribute
	switch {
	case encode || t.encoded(m):
		b, how := format.Encode(m.Data)
		body, as = b, append(t.attributes(m, format.MaxAttributes-1), how)
	case len(m.Data) == 0:
		return o, invalid("EmptyMessage", "SQS takes no message without a payload: set illegal_payloads = \"base64\" to send it all the same")
	case !format.Legal(m.Data):
		return o, invalid("InvalidMessageContents", "the payload is no text that SQS takes (UTF-8 of the characters that XML has): set illegal_payloads = \"base64\" to send it all the same")
	default:
		body, as = string(m.Data), t.attributes(m, format.MaxAttributes)
	}
	if o.size = format.Size(len(body), as); o.size > q.MaxMessageBytes {
		return o, invalid("MessageTooLong", fmt.Sprintf("the message has %d bytes with its attributes, and queue %q takes %d: raise its MaximumMessageSize", o.size, q.Name, q.MaxMessageBytes))
	}
	o.entry.MessageBody = &body
	for i := range as {
		if o.entry.MessageAttributes == nil {
			o.entry.MessageAttributes = make(map[string]types.MessageAttributeValue, len(as))
		}
		v := types.MessageAttributeValue{DataType: &as[i].Type}
		if as[i].Binary() {
			v.BinaryValue = as[i].Value
		} else {
			text := string(as[i].Value)
			v.StringValue = &text
		}
		o.entry.MessageAttributes[as[i].Name] = v
	}
	if t.c.DelaySeconds > 0 && !q.FIFO {
		o.entry.DelaySeconds = int32(t.c.DelaySeconds)
	}
	if o.group = t.group(q, m); o.group != "" {
		o.entry.MessageGroupId = &o.group
	}
	if q.FIFO {
		if id := t.deduplicationID(m); id != "" {
			o.entry.MessageDeduplicationId = &id
		}
	}
	return o, nil
}

// group is the group of a message; empty for none.
func (t *Target) group(q format.Queue, m *event.Message) string {
	id := t.groupField.of(m)
	if id == "" {
		id = t.c.MessageGroupID
	}
	if id == "" && q.FIFO {
		id = m.PartitionKey()
	}
	return legalID(id)
}

// deduplicationID is by what a FIFO queue knows that it has a message already; empty leaves it
// to the queue. It is the same at every attempt, and two messages that were read at different
// places have different ones.
func (t *Target) deduplicationID(m *event.Message) string {
	if id := t.deduplicationField.of(m); id != "" {
		return legalID(id)
	}
	switch t.c.Deduplication {
	case dedupNone:
		return ""
	case dedupContent:
		sum := sha256.Sum256(m.Data)
		return hex.EncodeToString(sum[:])
	}
	h := sha256.New()
	part := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	o := m.Meta.Origin.Earliest()
	if m.Meta.ID == "" && (o == nil || len(o.Position) == 0) {
		m.Meta.ID = rand.Text() // it stays with the message from its first attempt on
	}
	part([]byte(m.Meta.ID))
	if o != nil {
		part([]byte(o.Stream))
		part([]byte(o.Partition))
		part(o.Position)
		part([]byte(strconv.FormatUint(o.Sub, 10)))
	}
	part(m.Data) // not the key, which may be a new one each time that the message is read
	return hex.EncodeToString(h.Sum(nil))
}

// legalID is id, or what stands for it where SQS does not take it.
func legalID(id string) string {
	if id == "" || format.LegalID(id) {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

func invalid(code, text string) error {
	return fault.Describe(fault.Invalid, fmt.Errorf("%s", text), fault.Detail{Type: "api", Code: code, Safe: code})
}
