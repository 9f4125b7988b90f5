package cli

import (
	"flag"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata/script")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"weir": func() { os.Exit(Main(os.Args[1:], Standard())) },
	})
}

// TestScripts runs every command as a user does, and pins what it prints.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		// Scripts see no environment but their own.
		Setup: func(e *testscript.Env) error {
			e.Setenv("SNOWBRIDGE_CONFIG_FILE", "")
			return freeAdminAddress(e)
		},
		Cmds: processCommands(),
	})
}
