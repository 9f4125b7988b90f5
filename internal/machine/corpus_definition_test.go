package machine

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRecordedDefinitions checks that Parse accepts what AWS accepted, what is not built
// apart, and refuses what AWS refused, with the message of AWS where it is about the
// definition alone.
func TestRecordedDefinitions(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("WEIR_CORPUS")
	if dir == "" {
		t.Skip("WEIR_CORPUS is not set: the recorded definitions are not checked")
	}
	f, err := os.Open(filepath.Join(dir, "states-language", "api.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	accepted, unfinished, refused := 0, 0, 0
	for lines.Scan() {
		var r struct {
			Node  string `json:"node"`
			Execs []struct {
				Definition string `json:"definition"`
			} `json:"execs"`
			Creates []struct {
				Definition string `json:"definition"`
			} `json:"creates"`
			Snapshot json.RawMessage `json:"snapshot"`
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(r.Snapshot), "InvalidDefinition") {
			if len(r.Creates) == 0 {
				continue
			}
			refused += checkRefused(t, r.Node, r.Creates[len(r.Creates)-1].Definition, string(r.Snapshot))
			continue
		}
		for _, e := range r.Execs {
			if e.Definition == "" { // the request named no machine that exists
				continue
			}
			_, err := Parse([]byte(e.Definition), Limits{})
			problems, _ := err.(Problems)
			switch {
			case err == nil:
				accepted++
			case slices.ContainsFunc(problems, func(p Problem) bool { return p.Code == CodeUnfinished }):
				unfinished++
			default:
				t.Errorf("%s: AWS accepted what Parse refuses: %v\n%s", r.Node, err, e.Definition)
			}
		}
	}
	t.Logf("%d definitions accepted, %d not built yet, %d refused as on AWS", accepted, unfinished, refused)
}

// checkRefused reports 1 if the recorded message is about the definition alone and ours is
// the same.
func checkRefused(t *testing.T, node, definition, snapshot string) int {
	t.Helper()
	_, err := Parse([]byte(definition), Limits{})
	if err == nil {
		if strings.Contains(snapshot, "is not recognized") { // which resources exist is for who runs them
			return 0
		}
		t.Errorf("%s: AWS refused what Parse accepts: %s\n%s", node, snapshot, definition)
		return 0
	}
	for _, p := range err.(Problems) { //nolint:forcetypeassert // Parse promises it
		if strings.Contains(snapshot, p.Code+": "+p.Message+" at "+p.Location) {
			return 1
		}
	}
	return 0
}
