// Command gensample writes a file of Snowplow enriched events, one in each line, for
// examples and benchmarks. The same seed writes the same file.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"

	"github.com/weirdata/weir/internal/snowplow/sampletest"
)

func main() {
	n := flag.Int("n", 400, "number of events")
	seed := flag.Uint64("seed", 1, "seed of the random numbers")
	path := flag.String("o", "", "file to write; standard output when empty")
	flag.Parse()

	out := append(bytes.Join(sampletest.Lines(*seed, *n), []byte("\n")), '\n')
	var err error
	if *path == "" {
		_, err = os.Stdout.Write(out)
	} else {
		err = os.WriteFile(*path, out, 0o644)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "gensample: write %d events: %v\n", *n, err)
		os.Exit(1)
	}
}
