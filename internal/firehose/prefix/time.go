package prefix

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Layout is a pattern of Java's DateTimeFormatter.
type Layout []field

// field is a letter of a time, as often as it is there, or a text.
type field struct {
	letter byte // 0 for a text
	n      int
	text   string
}

// most is how often each letter of a pattern may be there.
var most = map[byte]int{
	'G': 3, 'y': 9, 'u': 9, 'M': 4, 'L': 2, 'd': 2, 'D': 3, 'Q': 2, 'q': 2, 'E': 4, 'a': 1, 'H': 2, 'h': 2, 'K': 2, 'k': 2,
	'm': 2, 's': 2, 'S': 9, 'A': 9, 'n': 9, 'N': 19, 'Z': 3, 'X': 3, 'x': 3, 'V': 2, 'z': 3,
}

// mistaken are letters that mean something else than most who write them think.
var mistaken = map[string]string{
	"Y":  "is the year of the week, which is another one around New Year: write y",
	"DD": "is the day of the year: write dd for the day of the month, or DDD",
	"w":  "is a week, which begins on another day in each country: write the date",
	"e":  "is a day of the week, which begins on another day in each country: write the date, or E",
}

// ParseLayout reads a pattern.
func ParseLayout(text string) (Layout, error) {
	var all Layout
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '\'':
			quoted, n, err := quotation(text[i:])
			if err != nil {
				return nil, err
			}
			all = append(all, field{text: quoted})
			i += n
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			n := 1
			for i+n < len(text) && text[i+n] == c {
				n++
			}
			if err := allowed(c, n); err != nil {
				return nil, err
			}
			all = append(all, field{letter: c, n: n})
			i += n
		case strings.IndexByte("[]{}#", c) >= 0:
			return nil, fmt.Errorf("a time pattern has %q, which Java keeps for itself; texts stand between ''", string(c))
		default:
			all = append(all, field{text: text[i : i+1]})
			i++
		}
	}
	if len(all) == 0 {
		return nil, errors.New("a time pattern is empty")
	}
	return all, nil
}

// quotation is the text between the quotes that s begins with, and how much of s it takes. A
// quote is written twice.
func quotation(s string) (text string, n int, err error) {
	if strings.HasPrefix(s, "''") {
		return "'", 2, nil
	}
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] != '\'':
		case i+1 < len(s) && s[i+1] == '\'':
			i++
		default:
			return strings.ReplaceAll(s[1:i], "''", "'"), i + 1, nil
		}
	}
	return "", 0, errors.New("a text in a time pattern that begins with ' has no end")
}

func allowed(c byte, n int) error {
	written := strings.Repeat(string(c), n)
	for _, what := range []string{written, string(c)} {
		if why := mistaken[what]; why != "" {
			return fmt.Errorf("a time pattern has %s, which %s", written, why)
		}
	}
	if n <= most[c] && !(c == 'V' && n == 1) && !(c == 'L' && n > 2) {
		return nil
	}
	return fmt.Errorf("a time pattern has %q, which is none of the letters of Java's DateTimeFormatter that are known here (yyyy, MM, MMM, dd, DDD, HH, hh, mm, ss, SSS, a, E and others); texts stand between ''", written)
}

// Append writes t as l says.
func (l Layout) Append(b *strings.Builder, t time.Time) {
	for _, f := range l {
		b.WriteString(f.of(t))
	}
}

func (f field) of(t time.Time) string {
	pad := func(v int64) string { return fmt.Sprintf("%0*d", f.n, v) }
	number := func(v int) string { return pad(int64(v)) }
	switch f.letter {
	case 0:
		return f.text
	case 'y', 'u':
		if f.n == 2 {
			return number(t.Year() % 100)
		}
		return number(t.Year())
	case 'M', 'L':
		if f.n > 2 {
			return t.Format([]string{"Jan", "January"}[f.n-3])
		}
		return number(int(t.Month()))
	case 'd':
		return number(t.Day())
	case 'D':
		return number(t.YearDay())
	case 'Q', 'q':
		return number((int(t.Month()) + 2) / 3)
	case 'E':
		return t.Format([]string{"Mon", "Mon", "Mon", "Monday"}[f.n-1])
	case 'a':
		return t.Format("PM")
	case 'H':
		return number(t.Hour())
	case 'k':
		return number((t.Hour()+23)%24 + 1)
	case 'K':
		return number(t.Hour() % 12)
	case 'h':
		return number((t.Hour()+11)%12 + 1)
	case 'm':
		return number(t.Minute())
	case 's':
		return number(t.Second())
	case 'S':
		return fmt.Sprintf("%09d", t.Nanosecond())[:f.n]
	case 'n':
		return number(t.Nanosecond())
	case 'A':
		return pad(ofDay(t) / int64(time.Millisecond))
	case 'N':
		return pad(ofDay(t))
	}
	return f.zone(t)
}

// ofDay is how many nanoseconds of the day are over, by the clock on the wall.
func ofDay(t time.Time) int64 {
	return int64(time.Duration(t.Hour())*time.Hour+time.Duration(t.Minute())*time.Minute+time.Duration(t.Second())*time.Second) + int64(t.Nanosecond())
}

// zone is the era, or the offset or name of the time zone.
func (f field) zone(t time.Time) string {
	_, offset := t.Zone()
	short := []string{"-07", "-0700", "-07:00"}
	switch f.letter {
	case 'G':
		return "AD"
	case 'V':
		return t.Location().String()
	case 'z':
		return t.Format("MST")
	case 'Z':
		return t.Format("-0700")
	case 'X':
		if offset == 0 {
			return "Z"
		}
		fallthrough
	default: // x
		if f.n == 1 && offset%3600 != 0 {
			return t.Format(short[1])
		}
		return t.Format(short[f.n-1])
	}
}

// DefaultLayout is what stands behind a prefix without an expression.
const DefaultLayout = "yyyy/MM/dd/HH/"

// SuffixLayout is how the time in the name of an object is written.
const SuffixLayout = "yyyy-MM-dd-HH-mm-ss"

// Must is ParseLayout of what is known to be right.
func Must(text string) Layout {
	l, err := ParseLayout(text)
	if err != nil {
		panic(strconv.Quote(text) + ": " + err.Error())
	}
	return l
}
