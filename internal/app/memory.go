package app

import (
	"github.com/weirdata/weir/internal/config"
	"github.com/weirdata/weir/internal/memorylimit"
)

// What a message in flight takes beside its payload, at the most: a connection of its own, with the
// buffers and goroutines that belong to it.
const (
	perMessage    = 64 << 10
	leastMessages = 1000
	// inFlightPart is the part of the memory limit that payloads in flight may take.
	inFlightPart = 4
	// sharePart is the part of it that those of one pipeline may take.
	sharePart  = 8
	leastBytes = 1 << 20
)

// inFlightMessages is the bound of a pipeline: a default keeps to the memory limit.
func inFlightMessages(n int) int {
	if n != config.DefaultInFlightMessages {
		return n
	}
	return int(memorylimit.Share(config.DefaultInFlightMessages, perMessage, leastMessages))
}

// inFlightShare is the bound of a pipeline in bytes: a default keeps to the memory limit.
func inFlightShare(n int) int {
	if n != config.DefaultInFlightBytes {
		return n
	}
	return int(memorylimit.Share(config.DefaultInFlightBytes, sharePart, leastBytes))
}

// inFlightBytes is the bound of all pipelines: a default keeps to the memory limit.
func inFlightBytes(n int) int64 {
	if n != config.DefaultMaxInFlightBytes {
		return int64(n)
	}
	return memorylimit.Share(config.DefaultMaxInFlightBytes, inFlightPart, 1)
}
