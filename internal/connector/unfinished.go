package connector

import "github.com/weirdata/weir/internal/event"

// headerUnfinished is the header of a message that a transform could not finish; its value is why.
const headerUnfinished = "weir-unfinished"

// Unfinished marks m as it is before a transform that failed on it, or could not wait for what it
// needs, so that no other message waits: a [Finisher] behind it does what is left. The engine
// hands it to no other target.
func Unfinished(m *event.Message, why error) {
	const most = 2000
	text := why.Error()
	m.SetHeader(headerUnfinished, text[:min(len(text), most)])
}

// IsUnfinished is why a transform could not finish m.
func IsUnfinished(m *event.Message) (why string, unfinished bool) {
	if len(m.Meta.Headers) == 0 {
		return "", false
	}
	v, ok := m.Meta.Headers.Get(headerUnfinished)
	return string(v), ok
}

// Finisher is a target that takes unfinished messages: it finishes them, or keeps them as they are
// for one that does. Every other target is refused them.
type Finisher interface{ Finishes() bool }
