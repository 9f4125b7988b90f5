package reference

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Guide is a page for people that speaks of a connector: one in docs, or in docs/connectors, that
// links to its reference.
type Guide struct {
	Title string `json:"title"`
	Path  string `json:"path"` // from docs
}

// guideFolders hold the guides, from docs.
var guideFolders = []string{"", "connectors"}

var toReference = regexp.MustCompile(`\]\((?:\.\./)?reference/([\w-]+\.md)`)

// guides gives each page its guides, in the order of their names.
func guides(root string, ps []Page) error {
	for _, folder := range guideFolders {
		found, err := filepath.Glob(filepath.Join(root, "docs", folder, "*.md"))
		if err != nil {
			return fmt.Errorf("find the guides: %w", err)
		}
		for _, path := range found {
			text, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("read a guide: %w", err)
			}
			g := Guide{Title: title(text), Path: filepath.ToSlash(filepath.Join(folder, filepath.Base(path)))}
			linked := map[string]bool{}
			for _, m := range toReference.FindAllSubmatch(text, -1) {
				linked[string(m[1])] = true
			}
			for i := range ps {
				if linked[fileOf(ps[i])] {
					ps[i].Guides = append(ps[i].Guides, g)
				}
			}
		}
	}
	return nil
}

// title is the heading of a page, as text.
func title(page []byte) string {
	for line := range bytes.Lines(page) {
		if t, ok := bytes.CutPrefix(line, []byte("# ")); ok {
			return strings.ReplaceAll(strings.TrimSpace(string(t)), "`", "")
		}
	}
	return "more"
}

// readOn are the links from the reference to the guides of p.
func readOn(p Page) string {
	if len(p.Guides) == 0 {
		return ""
	}
	links := make([]string, len(p.Guides))
	for i, g := range p.Guides {
		links[i] = fmt.Sprintf("[%s](../%s)", g.Title, g.Path)
	}
	return "\nRead on: " + strings.Join(links, ", ") + ".\n"
}
