package eventhubsource

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azeventhubs/v2"

	"github.com/weirdata/weir/internal/event"
)

// Names of headers that are properties of AMQP, where a sender has set them.
const (
	headerContentType   = "content-type"
	headerCorrelationID = "correlation-id"
)

// messages are the messages of events of one partition. What they were sent with comes along:
// application properties as headers, in the order of their names, since the service keeps none;
// text and bytes as they are, numbers and times as text.
func messages(stream, partition string, key bool, events []*azeventhubs.ReceivedEventData) event.Batch {
	now := time.Now().UTC()
	payloads := make([][]byte, len(events))
	for i, e := range events {
		payloads[i] = payload(e)
	}
	b := event.NewBatch(now, payloads)
	event.Origins(b, stream, partition, func(i int) uint64 { return uint64(events[i].SequenceNumber) })
	for i, e := range events {
		m := b[i]
		if e.MessageID != nil {
			m.Meta.ID = *e.MessageID
		}
		if key && e.PartitionKey != nil {
			m.Key = *e.PartitionKey
		}
		m.Meta.Headers = headers(e)
		if e.EnqueuedTime != nil {
			at := e.EnqueuedTime.UTC()
			m.Times.Created, m.Meta.Origin.At = at, at
		}
	}
	return b
}

// payload is the body of an event: its bytes, which may come in several sections, or a value. An
// event that says it has no body has no payload.
func payload(e *azeventhubs.ReceivedEventData) []byte {
	if e.RawAMQPMessage == nil {
		return e.Body
	}
	body := e.RawAMQPMessage.Body
	switch {
	case len(body.Data) == 1:
		return notNil(body.Data[0])
	case len(body.Data) > 1:
		return slices.Concat(body.Data...)
	case body.Value != nil:
		return text(body.Value)
	case len(body.Sequence) > 0:
		return text(body.Sequence)
	}
	return nil
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func headers(e *azeventhubs.ReceivedEventData) event.Headers {
	n := len(e.Properties)
	if e.ContentType != nil {
		n++
	}
	if e.CorrelationID != nil {
		n++
	}
	if n == 0 {
		return nil
	}
	h := make(event.Headers, 0, n)
	for name, value := range e.Properties {
		h = append(h, event.Header{Name: name, Value: text(value)})
	}
	slices.SortFunc(h, func(a, b event.Header) int { return strings.Compare(a.Name, b.Name) })
	if _, taken := e.Properties[headerContentType]; e.ContentType != nil && !taken {
		h = append(h, event.Header{Name: headerContentType, Value: []byte(*e.ContentType)})
	}
	if _, taken := e.Properties[headerCorrelationID]; e.CorrelationID != nil && !taken {
		h = append(h, event.Header{Name: headerCorrelationID, Value: text(e.CorrelationID)})
	}
	return h
}

// text is a value of AMQP as bytes.
func text(value any) []byte {
	switch v := value.(type) {
	case nil:
		return []byte{}
	case []byte:
		return notNil(v)
	case string:
		return []byte(v)
	case bool:
		return strconv.AppendBool(nil, v)
	case int64:
		return strconv.AppendInt(nil, v, 10)
	case uint64:
		return strconv.AppendUint(nil, v, 10)
	case float64:
		return strconv.AppendFloat(nil, v, 'g', -1, 64)
	case float32:
		return strconv.AppendFloat(nil, float64(v), 'g', -1, 32)
	case time.Time:
		return v.UTC().AppendFormat(nil, time.RFC3339Nano)
	case fmt.Stringer: // a UUID
		return []byte(v.String())
	case int8, int16, int32, int, uint8, uint16, uint32, uint:
		return fmt.Append(nil, v)
	}
	if b, err := json.Marshal(encodable(value)); err == nil {
		return b
	}
	return fmt.Append(nil, value)
}

// encodable is a value of AMQP with maps as JSON has them.
func encodable(value any) any {
	switch v := value.(type) {
	case map[any]any:
		m := make(map[string]any, len(v))
		for k, x := range v {
			m[string(text(k))] = encodable(x)
		}
		return m
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, x := range v {
			m[k] = encodable(x)
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, x := range v {
			l[i] = encodable(x)
		}
		return l
	case []byte:
		if utf8.Valid(v) {
			return string(v)
		}
	}
	return value
}
