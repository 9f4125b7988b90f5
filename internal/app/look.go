package app

import (
	"strings"

	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/outage"
)

// look is the command that lists what a pipeline or machine has given up: "--pipeline", "p".
func (b *Builder) look(flag, name string) string {
	words := []string{"weir failures ls"}
	for _, p := range b.Paths {
		words = append(words, outage.Quote(p))
	}
	return strings.Join(append(words, flag, outage.Quote(name)), " ")
}

// ownerOf is the name of the pipeline that a config writes for p.
func ownerOf(p *config.Pipeline) string {
	if of := p.FailuresOf(); of != nil {
		return of.Name
	}
	return p.Name
}
