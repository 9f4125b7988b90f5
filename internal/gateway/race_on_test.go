//go:build race

package gateway_test

// raceDetector: pools forget what they hold at random.
const raceDetector = true
