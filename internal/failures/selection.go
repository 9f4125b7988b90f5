package failures

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/queue"
)

// Selection chooses failures. Its zero value chooses every one.
type Selection struct {
	// Cause chooses failures one of whose errors, or whose code, has it; see [ParseCause].
	Cause Cause
	// Since and Until choose by the time the event was read: from Since on, before Until.
	Since, Until time.Time
	// MinSize and MaxSize choose by the payload's bytes; 0 means no bound.
	MinSize, MaxSize int
	// IDs chooses failures with these IDs.
	IDs map[string]bool
	// Scope chooses failures of a workspace, source or destination: of all those that are named.
	Scope map[queue.Axis]string
	// Pipeline chooses failures of a pipeline, and those that do not say where they failed.
	Pipeline string
	// Named leaves out those that do not say where they failed, when Pipeline is set.
	Named bool
}

// Cause chooses texts: those that contain it, or that match it when it is /an expression/.
type Cause struct {
	text string
	re   *regexp.Regexp
}

// ParseCause reads a text, or a regular expression between slashes.
func ParseCause(text string) (Cause, error) {
	if len(text) < 3 || text[0] != '/' || text[len(text)-1] != '/' {
		return Cause{text: text}, nil
	}
	re, err := regexp.Compile(text[1 : len(text)-1])
	if err != nil {
		return Cause{}, fmt.Errorf("%s is no regular expression: %w; for a text that begins and ends with a slash, write /\\/text\\//", text, err)
	}
	return Cause{re: re}, nil
}

// Text is the text that a cause must contain; false when it is a regular expression.
func (c Cause) Text() (string, bool) { return c.text, c.re == nil }

func (c Cause) match(text string) bool {
	if c.re != nil {
		return c.re.MatchString(text)
	}
	return strings.Contains(text, c.text)
}

// Match reports whether s chooses f.
func (s *Selection) Match(f *Failure) bool {
	switch size := f.Size(); {
	case !s.Since.IsZero() && f.Time.Before(s.Since), !s.Until.IsZero() && !f.Time.Before(s.Until),
		size < s.MinSize, s.MaxSize > 0 && size > s.MaxSize,
		len(s.IDs) > 0 && !s.IDs[f.ID]:
		return false
	}
	for axis, value := range s.Scope {
		if axis.Of(f.Context.Scope) != value {
			return false
		}
	}
	if at := f.Context.Pipeline; s.Pipeline != "" && at != s.Pipeline && (s.Named || at != "") {
		return false
	}
	return s.Cause.match(f.Cause()) || s.Cause.match(f.Code) || slices.ContainsFunc(f.Errors, s.Cause.match) ||
		f.Refusal != "" && s.Cause.match(f.Refusal)
}

// Empty reports whether s chooses every failure.
func (s *Selection) Empty() bool {
	return s.Cause == (Cause{}) && s.Since.IsZero() && s.Until.IsZero() && s.MinSize == 0 && s.MaxSize == 0 &&
		len(s.IDs) == 0 && len(s.Scope) == 0
}
