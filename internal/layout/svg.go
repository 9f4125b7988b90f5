package layout

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Sizes of the text, in pixels: those of a system's font, so they are a little too wide for most.
const (
	labelSize   = 13.0
	detailSize  = 11.0
	labelWidth  = 7.4 // of a character
	detailWidth = 6.3
	nodeHeight  = 30.0
	twoLines    = 44.0
	padding     = 14.0
	ofQueue     = 17 // characters of the detail of a queue for which there is room: of how much is in it
	widest      = 240.0
)

// size is how large a node is drawn.
func (n *Node) size() (w, h float64) {
	if n.Kind == Start || n.Kind == End {
		return 18, 18
	}
	w = max(float64(utf8.RuneCountInString(n.Label))*labelWidth, float64(utf8.RuneCountInString(n.Detail))*detailWidth)
	if n.Kind == Queue {
		w = max(w, ofQueue*detailWidth)
	}
	h = nodeHeight
	if n.Detail != "" {
		h = twoLines
	}
	return max(56, min(w+2*padding, widest)), h
}

// fit is text in at most so many characters of the width, with an ellipsis where it is cut.
func fit(text string, width float64) string {
	most := int((widest - 2*padding) / width)
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

// path makes Path.
func (e *Edge) path(down bool) string {
	if len(e.Points) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "M%s %s", number(e.Points[0][0]), number(e.Points[0][1]))
	for i := 1; i < len(e.Points); i++ {
		p, q := e.Points[i-1], e.Points[i]
		if e.From == e.To || p[0] == q[0] || p[1] == q[1] {
			fmt.Fprintf(&b, "L%s %s", number(q[0]), number(q[1]))
			continue
		}
		half := [2]float64{(p[0] + q[0]) / 2, (p[1] + q[1]) / 2}
		if down {
			fmt.Fprintf(&b, "C%s %s %s %s %s %s", number(p[0]), number(half[1]), number(q[0]), number(half[1]), number(q[0]), number(q[1]))
			continue
		}
		fmt.Fprintf(&b, "C%s %s %s %s %s %s", number(half[0]), number(p[1]), number(half[0]), number(q[1]), number(q[0]), number(q[1]))
	}
	return b.String()
}

func number(v float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.1f", v), "0"), ".")
}

// style is what a drawing looks like that stands by itself, in light and dark surroundings.
const style = `text{font:13px system-ui,sans-serif;fill:#1c2128;text-anchor:middle}
.d{font-size:11px;fill:#59636e}.l{font-size:11px;fill:#59636e}
.n{fill:#fff;stroke:#59636e}.queue .n{fill:#eef4ff;stroke:#3b6bc6}.pipeline .n,.state .n{fill:#f3f5f7;stroke:#1c2128}
.machine .n{fill:#f6f0ff;stroke:#7a4cc2}.start .n,.end .n{fill:#1c2128}
.e{fill:none;stroke:#59636e;stroke-width:1.4}.failure_target .e{stroke:#b3261e;stroke-dasharray:5 4}.filter_target .e{stroke-dasharray:2 4}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.d,.l{fill:#9198a1}.n{fill:#0d1117;stroke:#9198a1}.queue .n{fill:#10213f;stroke:#7aa2f0}
.pipeline .n,.state .n{fill:#1c2128;stroke:#e6edf3}.machine .n{fill:#271a3d;stroke:#b894f0}.start .n,.end .n{fill:#e6edf3}.e{stroke:#9198a1}.failure_target .e{stroke:#f28b82}}`

// SVG is the graph, placed, as a drawing that stands by itself. Its name says what it shows, to
// those who hear it too.
func (g *Graph) SVG(name string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 %[1]s %[2]s" width="%[1]s" height="%[2]s">`+"\n", number(g.Width), number(g.Height))
	fmt.Fprintf(&b, "<title>%s</title>\n<style>%s</style>\n", escape(name), style)
	b.WriteString(`<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path d="M0 0L8 4L0 8z" fill="#59636e"/></marker></defs>` + "\n")
	for _, e := range g.Edges {
		fmt.Fprintf(&b, `<g class="%s"><path class="e" d="%s" marker-end="url(#a)"/>`, escape(e.Role), e.Path)
		if e.Label != "" && len(e.Points) > 1 {
			p, q := e.Points[0], e.Points[1]
			fmt.Fprintf(&b, `<text class="l" x="%s" y="%s">%s</text>`, number((p[0]+q[0])/2), number((p[1]+q[1])/2-4), escape(fit(e.Label, detailWidth)))
		}
		b.WriteString("</g>\n")
	}
	for i := range g.Nodes {
		g.Nodes[i].draw(&b)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// draw writes a node: what is outside is round, a queue has a second line at its end, as jobs in a
// row, and a start or an end is a disc.
func (n *Node) draw(b *bytes.Buffer) {
	fmt.Fprintf(b, `<g class="%s"><title>%s</title>`, n.Kind, escape(strings.TrimSpace(n.Label+" "+n.Detail)))
	middle := n.X + n.W/2
	round := 4.0
	switch n.Kind {
	case Start, End:
		fmt.Fprintf(b, `<circle class="n" cx="%s" cy="%s" r="%s"/></g>`+"\n", number(middle), number(n.Y+n.H/2), number(n.W/2))
		return
	case Source, Target:
		round = n.H / 2
	case State, Machine:
		round = 8
	}
	fmt.Fprintf(b, `<rect class="n" x="%s" y="%s" width="%s" height="%s" rx="%s"/>`, number(n.X), number(n.Y), number(n.W), number(n.H), number(round))
	if n.Kind == Queue {
		for k := range 2 {
			at := n.X + n.W - 5 - 4*float64(k)
			fmt.Fprintf(b, `<path class="n" d="M%[1]s %[2]sV%[3]s"/>`, number(at), number(n.Y+4), number(n.Y+n.H-4))
		}
	}
	line := n.Y + n.H/2 + labelSize*0.36
	if n.Detail != "" {
		line = n.Y + 18
		fmt.Fprintf(b, `<text class="d" x="%s" y="%s">%s</text>`, number(middle), number(n.Y+34), escape(fit(n.Detail, detailWidth)))
	}
	fmt.Fprintf(b, `<text x="%s" y="%s">%s</text></g>`+"\n", number(middle), number(line), escape(fit(n.Label, labelWidth)))
}

func escape(text string) string {
	var b bytes.Buffer
	if err := xml.EscapeText(&b, []byte(text)); err != nil { // a buffer takes everything
		return ""
	}
	return b.String()
}
