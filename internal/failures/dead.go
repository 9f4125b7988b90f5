package failures

import "github.com/weirdata/weir/internal/event"

// DeadMessage is the kind of a message that is dead in the queue it waited in: it is no row.
const DeadMessage Kind = "dead_message"

// OfDead is the failure that a dead message of a queue is; cause is why it died, attempts how
// often it was tried.
func OfDead(m *event.Message, cause string, attempts int) *Failure {
	f := &Failure{Kind: DeadMessage, Time: m.Times.Read, Errors: []string{cause}, Payload: m.Data, Message: m, Dead: true, Attempts: attempts,
		Context: ContextOf("", m)}
	if f.Time.IsZero() {
		f.Time = m.Times.Created
	}
	return f
}
