package cli_test

import (
	"encoding/xml"
	"strings"
	"testing"
)

// TestExplainDraws: a config is drawn as SVG with its pipelines and queues, and without what is
// in its options; one with a mistake is not drawn.
func TestExplainDraws(t *testing.T) {
	dir := files(t, "wrong.hcl", `
queue "events" {}
pipeline "take <in>" {}
`, "weir.hcl", `
queue "events" {}
pipeline "take" {
  target {
    use "queue" {
      name = "events"
    }
  }
}
pipeline "give" {
  source {
    use "queue" {
      name = "events"
    }
  }
  transform {
    use "jq" {
      jq_command = ".secret4711"
    }
  }
}
`)
	wrong := run(t, dir, "", "explain", "--svg", "wrong.hcl")
	if wrong.exits(1); wrong.out.String() != "" || !strings.Contains(wrong.err.String(), "take <in>") {
		t.Errorf("a name that no pipeline can have is drawn: %q, %q", wrong.out, wrong.err)
	}
	p := run(t, dir, "", "explain", "--svg", "weir.hcl")
	p.exits(0)
	out := p.out.String()
	var drawing struct {
		Groups []struct {
			Class string   `xml:"class,attr"`
			Text  []string `xml:"text"`
		} `xml:"g"`
	}
	if err := xml.Unmarshal([]byte(out), &drawing); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, g := range drawing.Groups {
		for _, text := range g.Text {
			texts = append(texts, g.Class+" "+text)
		}
	}
	for _, want := range []string{"pipeline take", "pipeline give", "pipeline jq", "queue events", "source stdin", "target stdout"} {
		if !strings.Contains(strings.Join(texts, "\n"), want) {
			t.Errorf("%q is not drawn: %q", want, texts)
		}
	}
	if strings.Contains(out, "4711") {
		t.Error("the drawing shows an option")
	}
}
