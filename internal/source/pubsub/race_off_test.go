//go:build !race

package pubsubsource_test

const raced = false
