//go:build !invariants && !race

package event_test

const watched = false
