//go:build !race

package spenriched

const raceEnabled = false
