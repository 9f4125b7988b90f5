//go:build !unix

package cli

import "os"

// windowWidth is how many columns a terminal has; 0 when it does not say.
func windowWidth(*os.File) int { return 0 }
