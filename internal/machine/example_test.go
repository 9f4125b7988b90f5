package machine_test

import (
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/machine"
)

// Example drives an execution by hand: between the events there is nothing but bytes.
func Example() {
	def, err := machine.Parse([]byte(`{"StartAt":"Fetch","States":{
		"Fetch":{"Type":"Task","Resource":"fetch","Parameters":{"id.$":"$.id"},"ResultPath":"$.order","Retry":[{"ErrorEquals":["States.ALL"]}],"Next":"Settle"},
		"Settle":{"Type":"Wait","Seconds":60,"End":true}}}`), machine.Limits{})
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	x := def.New(machine.Identity{ID: "orders-0-4711"})
	state := x.Append(nil)

	step := func(e machine.Event) (actions []machine.Action) {
		x, err := def.Decode(state) // from the store
		if err == nil {
			x, actions, err = def.Step(x, e, machine.Environment{Now: now})
		}
		if err != nil {
			fmt.Println(err)
		}
		state = x.Append(nil) // to the store, with the actions
		return actions
	}

	task := step(machine.Event{Kind: machine.Start, Data: []byte(`{"id":7}`)})[0]
	fmt.Println("start", task.Resource, task.Input.JSON())

	problem := "Unavailable"
	timer := step(machine.Event{Kind: machine.TaskFailed, ID: task.ID, Error: &problem})[0]
	fmt.Println("wait until", timer.At.Format(time.TimeOnly))

	now = timer.At
	task = step(machine.Event{Kind: machine.TimerFired, ID: timer.ID})[0]
	fmt.Println("start", task.Resource, task.Input.JSON())

	timer = step(machine.Event{Kind: machine.TaskSucceeded, ID: task.ID, Data: []byte(`{"total":12.50}`)})[0]
	fmt.Println("wait until", timer.At.Format(time.TimeOnly))

	now = timer.At
	end := step(machine.Event{Kind: machine.TimerFired, ID: timer.ID})[0]
	fmt.Println(end.Status, end.Output.JSON())

	// Output:
	// start fetch {"id":7}
	// wait until 12:00:01
	// start fetch {"id":7}
	// wait until 12:01:01
	// SUCCEEDED {"id":7,"order":{"total":12.50}}
}
