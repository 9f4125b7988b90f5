package cli

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/console"
)

// longestShown is the most bytes of a config file that a page gets.
const longestShown = 1 << 20

// standing is the config as its files are now, beside what runs: what weir check says of it but for
// what an address, a lock or a folder in use has to say, which this process itself uses.
func (r *runner) standing(ctx context.Context) (*console.Config, error) {
	running := r.config.Load()
	if running == nil {
		return nil, errors.New("the config is being read")
	}
	out := &console.Config{At: time.Now().Round(time.Millisecond), Since: time.UnixMilli(r.since.Load()), Files: []console.ConfigFile{}, Findings: []console.Finding{}}
	b := builder()
	b.Log = slog.New(slog.DiscardHandler)
	o := b.Options(r.s.Env)
	files, found := config.Read(r.paths)
	if !found.HasErrors() {
		var cfg *config.Config
		var more config.Diagnostics
		if len(r.paths) == 0 {
			cfg, more = config.Load(nil, o)
		} else {
			cfg, more = config.ParseFiles(files, o)
		}
		if found = append(found, more...); cfg != nil {
			_, more = b.Build(ctx, cfg.Plan())
			found = append(found, more...)
		}
	}
	out.Refused = found.HasErrors()
	for _, d := range found {
		out.Findings = append(out.Findings, console.Finding{Severity: string(d.Severity), File: d.File, Line: d.Line, What: d.What, Fix: d.Fix})
	}
	out.Files = compared(files, running.Texts(), o.Older)
	out.Same = !slices.ContainsFunc(out.Files, func(f console.ConfigFile) bool { return f.State != console.FileSame })
	return out, nil
}

// compared is the files as they are, and as they were.
func compared(now, then []config.File, older config.Older) []console.ConfigFile {
	out := []console.ConfigFile{}
	before := map[string]config.File{}
	for _, f := range then {
		before[f.Name] = f
	}
	for _, f := range now {
		is := config.Show(f, older)
		one := console.ConfigFile{Name: f.Name, State: console.FileNew}
		one.Text, one.Cut = cutText(is.Text)
		if old, was := before[f.Name]; was {
			delete(before, f.Name)
			if one.State = console.FileSame; string(old.Src) != strings.TrimPrefix(string(f.Src), "\xef\xbb\xbf") {
				had := config.Show(old, older)
				one.State, one.Hidden = console.FileChanged, had.Hidden != is.Hidden
				one.Running, _ = cutText(had.Text)
			}
		}
		out = append(out, one)
	}
	for _, f := range then {
		if _, gone := before[f.Name]; gone {
			one := console.ConfigFile{Name: f.Name, State: console.FileGone}
			one.Running, one.Cut = cutText(config.Show(f, older).Text)
			out = append(out, one)
		}
	}
	return out
}

func cutText(text string) (string, bool) {
	if len(text) <= longestShown {
		return text, false
	}
	n := longestShown
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n], true
}
