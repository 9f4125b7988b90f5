package cli

import (
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"

	"github.com/weirdata/weir/internal/config"
)

// terminal reports whether w is a terminal that a person looks at.
func terminal(w io.Writer) bool {
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

// logger makes the process's logger: colours and text on a terminal, JSON otherwise,
// unless the flags or the config say what to do.
func (f logFlags) logger(p config.Process, w io.Writer) *slog.Logger {
	level, format := p.LogLevel, p.LogFormat
	if f.level != "" {
		level = f.level
	}
	if f.format != "" {
		format = f.format
	}
	at := levels[strings.ToLower(level)]
	if format == "" || format == "auto" {
		if format = "json"; terminal(w) {
			format = "text"
		}
	}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: at}))
	}
	return slog.New(tint.NewHandler(w, &tint.Options{Level: at, TimeFormat: "15:04:05.000", NoColor: !terminal(w)}))
}
