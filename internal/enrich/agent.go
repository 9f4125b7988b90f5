package enrich

import (
	"strings"

	"github.com/mileusna/useragent"
)

// maxAgent is how much of a user agent is looked at: longer ones are nobody's.
const maxAgent = 1024

// agent is what a user agent says.
type agent struct{ Browser, Version, OS, OSVersion, Device, Bot string }

// robots are words of user agents of robots that parsers of user agents take for browsers, in lower case.
var robots = []string{"bot/", "bot;", "crawler", "spider", "headlesschrome", "phantomjs", "lighthouse", "pingdom", "facebookexternalhit"}

func parse(text string) (a agent) {
	if text == "" || len(text) > maxAgent {
		return a
	}
	u := useragent.Parse(text)
	switch {
	case u.Bot:
		a.Bot = u.Name
		if a.Bot == "" {
			a.Bot = "unknown"
		}
		return a
	case u.Tablet:
		a.Device = "tablet"
	case u.Mobile:
		a.Device = "mobile"
	case u.Desktop:
		a.Device = "desktop"
	}
	a.Browser, a.Version, a.OS, a.OSVersion = u.Name, u.Version, u.OS, u.OSVersion
	lower := strings.ToLower(text)
	for _, word := range robots {
		if strings.Contains(lower, word) {
			if a.Bot = u.Name; a.Bot == "" {
				a.Bot = strings.TrimRight(word, "/;")
			}
			break
		}
	}
	return a
}
