// Package sqs is the format of a message of Amazon SQS: how its attributes are headers of an
// event and back, what a message weighs, which characters it may have, and what the attributes
// of a queue say. Nothing is opened here.
//
// # Attributes and headers
//
// An attribute has a name, a type (String, Number or Binary, each with a suffix of its sender's)
// and a value. As a header it has name and value; what is not a plain String is named in one more
// header, [TypesHeader], as "price=Number,photo=Binary.png". SQS keeps no order of attributes:
// headers are in the order of their names.
//
// A message has at most ten attributes with different names and values that are not empty. Headers
// that are more than that, or that SQS refuses, travel together in one attribute, [RestAttribute]:
// a list in JSON with values in base64. So nothing of a message is lost between two queues.
//
// A body that SQS refuses (empty, or with characters that XML does not have) may be sent in base64;
// [EncodingAttribute] says so, and the reading side undoes it.
package sqs

import (
	"encoding/json"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The limits of SQS.
const (
	MaxBytes      = 1 << 20 // of a message, and of the messages of a call together
	MaxEntries    = 10      // of a call
	MaxAttributes = 10      // of a message
	MaxIDLength   = 128     // of a group, or a de-duplication id
)

// Attribute is a message attribute. Its value is text or, when [Attribute.Binary], bytes.
type Attribute struct {
	Name, Type string
	Value      []byte
}

// Binary reports whether the value travels as bytes.
func (a Attribute) Binary() bool { return a.Type == "Binary" || strings.HasPrefix(a.Type, "Binary.") }

// Size is what SQS counts for a message: the body, and of each attribute name, type and value.
func Size(body int, as []Attribute) int {
	for i := range as {
		body += len(as[i].Name) + len(as[i].Type) + len(as[i].Value)
	}
	return body
}

// Legal reports whether SQS takes s as text: valid UTF-8 of the characters that XML has.
func Legal(s []byte) bool {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c < 0x20 && c != '\t' && c != '\n' && c != '\r' {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && n == 1 || r == 0xfffe || r == 0xffff {
			return false
		}
		i += n
	}
	return true
}

// LegalID reports whether s can be the id of a group or for de-duplication: up to 128 letters,
// digits and signs of ASCII.
func LegalID(s string) bool {
	if s == "" || len(s) > MaxIDLength {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Queue is what the attributes of a queue say.
type Queue struct {
	Name, URL string
	FIFO      bool
	// MaxMessageBytes is the largest message it takes; MaxBytes where it does not say.
	MaxMessageBytes int
	// MaxReceives is how often a message is received before the queue moves it to its dead-letter
	// queue; 0 when it has none, or does not say. DeadLetters is that queue's ARN.
	MaxReceives int
	DeadLetters string
	// Unread says that the attributes could not be read.
	Unread bool
	// Waiting is how many messages may be received, -1 when it does not say.
	Waiting int64
}

// Describe reads the attributes of the queue with a name.
func Describe(name, url string, attributes map[string]string) Queue {
	q := Queue{Name: name, URL: url, FIFO: strings.HasSuffix(name, ".fifo"), MaxMessageBytes: MaxBytes, Waiting: -1}
	if v, ok := attributes["FifoQueue"]; ok {
		q.FIFO = v == "true"
	}
	if n, err := strconv.Atoi(attributes["MaximumMessageSize"]); err == nil && n > 0 {
		q.MaxMessageBytes = n
	}
	if n, err := strconv.ParseInt(attributes["ApproximateNumberOfMessages"], 10, 64); err == nil {
		q.Waiting = n
	}
	var redrive struct {
		Target string      `json:"deadLetterTargetArn"`
		Most   json.Number `json:"maxReceiveCount"` // some write it as text
	}
	if text := attributes["RedrivePolicy"]; text != "" && json.Unmarshal([]byte(text), &redrive) == nil {
		if n, err := strconv.Atoi(redrive.Most.String()); err == nil && n > 0 && redrive.Target != "" {
			q.MaxReceives, q.DeadLetters = n, redrive.Target
		}
	}
	return q
}

// Position is a sequence number of a FIFO queue as bytes in the order of the numbers; nil for
// what is none.
func Position(sequence string) []byte {
	n, ok := new(big.Int).SetString(sequence, 10)
	if !ok || n.Sign() < 0 || n.BitLen() > 128 {
		return nil
	}
	return n.FillBytes(make([]byte, 16))
}

// The names of the classes that the libraries for large messages write into a body.
var pointers = []string{`["software.amazon.payloadoffloading.PayloadS3Pointer"`, `["com.amazon.sqs.javamessaging.MessageS3Pointer"`}

// Pointer reports whether a body is the place in S3 where the libraries for large messages have
// put the payload.
func Pointer(body string) bool {
	for _, p := range pointers {
		if strings.HasPrefix(body, p) {
			return true
		}
	}
	return false
}
