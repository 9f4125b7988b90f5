package cli

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/weirdata/weir/internal/addresstest"
)

// freeAdminAddress gives each script an address for an admin server, as ADMIN_ADDRESS.
func freeAdminAddress(e *testscript.Env) error {
	port, err := addresstest.Choose()
	if err != nil {
		return err
	}
	e.Setenv("ADMIN_ADDRESS", fmt.Sprintf("127.0.0.1:%d", port))
	return nil
}

// scriptPatience is how long something may take on a busy machine before it counts as stuck.
const scriptPatience = 3 * time.Minute

// processCommands are for scripts with a process in the background:
//
//	eventually COMMAND...               until the command succeeds
//	eventually-stdout REGEXP COMMAND... until it also prints that
//	eventually-metric REGEXP            until the process at ADMIN_ADDRESS has such a metric
func processCommands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"eventually": func(ts *testscript.TestScript, _ bool, args []string) {
			eventually(ts, regexp.MustCompile(""), args)
		},
		"eventually-stdout": func(ts *testscript.TestScript, _ bool, args []string) {
			eventually(ts, regexp.MustCompile("(?m)"+args[0]), args[1:])
		},
		"eventually-metric": func(ts *testscript.TestScript, _ bool, args []string) {
			want, url := regexp.MustCompile("(?m)"+args[0]), "http://"+ts.Getenv("ADMIN_ADDRESS")+"/metrics"
			for late := time.After(scriptPatience); !want.MatchString(body(url)); {
				select {
				case <-time.After(50 * time.Millisecond):
				case <-late:
					ts.Fatalf("%s does not come to have %s", url, want)
				}
			}
		},
	}
}

// body is what an address answers; empty while it does not.
func body(url string) string {
	r, err := http.Get(url)
	if err != nil {
		return ""
	}
	defer r.Body.Close()
	text, _ := io.ReadAll(r.Body) // half of it is asked for again
	return string(text)
}

func eventually(ts *testscript.TestScript, want *regexp.Regexp, command []string) {
	for late := time.After(scriptPatience); ; {
		if err := ts.Exec(command[0], command[1:]...); err == nil && want.MatchString(ts.ReadFile("stdout")) {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-late:
			ts.Fatalf("%q does not come to succeed and print %s", command, want)
		}
	}
}
