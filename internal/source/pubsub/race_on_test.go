//go:build race

package pubsubsource_test

// raced says that the race detector runs.
const raced = true
