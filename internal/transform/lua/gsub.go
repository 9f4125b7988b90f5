package lua

import (
	"strconv"

	golua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/pm"
)

// gsub is string.gsub. The interpreter's own copies the whole text for each match, which
// takes minutes for a text of some hundred kilobytes, and cannot be interrupted.
func (t *Worker) gsub(l *golua.LState) int {
	text, pattern := l.CheckString(1), l.CheckString(2)
	l.CheckTypes(3, golua.LTString, golua.LTTable, golua.LTFunction)
	matches, err := pm.Find(pattern, []byte(text), 0, l.OptInt(4, -1))
	if err != nil {
		l.RaiseError("%s", err.Error())
	}
	var (
		out  []byte
		with = l.Get(3)
		at   = 0
	)
	for i, m := range matches {
		if i&0xff == 0 && l.Context().Err() != nil {
			l.RaiseError("%s", l.Context().Err().Error())
		}
		from, to := m.Capture(0), m.Capture(1)
		out = append(out, text[at:from]...)
		at = to
		switch with := with.(type) {
		case *golua.LTable:
			out = appendReplacement(out, l.GetTable(with, capture(l, m, text, 1)), text[from:to])
		case *golua.LFunction:
			out = appendReplacement(out, replacement(l, with, m, text), text[from:to])
		default:
			out = expand(l, out, golua.LVAsString(with), m, text)
		}
		if len(out) > t.memory() {
			l.RaiseError("the result of string.gsub is larger than the memory limit of the script")
		}
	}
	l.Push(golua.LString(append(out, text[at:]...)))
	l.Push(golua.LNumber(len(matches)))
	return 2
}

// appendReplacement appends what a table or function gave for a match, which false and nil
// leave as it is.
func appendReplacement(out []byte, v golua.LValue, match string) []byte {
	if golua.LVIsFalse(v) {
		return append(out, match...)
	}
	return append(out, golua.LVAsString(v)...)
}

// replacement calls f with the captures of a match.
func replacement(l *golua.LState, f *golua.LFunction, m *pm.MatchData, text string) golua.LValue {
	l.Push(f)
	n := max(m.CaptureLength()/2-1, 1)
	for i := range n {
		l.Push(capture(l, m, text, i+1))
	}
	l.Call(n, 1)
	v := l.Get(-1)
	l.Pop(1)
	return v
}

// capture is the n-th capture of a match; without captures the first is the whole match.
func capture(l *golua.LState, m *pm.MatchData, text string, n int) golua.LValue {
	at := 2 * n
	if at >= m.CaptureLength() {
		if n > 1 {
			l.RaiseError("invalid capture index")
		}
		at = 0
	}
	if m.IsPosCapture(at) {
		return golua.LNumber(m.Capture(at))
	}
	return golua.LString(text[m.Capture(at):m.Capture(at+1)])
}

// expand appends a replacement text: %0 is the match, %1 to %9 are captures, %% is %.
func expand(l *golua.LState, out []byte, form string, m *pm.MatchData, text string) []byte {
	for i := 0; i < len(form); i++ {
		c := form[i]
		if c != '%' || i+1 == len(form) {
			out = append(out, c)
			continue
		}
		i++
		switch c = form[i]; {
		case c == '%':
			out = append(out, '%')
		case c >= '0' && c <= '9':
			switch v := capture(l, m, text, int(c-'0')).(type) {
			case golua.LNumber:
				out = strconv.AppendInt(out, int64(v), 10)
			default:
				out = append(out, golua.LVAsString(v)...)
			}
		default:
			out = append(out, '%', c)
		}
	}
	return out
}
