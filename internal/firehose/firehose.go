// Package firehose is what Amazon Data Firehose says of records: how a Lambda handler is given
// them and answers, what their partition keys are called, and the form of those that failed.
// Package prefix below it reads the expressions in the names of objects.
//
// # Transformation
//
// A handler is invoked with records and answers each of them by its recordId, with a result:
// "Ok" and new data, "Dropped", or "ProcessingFailed" ([Request], [Answers]). Request and answer
// have at most 6 MiB, data in base64. An answer that cannot be read fails all records; one that
// says nothing of a record, or says two things, fails that record.
//
// # Partition keys
//
// What a handler or a query says of a record (metadata.partitionKeys) is with its message as a
// header, called like the expression that names it in a prefix: "partitionKeyFromLambda:NAME" and
// "partitionKeyFromQuery:NAME". So queues and topics between keep it. A value is a text that is not
// empty.
//
// # Failed records
//
// A failed record is a line of JSON ([Failure.Line]), in objects below the error prefix of what
// failed ([ProcessingFailed] and others). Ours say that too, and whose record it is, in a member
// "weir" that readers of Firehose's own pass over.
package firehose

import (
	"github.com/weirdata/weir/internal/event"
)

// KeySource says where a partition key comes from, as expressions of a prefix name it.
type KeySource string

// The sources of partition keys.
const (
	FromQuery  KeySource = "partitionKeyFromQuery"
	FromLambda KeySource = "partitionKeyFromLambda"
)

// Noter is a transform that notes partition keys: of which source, and their names, where these are the
// same for all messages; none where it depends.
type Noter interface {
	Notes() (source KeySource, names []string)
}

// MostKeys is how many partition keys a record may have.
const MostKeys = 50

// Header is the name of the header that holds a partition key.
func (s KeySource) Header(name string) string { return string(s) + ":" + name }

// Set notes a partition key of m.
func (s KeySource) Set(m *event.Message, name, value string) { m.SetHeader(s.Header(name), value) }

// Of is a partition key of m, empty when it has none of the name.
func (s KeySource) Of(m *event.Message, name string) string {
	v, _ := m.Meta.Headers.Get(s.Header(name))
	return string(v)
}
