package machine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestRetryTiming checks the pauses between the attempts of a task that always fails.
func TestRetryTiming(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, retrier string
		want          []float64 // seconds
	}{
		{"defaults", ``, []float64{1, 2, 4}},
		{"never", `,"MaxAttempts":0`, nil},
		{"the seed's catcher", `,"IntervalSeconds":2,"BackoffRate":2.0,"MaxAttempts":10`, []float64{2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}},
		{"constant", `,"IntervalSeconds":5,"BackoffRate":1,"MaxAttempts":4`, []float64{5, 5, 5, 5}},
		{"fractions", `,"IntervalSeconds":1,"BackoffRate":1.5,"MaxAttempts":4`, []float64{1, 1.5, 2.25, 3.375}},
		{"capped", `,"IntervalSeconds":3,"MaxDelaySeconds":10,"MaxAttempts":5`, []float64{3, 6, 10, 10, 10}},
		{"full jitter", `,"IntervalSeconds":4,"JitterStrategy":"FULL"`, []float64{2, 4, 8}},
		{"jitter after the cap", `,"IntervalSeconds":4,"JitterStrategy":"FULL","MaxDelaySeconds":6`, []float64{2, 3, 3}},
		{"no overflow", `,"IntervalSeconds":99999999,"BackoffRate":1e300,"MaxAttempts":3`, []float64{99999999, 2147483648, 2147483648}},
		{"longer than a year", `,"IntervalSeconds":40000000,"BackoffRate":1.5,"MaxAttempts":2`, []float64{40000000, 60000000}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			d := newDriver(t, alone(`"Type":"Task","Resource":"r","Retry":[{"ErrorEquals":["States.ALL"]`+row.retrier+`}]`))
			var starts []time.Time
			d.answer = func(Action) (Event, bool) {
				starts = append(starts, d.env.Now)
				return failWith("Boom", "why"), true
			}
			d.run(`{}`).want("FAILED Boom: why")
			var got []float64
			for i := 1; i < len(starts); i++ {
				got = append(got, starts[i].Sub(starts[i-1]).Seconds())
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("pauses (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRetriersCountApart checks that each retrier has its own attempts, that they begin anew
// with every visit, and that Catch comes after Retry.
func TestRetriersCountApart(t *testing.T) {
	t.Parallel()
	d := newDriver(t, `{"StartAt":"S","States":{
		"S":{"Type":"Task","Resource":"r","Parameters":{"n.$":"$$.State.RetryCount"},"Retry":[
			{"ErrorEquals":["A"],"IntervalSeconds":10,"MaxAttempts":2},
			{"ErrorEquals":["B","C"],"IntervalSeconds":100,"MaxAttempts":1},
			{"ErrorEquals":["States.ALL"],"IntervalSeconds":1000,"MaxAttempts":1}],
			"Catch":[{"ErrorEquals":["A"],"Next":"S"},{"ErrorEquals":["States.ALL"],"ResultPath":"$.e","Next":"Done"}],"End":true},
		"Done":{"Type":"Pass","End":true}}}`)
	var log []string
	given := []string{"A", "B", "A", "X", "A", "A", "A", "B", "C"}
	d.answer = func(a Action) (Event, bool) {
		name := given[0]
		given = given[1:]
		log = append(log, fmt.Sprintf("%v %s %s", d.env.Now.Sub(began), a.Input.JSON(), name))
		return failWith(name, ""), true
	}
	d.run(`{}`)
	want := []string{
		`0s {"n":0} A`,     // 10 s, first of A
		`10s {"n":1} B`,    // 100 s, first of B
		`1m50s {"n":2} A`,  // 20 s, second of A
		`2m10s {"n":3} X`,  // 1000 s, first of the rest
		`18m50s {"n":4} A`, // none left: Catch, S again
		`18m50s {"n":0} A`, // 10 s
		`19m0s {"n":1} A`,  // 20 s
		`19m20s {"n":2} B`, // 100 s
		`21m0s {"n":3} C`,  // none left: Catch
	}
	if diff := cmp.Diff(want, log); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
	d.want(`SUCCEEDED {"Error":"A","Cause":"","e":{"Error":"C","Cause":""}}`)
}

// TestCatchNames checks which names cover which errors.
func TestCatchNames(t *testing.T) {
	t.Parallel()
	timeout, heartbeat := Event{Kind: TaskTimedOut}, Event{Kind: TaskTimedOut, Heartbeat: true}
	nameless := Event{Kind: TaskFailed}
	for _, row := range []struct {
		names string
		event Event
		want  string
	}{
		{`"States.ALL"`, failWith("Boom", "c"), `SUCCEEDED {"Error":"Boom","Cause":"c"}`},
		{`"Boom"`, failWith("Boom", "c"), `SUCCEEDED {"Error":"Boom","Cause":"c"}`},
		{`"boom"`, failWith("Boom", "c"), `FAILED Boom: c`},
		{`"States.TaskFailed"`, failWith("Boom", "c"), `SUCCEEDED {"Error":"Boom","Cause":"c"}`},
		{`"States.TaskFailed"`, timeout, `FAILED States.Timeout`},
		{`"States.Timeout"`, timeout, `SUCCEEDED {"Error":"States.Timeout","Cause":""}`},
		{`"States.HeartbeatTimeout"`, timeout, `FAILED States.Timeout`},
		{`"States.HeartbeatTimeout"`, heartbeat, `SUCCEEDED {"Error":"States.Timeout","Cause":""}`},
		{`"States.Timeout"`, heartbeat, `SUCCEEDED {"Error":"States.Timeout","Cause":""}`},
		{`"States.ALL"`, nameless, `SUCCEEDED {"Error":null,"Cause":null}`},
		{`""`, nameless, `FAILED`},
		{`"States.ALL"`, failWith("States.Runtime", "c"), `FAILED States.Runtime: c`},
		{`"States.Runtime"`, failWith("States.Runtime", "c"), `FAILED States.Runtime: c`},
		{`"States.ALL"`, failWith("States.DataLimitExceeded", "c"), `SUCCEEDED {"Error":"States.DataLimitExceeded","Cause":"c"}`},
	} {
		d := newDriver(t, single(`"Type":"Task","Resource":"r","Catch":[{"ErrorEquals":[`+row.names+`],"Next":"Done"}],"End":true`))
		d.answer = fixed(row.event)
		d.run(`{}`).want(row.want)
	}
}

// seedMachine is the pipeline of the seed: a check, a putter, and a catcher that calls itself
// for as long as it takes.
const seedMachine = `{"StartAt":"CheckCountry","States":{
	"CheckCountry":{"Type":"Task","Resource":"check","Next":"ValidOrderPutter",
		"Retry":[{"ErrorEquals":["States.ALL"],"IntervalSeconds":1,"BackoffRate":2.0,"MaxAttempts":2}],
		"Catch":[{"ErrorEquals":["ErrInvalidCountryCode"],"ResultPath":"$.error","Next":"ErrorOrderPutter"},
			{"ErrorEquals":["States.ALL"],"ResultPath":"$.error","Next":"Catcher"}]},
	"ValidOrderPutter":{"Type":"Task","Resource":"valid","End":true},
	"ErrorOrderPutter":{"Type":"Task","Resource":"error","End":true},
	"Catcher":{"Type":"Task","Resource":"catcher","End":true,
		"Retry":[{"ErrorEquals":["States.ALL"],"IntervalSeconds":2,"BackoffRate":2.0,"MaxAttempts":10}],
		"Catch":[{"ErrorEquals":["States.ALL"],"ResultPath":"$.error","Next":"Catcher"}]}}}`

// TestYearOfCatcher keeps the seed's stream broken for a year: the catcher retries for 2,046
// seconds a round, for ever, without failing, in a state that does not grow; when the stream
// is back, the record is there.
func TestYearOfCatcher(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	d := newDriver(t, seedMachine)
	attempts := 0
	d.answer = func(a Action) (Event, bool) {
		if a.Resource != "catcher" {
			return failWith("Panic", "check failed"), true
		}
		attempts++
		if d.env.Now.Sub(began) > year {
			return Event{Kind: TaskSucceeded, Data: fmt.Appendf(nil, `{"put":%s}`, a.Input.JSON())}, true
		}
		return failWith("ProvisionedThroughputExceeded", "try later"), true
	}
	d.step(Event{Kind: Start, Data: []byte(`{"id":"12345","country_code":"PANIC"}`)})
	var afterFirst, rounds int
	for d.x.Status == Running && d.advance() {
		if attempts == 11 && afterFirst == 0 {
			afterFirst = d.largest
		}
	}
	rounds = attempts / 11
	d.want(`SUCCEEDED {"put":{"id":"12345","country_code":"PANIC","error":{"Error":"ProvisionedThroughputExceeded","Cause":"try later"}}}`)
	if rounds < 15_413 || rounds > 15_415 {
		t.Errorf("the catcher went %d rounds in a year, want 15,414", rounds)
	}
	if d.x.Events < 35*15_413 {
		t.Errorf("%d events are too few for %d rounds of 35", d.x.Events, rounds)
	}
	if d.largest > afterFirst+16 || d.largest > 512 {
		t.Errorf("the state grew from %d bytes in the first round to %d", afterFirst, d.largest)
	}
	t.Logf("%d attempts, %d events, %d steps, state at most %d bytes", attempts, d.x.Events, d.steps, d.largest)
}

// TestSeedPaths checks the seed's three ways through the machine.
func TestSeedPaths(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ country, visited string }{
		{"GB", "check valid"},
		{"FR", "check check check error"},
		{"PANIC", "check check check catcher"},
	} {
		d := newDriver(t, seedMachine)
		var visited []string
		d.answer = func(a Action) (Event, bool) {
			visited = append(visited, a.Resource)
			country := a.Input.Get("country_code").Text()
			switch {
			case a.Resource != "check" || country == "GB":
				return Event{Kind: TaskSucceeded, Data: []byte(a.Input.JSON())}, true
			case country == "FR":
				return failWith("ErrInvalidCountryCode", "FR"), true
			}
			return failWith("Panic", "index out of range"), true
		}
		d.run(`{"country_code":"` + row.country + `"}`)
		if got := strings.Join(visited, " "); got != row.visited || d.x.Status != Succeeded {
			t.Errorf("%s went %s and ended %s, want %s", row.country, got, d.outcome(), row.visited)
		}
	}
}
