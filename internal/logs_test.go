package internal_test

import (
	"go/ast"
	"slices"
	"testing"
)

// ownLogs are product files that make a logger, each for its reason.
var ownLogs = map[string]string{
	"internal/cli/log.go":        "it is the log of the process, as text or JSON",
	"internal/cli/run.go":        "it puts the limit in front of it",
	"internal/cli/lake_serve.go": "likewise, of a process that runs no pipelines",
	"internal/app/report.go":     "it reports what goes to that log",
	"internal/app/inspect.go":    "it reads along",
}

// TestEveryLineIsLimited keeps one way to the log: through outage.Limit, by which no line that comes
// for each message, request or attempt can fill a disk. A second logger, or the standard error
// itself, would pass it by.
func TestEveryLineIsLimited(t *testing.T) {
	t.Parallel()
	limited := false
	for _, f := range parsed(t) {
		p, _ := placeOf(f.dir)
		if f.test || p.floor >= testing_ || f.generated {
			continue
		}
		if f.path == "internal/cli/run.go" {
			limited = len(selections(f.syntax, "outage", "Limit")) == 1
		}
		if ownLogs[f.path] == "" && makesLogger(f.syntax) {
			t.Errorf("%s makes a logger of its own: log to the one that is handed in, whose lines are limited", f.path)
		}
		paths := f.imports(t)
		if slices.Contains(paths, "log") && len(selections(f.syntax, "log", "Print", "Printf", "Println", "Default", "SetOutput")) > 0 {
			t.Errorf("%s logs with package log: log to the slog.Logger that is handed in, whose lines are limited", f.path)
		}
		if f.dir != "internal/cli" && f.dir != "cmd/weir" && len(selections(f.syntax, "os", "Stderr")) > 0 {
			t.Errorf("%s writes to the standard error: log to the slog.Logger that is handed in, whose lines are limited", f.path)
		}
	}
	if !limited {
		t.Error("internal/cli/run.go does not put outage.Limit in front of the log of the process")
	}
}

// makesLogger reports whether syntax calls slog.New with something else than a handler that
// discards, or makes a handler.
func makesLogger(syntax *ast.File) (makes bool) {
	ast.Inspect(syntax, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		name := selected(call.Fun)
		if name == "slog.NewJSONHandler" || name == "slog.NewTextHandler" || name == "slog.New" && (len(call.Args) != 1 || selected(call.Args[0]) != "slog.DiscardHandler") {
			makes = true
		}
		return true
	})
	return makes
}

// selected is an expression of the form package.Name; empty when it is none.
func selected(e ast.Expr) string {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := s.X.(*ast.Ident)
	if !ok {
		return ""
	}
	return x.Name + "." + s.Sel.Name
}
