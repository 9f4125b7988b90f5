//go:build !unix

package main

import "os/exec"

// group leaves c as it is: cancellation kills the process, and its children end when
// their output has nowhere to go.
func group(*exec.Cmd) {}

func endGroup(*exec.Cmd) {}
