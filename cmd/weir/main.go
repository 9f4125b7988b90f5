// Command weir moves events from where they are made to where they are needed.
package main

import (
	"os"

	"github.com/weirdata/weir/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], cli.Standard())) }
