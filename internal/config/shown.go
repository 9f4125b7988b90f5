package config

import (
	"bytes"
	"crypto/sha256"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/weirdata/weir/internal/secret"
)

// Shown is a config file as people may see it who may not see its secrets.
type Shown struct {
	// Text is that of the file, with as many lines. What is hidden is replaced.
	Text string
	// Hidden stands for all that is hidden: two files whose texts are the same, and this too, are
	// the same.
	Hidden [sha256.Size]byte
}

// Texts are the files that c was read from, as they were then.
func (c *Config) Texts() []File {
	if c.doc == nil {
		return nil
	}
	out := make([]File, len(c.doc.files))
	for i, f := range c.doc.files {
		out[i] = File{Name: f.Name, Src: f.Src}
	}
	return out
}

// Show is a file as people may see it, whatever is wrong with it. Hidden is what a diagnostic hides
// ([Syntax.Hide]), and what a diagnostic never shows: in comments, texts and scripts what is written
// after a name that says secret, and private keys; and each hidden value wherever else it is.
func Show(file File, older Older) Shown {
	d := &document{}
	ds := d.parse(file.Name, file.Src)
	f := d.files[0]
	hidden := slices.Clone(f.hidden)
	if ds.HasErrors() {
		hidden = append(hidden, hideLines(f.Src)...)
	} else if older != nil {
		_ = older.Modernize(f) // for what it hides
		hidden = append(hidden, f.hidden...)
	}
	tokens, _ := hclsyntax.LexConfig(f.Src, file.Name, hcl.InitialPos)
	hidden = append(hidden, hide(f.Src, tokens)...) // of a file that was not even parsed
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenComment, hclsyntax.TokenStringLit, hclsyntax.TokenQuotedLit:
			hidden = append(hidden, hideWritten(t)...)
		}
	}
	for _, at := range privateKey.FindAllIndex(f.Src, -1) {
		hidden = append(hidden, span{at[0], at[1]})
	}
	hidden = append(hidden, repeated(f.Src, merged(sortedSpans(hidden)))...)
	return shown(f.Src, merged(sortedSpans(hidden)))
}

var (
	privateKey = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*-----)?`)
	written    = regexp.MustCompile("([\\w-]+)(?:[\"'`]?[ \\t]*(?:=>|:=|=|:)[ \\t]*|[\"'`],[ \\t]*[\"'`])([^\\s=>][^\\n]*)")
)

// hideWritten finds what a comment, a text or a script has after names that say secret, to the end of
// the line.
func hideWritten(t hclsyntax.Token) (hidden []span) {
	start := t.Range.Start.Byte
	end := 0
	for end < len(t.Bytes) {
		m := written.FindSubmatchIndex(t.Bytes[end:])
		if m == nil {
			break
		}
		if secret.Name(string(t.Bytes[end+m[2] : end+m[3]])) {
			hidden = append(hidden, span{start + end + m[4], start + end + m[5]})
			end += m[5]
		} else {
			end += m[4] // another name may follow on the line
		}
	}
	return hidden
}

const (
	mostRepeated     = 1000 // hidden values that are looked for elsewhere
	shortestRepeated = 8    // bytes; a shorter one may be an ordinary word
)

// repeated finds hidden values where nothing else says that they are secret.
func repeated(src []byte, hidden []span) (more []span) {
	seen := map[string]bool{}
	for _, h := range hidden {
		text := strings.Trim(string(src[h.from:h.to]), " \t\r\n\"'`,;")
		if len(text) < shortestRepeated || strings.Contains(text, "\n") || seen[text] || len(seen) == mostRepeated {
			continue
		}
		seen[text] = true
		for from := 0; ; {
			i := bytes.Index(src[from:], []byte(text))
			if i < 0 {
				break
			}
			more = append(more, span{from + i, from + i + len(text)})
			from += i + len(text)
		}
	}
	return more
}

// shown is src with the hidden parts replaced.
func shown(src []byte, hidden []span) Shown {
	var b strings.Builder
	sum := sha256.New()
	from := 0
	for _, h := range hidden {
		part := src[h.from:h.to]
		b.Write(src[from:h.from])
		lines := bytes.Count(part, []byte("\n"))
		if len(bytes.TrimSpace(part)) > 0 {
			b.WriteString(hiddenText)
		}
		b.WriteString(strings.Repeat("\n", lines))
		sum.Write(part)
		sum.Write([]byte{0})
		from = h.to
	}
	b.Write(src[from:])
	out := Shown{Text: strings.ToValidUTF8(b.String(), "?")}
	sum.Sum(out.Hidden[:0])
	return out
}
