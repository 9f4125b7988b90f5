package cli

import (
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/admin"
)

// notes are the lines that say what needs attention of a queue.
func notes(q admin.QueueCounts) (lines []string) {
	name := shorten(q.Name, 64)
	for _, r := range q.Paused {
		line := fmt.Sprintf("%s: paused (%s) since %s by %s", name, shorten(r.String(), 64), r.Since.Format(time.RFC3339), shorten(r.Who, 64))
		if r.Why != "" {
			line += ": " + shorten(r.Why, 120)
		}
		lines = append(lines, line)
	}
	if q.Unread {
		lines = append(lines, name+": no pipeline or machine reads it")
	}
	return lines
}
