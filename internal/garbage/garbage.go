// Package garbage says how much garbage the process lets gather before it is collected.
//
// Go's own rule is a percentage of what is in use: a process that holds 5 MB collects after a
// few more, and most of what Weir does holds little and makes much. [Floor] lets the heap grow
// to a fixed size first. What is in use counts against that size, so the garbage above it
// shrinks as the live heap grows, until the percentage asks for more anyway: a process that
// holds much needs no more memory than without a floor.
//
//	garbage = max(floor - live, live * percent / 100)
//
// # Invariants
//
//   - Soon after each collection the rule is applied to what that collection found in use: until
//     then the percentage is that for what was in use before. Where nothing is collected nobody
//     looks.
//   - Nobody else sets the percentage: who needs another for a while asks for it with
//     [Tighten], and the rule counts again afterwards. GOMEMLIMIT stays in force all the time.
package garbage

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

var rule struct {
	sync.Mutex
	on      bool
	floor   uint64 // bytes of the heap, what is in use included
	percent int    // of what is in use, where that is more
	tight   int    // how many Tighten have not ended
	watched bool   // watch runs
	samples []metrics.Sample
}

// Floor lets the heap grow to floor bytes, and by percent of what is in use where that is more,
// before garbage is collected. It counts from the next collection on, and now.
func Floor(floor uint64, percent int) {
	rule.Lock()
	started := rule.on
	rule.on, rule.floor, rule.percent = true, floor, percent
	apply()
	rule.Unlock()
	if !started {
		afterEach()
	}
}

// Tighten has garbage collected when it is percent of what is in use, whatever the floor, until
// end is called.
func Tighten(percent int) (end func()) {
	rule.Lock()
	defer rule.Unlock()
	rule.tight++
	before := debug.SetGCPercent(percent)
	return func() {
		rule.Lock()
		defer rule.Unlock()
		rule.tight--
		debug.SetGCPercent(before)
		apply()
	}
}

// How often it is looked whether there was a collection, and how long after the last.
const (
	often = 10 * time.Millisecond
	lull  = 5 * time.Second
)

// afterEach applies the rule after each collection. What nobody refers to is cleaned up by one,
// but that may take until the next; while collections follow each other somebody looks.
func afterEach() {
	type cycle struct{ _ [16]byte } // large enough to be an allocation of its own
	runtime.AddCleanup(&cycle{}, func(struct{}) {
		rule.Lock()
		apply()
		if !rule.watched {
			rule.watched = true
			go watch()
		}
		rule.Unlock()
		afterEach()
	}, struct{}{})
}

// watch applies the rule after each collection until there was none for a while.
func watch() {
	look := time.NewTicker(often)
	defer look.Stop()
	cycles := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	var seen uint64
	for since := 0 * often; since < lull; since += often {
		<-look.C
		metrics.Read(cycles)
		if n := cycles[0].Value.Uint64(); n != seen {
			seen, since = n, 0
			rule.Lock()
			apply()
			rule.Unlock()
		}
	}
	rule.Lock()
	defer rule.Unlock()
	rule.watched = false
}

// apply sets the percentage for what is in use now, unless another is asked for. rule is locked.
func apply() {
	if !rule.on || rule.tight > 0 {
		return
	}
	if rule.samples == nil {
		rule.samples = []metrics.Sample{
			{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}, {Name: "/gc/gogc:percent"},
		}
	}
	metrics.Read(rule.samples)
	of := func(i int) uint64 { return rule.samples[i].Value.Uint64() }
	want := percentage(of(0), of(1)+of(2), rule.floor, rule.percent)
	if uint64(want) != of(3) {
		debug.SetGCPercent(want)
	}
}

// smallest is the heap, in bytes, below which Go never collects at 100 percent; it grows with
// the percentage.
const smallest = 4 << 20

// percentage is the one by which the heap grows to floor, or by least percent where that is
// more. Go takes it of live, and of other bytes that a collection looks at.
func percentage(live, others, floor uint64, least int) int {
	if live >= floor {
		return least
	}
	p := float64(floor-live) / float64(live+others) * 100
	// Go's smallest heap grows in step: it never goes beyond the floor.
	p = min(p, float64(floor)/smallest*100)
	if math.IsNaN(p) || p < float64(least) {
		return least
	}
	// Steps: a percentage that changes a little at each collection is not set each time.
	const step = 8
	return max(int(p)/step*step, least)
}
