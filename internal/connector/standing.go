package connector

import "context"

// Standing is how a target treats what waits for a destination.
type Standing uint8

// The standings.
const (
	StandsOpen   Standing = iota // it is delivered
	StandsHeld                   // it waits until that changes, without an attempt
	StandsClosed                 // it is given up at the next attempt
)

// Judge is a target of which destinations may be switched off, or go, while messages wait for
// them. A source that is a [Hastener] is told, so that what waits for its next attempt fares by
// what holds now, and not by what did when it failed.
type Judge interface {
	// Standing is asked for all destinations with open messages after each change.
	Standing(destination string) Standing
	// Changed is closed when a standing may be another than at the call.
	Changed() <-chan struct{}
}

// Hastener is a source that keeps messages until their next attempt.
type Hastener interface {
	// Destinations are those that open messages are for.
	Destinations(ctx context.Context) ([]string, error)
	// Hasten has the messages of a destination that wait for their next attempt, and that nobody
	// holds, delivered again at once. It returns how many they were. No attempt is counted.
	Hasten(ctx context.Context, destination string) (int, error)
}
