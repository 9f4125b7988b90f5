package machine

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/machine/jsonvalue"
	"github.com/weirdata/weir/internal/spelling"
)

// Defaults of a retrier.
const (
	defaultInterval    = 1
	defaultMaxAttempts = 3
	defaultBackoffRate = 2.0
	maxDelay           = 31_622_400 // the most of MaxDelaySeconds
)

func (b *builder) retriers(o *object) []retrier {
	var list []retrier
	b.policies(o, "Retry", func(p *object, names []string) {
		r := retrier{
			errors:      names,
			interval:    float64(p.whole("IntervalSeconds", 1, maxSeconds, defaultInterval)),
			maxAttempts: uint32(p.whole("MaxAttempts", 0, maxSeconds, defaultMaxAttempts)),
			rate:        defaultBackoffRate,
			maxDelay:    float64(p.whole("MaxDelaySeconds", 1, maxDelay, 0)),
		}
		if v := p.get("BackoffRate"); v.Defined() {
			if r.rate = v.Float(); v.Kind() != jsonvalue.Number || r.rate < 1 || math.IsInf(r.rate, 0) {
				p.problem("BackoffRate", v.JSON()+" is no number of at least 1.0", "write such a number, without quotes")
			}
		}
		switch j, ok := p.text("JitterStrategy"); {
		case !ok || j == "NONE":
		case j == "FULL":
			r.jitter = true
		default:
			p.problem("JitterStrategy", fmt.Sprintf("%q is no jitter strategy", j), "there are FULL and NONE")
		}
		p.text("Comment")
		p.done("a retrier")
		list = append(list, r)
	})
	return list
}

func (b *builder) catchers(o *object) []catcher {
	var list []catcher
	b.policies(o, "Catch", func(p *object, names []string) {
		c := catcher{errors: names, assign: p.assignment()}
		c.resultPath, c.dropResult = p.resultPath()
		c.nextName, _ = p.text("Next")
		if !p.has("Next") || p.v.Get("Next").Text() == "" {
			b.report(p.at, CodeSchema, "These fields are required: [Next]", "name the state that handles the error")
		}
		p.text("Comment")
		p.done("a catcher")
		list = append(list, c)
	})
	return list
}

// policies reads a list of retriers or catchers.
func (b *builder) policies(o *object, field string, read func(p *object, names []string)) {
	list := o.get(field)
	if !list.Defined() {
		return
	}
	if list.Kind() != jsonvalue.Array {
		o.problem(field, field+" must be an array, this is "+article(list.Kind()), `write [ { "ErrorEquals": [...] } ]`)
		return
	}
	for i, v := range list.Items() {
		at := o.place(field, i)
		if v.Kind() != jsonvalue.Object {
			b.report(at, CodeSchema, "an object is expected, this is "+article(v.Kind()), `write { "ErrorEquals": [...] }`)
			continue
		}
		p := b.object(v, at)
		read(p, b.errorNames(p, i == list.Len()-1))
	}
}

// stateErrors are the names of errors that begin with States.
var stateErrors = []string{
	errorAll, errorTaskFailed, errorTimeout, errorHeartbeat, errorRuntime, errorDataLimit, errorIntrinsic, errorResultPath,
	"States.Permissions", "States.ParameterPathFailure", "States.QueryEvaluationError", "States.BranchFailed",
	"States.NoChoiceMatched", "States.ExceedToleratedFailureThreshold", "States.ItemReaderFailed", "States.ResultWriterFailed",
}

func (b *builder) errorNames(p *object, last bool) []string {
	list := p.get("ErrorEquals")
	if list.Kind() != jsonvalue.Array || list.Len() == 0 {
		if !list.Defined() {
			b.report(p.at, CodeSchema, "These fields are required: [ErrorEquals]", `add "ErrorEquals": ["States.ALL"]`)
		} else {
			p.problem("ErrorEquals", "ErrorEquals must be an array with at least one name", `write ["States.ALL"]`)
		}
		return nil
	}
	var names []string
	for i, v := range list.Items() {
		at := p.place("ErrorEquals", i)
		name := v.Text()
		switch {
		case v.Kind() != jsonvalue.String:
			b.report(at, CodeSchema, "the name of an error must be a string, this is "+article(v.Kind()), "write it in double quotes")
		case !slices.Contains(stateErrors, name) && strings.HasPrefix(name, "States.") && spelling.Nearest(name, stateErrors) != "":
			b.advise(at, CodeSchema, fmt.Sprintf("there is no error called %q", name), "did you mean "+spelling.Nearest(name, stateErrors)+"?")
		case name == errorAll && (list.Len() > 1 || !last):
			b.advise(at, CodeSchema, "States.ALL must stand alone in its ErrorEquals, in the last entry of the list", "move it into an entry of its own at the end")
		}
		names = append(names, name)
	}
	return names
}

// delay is how long to wait before the n-th retry, n from 1.
func (r *retrier) delay(n uint32, random func() float64) time.Duration {
	seconds := r.interval * math.Pow(r.rate, float64(n-1))
	if r.maxDelay > 0 {
		seconds = min(seconds, r.maxDelay)
	}
	seconds = min(seconds, maxWait) // also what overflowed
	if r.jitter {
		seconds *= random()
	}
	return time.Duration(seconds * float64(time.Second))
}
