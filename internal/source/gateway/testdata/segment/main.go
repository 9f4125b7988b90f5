// Command segmenttest sends events to a gateway with Segment's official SDK for Go, and fails
// when one of them is not taken. It is a module of its own; TestSDK of the gateway source
// builds and runs it.
//
//	segmenttest URL WRITEKEY EVENTS
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	analytics "gopkg.in/segmentio/analytics-go.v3"
)

// counter counts what became of the events.
type counter struct {
	taken, failed atomic.Int64
	last          atomic.Value
}

func (c *counter) Success(analytics.Message) { c.taken.Add(1) }

func (c *counter) Failure(_ analytics.Message, err error) {
	c.failed.Add(1)
	c.last.Store(err.Error())
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 4 {
		return errors.New("usage: segmenttest URL WRITEKEY EVENTS")
	}
	n, err := strconv.Atoi(os.Args[3])
	if err != nil {
		return fmt.Errorf("read EVENTS: %w", err)
	}
	var c counter
	client, err := analytics.NewWithConfig(os.Args[2], analytics.Config{
		Endpoint: os.Args[1], Interval: 50 * time.Millisecond, BatchSize: 20, Callback: &c,
	})
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	for i := range n {
		user := fmt.Sprintf("user-%d", i%7)
		var m analytics.Message
		switch i % 6 {
		case 0:
			m = analytics.Track{UserId: user, Event: "Order Completed", Properties: analytics.NewProperties().Set("number", i)}
		case 1:
			m = analytics.Identify{UserId: user, Traits: analytics.NewTraits().SetEmail(user+"@example.com").Set("number", i)}
		case 2:
			m = analytics.Page{AnonymousId: "anonymous-" + user, Name: "Home", Properties: analytics.NewProperties().Set("number", i)}
		case 3:
			m = analytics.Screen{UserId: user, Name: "Main", Properties: analytics.NewProperties().Set("number", i)}
		case 4:
			m = analytics.Group{UserId: user, GroupId: "group", Traits: analytics.NewTraits().Set("number", i)}
		case 5:
			m = analytics.Alias{UserId: user, PreviousId: "before"}
		}
		if err := client.Enqueue(m); err != nil {
			return fmt.Errorf("enqueue event %d: %w", i, err)
		}
	}
	if err := client.Close(); err != nil {
		return fmt.Errorf("close the client: %w", err)
	}
	if c.taken.Load() != int64(n) || c.failed.Load() != 0 {
		return fmt.Errorf("of %d events %d were taken and %d failed: %v", n, c.taken.Load(), c.failed.Load(), c.last.Load())
	}
	return nil
}
