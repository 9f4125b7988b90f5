//go:build race

package stdout_test

const raceEnabled = true
