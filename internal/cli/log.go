package cli

import (
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/secret"
)

// terminal reports whether w is a terminal that a person looks at.
func terminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// levels are the names of log levels: Snowbridge's. What it calls fatal and panic are
// errors here, since nothing logs above them.
var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn, "warn": slog.LevelWarn,
	"error": slog.LevelError, "fatal": slog.LevelError, "panic": slog.LevelError,
}

// logFlags are the flags that override what a config says of logs.
type logFlags struct{ level, format string }

func (f logFlags) check() error {
	if _, ok := levels[strings.ToLower(f.level)]; f.level != "" && !ok {
		return usagef("supported log levels are 'debug, info, warning, error, fatal, panic'; provided %s", f.level)
	}
	switch f.format {
	case "", "auto", "text", "json":
		return nil
	}
	return usagef("supported log formats are 'auto, text, json'; provided %s", f.format)
}

// apply sets level to what the flags, or else the config, say.
func (f logFlags) apply(p config.Process, level *slog.LevelVar) {
	name := p.LogLevel
	if f.level != "" {
		name = f.level
	}
	level.Set(levels[strings.ToLower(name)])
}

// json reports whether logs are JSON: not on a terminal, unless the flags or the config
// say what to do.
func (f logFlags) json(p config.Process, w io.Writer) bool {
	format := p.LogFormat
	if f.format != "" {
		format = f.format
	}
	if format == "" || format == "auto" {
		return !terminal(w)
	}
	return format == "json"
}

// logger makes the process's logger, which writes to w: JSON, or text with colours where they
// are seen, which is on a terminal behind w.
func (f logFlags) logger(p config.Process, err, w io.Writer, level slog.Leveler) *slog.Logger {
	if f.json(p, err) {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: readable}))
	}
	return slog.New(tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: "15:04:05.000", NoColor: !terminal(err), ReplaceAttr: shown}))
}

// readable writes durations with their unit, as the text format does: "1.5s".
func readable(groups []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.String(a.Key, a.Value.Duration().String())
	}
	return shown(groups, a)
}

// shown is an attribute as a log may show it. Whoever logs takes care of secrets; this is for
// what a library puts into its errors.
func shown(_ []string, a slog.Attr) slog.Attr {
	if secret.Name(a.Key) {
		return slog.String(a.Key, secret.Mark)
	}
	if k := a.Value.Kind(); k != slog.KindString && k != slog.KindAny {
		return a
	}
	text := a.Value.String()
	if safe := secret.Text(text); safe != text {
		return slog.String(a.Key, safe)
	}
	return a
}
