package cli

import (
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/app"
	"github.com/weirdata/weir/internal/memorylimit"
	"github.com/weirdata/weir/internal/meter"
)

// mostIntroduced is how many pipelines are told of one by one.
const mostIntroduced = 50

// introduce tells what starts: the version, the config, the store, and each pipeline with its
// shape. Addresses are told of when they are bound. What comes to an end by itself, and at no
// terminal, says nothing but what is wrong, as any command in a shell.
func (r *runner) introduce(b *app.Built) {
	if r.quietly = !terminal(r.s.Err) && comesToAnEnd(b); r.quietly {
		return
	}
	started := []any{"version", Version(), "config", r.configName()}
	if b.Store != nil {
		started = append(started, "store", b.Store.Identity())
	}
	if l := memorylimit.Current(); l.From != "" {
		started = append(started, "memory_limit", l.Bytes, "memory_limit_from", l.From)
	}
	r.log.Info("weir starts", started...)
	for i, p := range b.Plan.Pipelines {
		if i == mostIntroduced {
			r.log.Info("more pipelines: weir check prints all of them", "more", len(b.Plan.Pipelines)-i)
			break
		}
		r.log.Info("starts", meter.KeyPipeline, p.Name, "shape", p.Shape())
	}
	for i, m := range b.Plan.Process.Machines {
		if i == mostIntroduced {
			r.log.Info("more machines", "more", len(b.Plan.Process.Machines)-i)
			break
		}
		r.log.Info("starts", "machine", m.Name)
	}
}

// ended tells what the process came to, where no live line has.
func (r *runner) ended(since time.Time) {
	if r.quietly {
		return
	}
	t := sum(r.meter)
	r.log.Info("ended", "read", t.read, "delivered", t.written, "filtered", t.filtered, "failed", t.failed, "over", time.Since(since).Round(time.Millisecond))
}

// configName is what is run, as the command line or the environment says it.
func (r *runner) configName() string {
	if len(r.paths) > 0 {
		return strings.Join(r.paths, " ")
	}
	return "built in: standard input to standard output"
}

// comesToAnEnd reports whether all that runs does.
func comesToAnEnd(b *app.Built) bool {
	return !slices.ContainsFunc(b.Pipelines, func(r app.Runner) bool { return !r.Terms().Ends })
}
