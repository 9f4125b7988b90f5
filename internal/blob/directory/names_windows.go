package directory

import "strings"

// reserved reports whether Windows has another meaning for something in the name.
func reserved(name string) bool { return strings.ContainsAny(name, `:*?"<>|`) }
