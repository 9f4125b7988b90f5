package stdout

import (
	"bytes"
	"errors"
	"testing"

	"github.com/weirdata/weir/internal/event"
)

// half takes a few bytes of the first write and the whole of the others.
type half struct {
	bytes.Buffer
	failed bool
}

func (h *half) Write(p []byte) (int, error) {
	if !h.failed {
		h.failed = true
		n, _ := h.Buffer.Write(p[:len(p)/2])
		return n, errors.New("full")
	}
	return h.Buffer.Write(p)
}

// TestTornByAnother: all targets for one output know of a line that one of them has torn.
func TestTornByAnother(t *testing.T) {
	t.Parallel()
	c := *Entry.Default().(*Config)
	c.DataOnlyOutput = true
	h := &half{}
	out := output{Writer: h}
	if err := on(&out, c).Write(t.Context(), event.Batch{event.New([]byte("abcdefg"))}); err == nil {
		t.Error("the write did not fail")
	}
	if err := on(&out, c).Write(t.Context(), event.Batch{event.New([]byte("whole"))}); err != nil {
		t.Error(err)
	}
	if got := h.String(); got != "abcd\nwhole\n" {
		t.Errorf("printed %q", got)
	}
}
