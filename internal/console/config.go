package console

import (
	"net/http"
	"time"

	"github.com/weirdata/weir/internal/api"
)

// Config is the files of the config: as they are now, and as they were for what runs. What is secret
// in them is hidden.
type Config struct {
	// At is when they were looked at, and Since when what runs came into force.
	At    time.Time    `json:"at"`
	Since time.Time    `json:"since"`
	Files []ConfigFile `json:"files"`
	// Findings are what is wrong with the files as they are now, and Refused says that a reload would
	// change nothing because of them.
	Findings []Finding `json:"findings"`
	Refused  bool      `json:"refused"`
	// Same says that no file differs from what runs.
	Same bool `json:"same"`
}

// States of a file.
const (
	FileSame    = "same"
	FileChanged = "changed"
	FileNew     = "new"
	FileGone    = "gone"
)

// ConfigFile is a file of the config.
type ConfigFile struct {
	Name string `json:"name"`
	// State is "same", "changed", "new" (what runs does not have it) or "gone".
	State string `json:"state"`
	// Text is what it holds now, and Running what it held for what runs, where that differs.
	Text    string `json:"text"`
	Running string `json:"running,omitempty"`
	// Hidden says that something differs that is hidden.
	Hidden bool `json:"hidden,omitempty"`
	// Cut says that it is longer than what is shown.
	Cut bool `json:"cut,omitempty"`
}

// Finding is one thing wrong with a config.
type Finding struct {
	Severity string `json:"severity"` // "error" or "warning"
	// File and Line are where; empty and 0 when it is in no file, or in no line of it.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	What string `json:"what"`
	Fix  string `json:"fix,omitempty"`
}

func (c *Console) configured() []api.Route {
	return []api.Route{{Method: "GET", Path: "/v1/config", Right: api.See, Answer: Config{}, Do: c.config,
		Summary: "The files of the config as they are now, what is wrong with them, and what they were for what runs; secrets are hidden, and nothing is written"}}
}

// config reads the config for one who asks at a time: it costs as much as a reload.
func (c *Console) config(w http.ResponseWriter, r *http.Request) {
	select {
	case c.reads <- struct{}{}:
		defer func() { <-c.reads }()
	case <-r.Context().Done():
		return
	case <-c.ended:
		api.Refuse(w, http.StatusServiceUnavailable, "Weir is stopping")
		return
	}
	out, err := c.o.Config(r.Context())
	if err != nil {
		api.Refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	api.Answer(w, out)
}
