package enginetest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// pyIceberg is a Python that has the module pyiceberg.
var pyIceberg = &fetched{
	name: "PyIceberg", variable: "WEIR_TEST_PYICEBERG", version: "0.12.0", files: "bin/python", says: pyIcebergVersion,
	needs: []string{"python3"},
	fetch: func(ctx context.Context, dir string, log io.Writer) error {
		// It may be on the path as python3 itself.
		const command = `#!/bin/sh
self=$(readlink -f "$0")
PYTHONDONTWRITEBYTECODE=1
PYTHONPATH=$(dirname "$(dirname "$self")")/lib
export PYTHONDONTWRITEBYTECODE PYTHONPATH
IFS=:
for dir in $PATH; do
	if [ -x "$dir/python3" ] && [ "$(readlink -f "$dir/python3")" != "$self" ]; then
		unset IFS
		exec "$dir/python3" "$@"
	fi
done
echo "there is no python3 on the path" >&2
exit 127
`
		bin := filepath.Join(dir, "bin")
		return errors.Join(
			pip("pyiceberg[sql-sqlite]==0.12.0", "pyarrow==26.0.1", "psycopg2-binary", "boto3")(ctx, dir, log),
			os.Mkdir(bin, 0o755),
			os.WriteFile(filepath.Join(bin, "python"), []byte(command), 0o755),
		)
	},
}

func pyIcebergVersion(ctx context.Context, path string) (string, error) {
	out, err := exec.CommandContext(ctx, path, "-c", "import pyiceberg; print(pyiceberg.__version__)").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ask PyIceberg for its version: %w: %s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// PyIceberg reads Iceberg tables: a reader that nobody here wrote.
type PyIceberg struct {
	python  string
	Catalog map[string]string // the properties of the catalog, which is called "weir"
}

// PyIcebergWith returns a PyIceberg with a catalog of the given properties.
func PyIcebergWith(t testing.TB, catalog map[string]string) PyIceberg {
	t.Helper()
	return PyIceberg{pyIceberg.get(t), catalog}
}

// PyIcebergPython is the Python that has the module.
func PyIcebergPython(t testing.TB) string {
	t.Helper()
	return pyIceberg.get(t)
}

// pyScript answers what is asked of tables, a line of JSON for a line of JSON, until there is
// nothing more to read.
const pyScript = `
import sys, json, datetime
from pyiceberg.catalog import load_catalog
def plain(v):
    return v.isoformat() if isinstance(v, (datetime.datetime, datetime.date)) else str(v)
def answer(ask):
    t = load_catalog("weir", **ask["catalog"]).load_table(ask["table"])
    scan = t.scan(row_filter=ask["filter"]) if ask["filter"] else t.scan()
    rows = scan.to_arrow()
    s = t.current_snapshot()
    return {
        "rows": rows.to_pylist(), "types": {f.name: str(f.field_type) for f in t.schema().fields},
        "files": len(list(scan.plan_files())), "snapshots": len(t.metadata.snapshots),
        "partitions": [str(f) for f in t.spec().fields], "properties": dict(t.properties),
        "summary": dict(s.summary.additional_properties) if s else {},
    }
for line in sys.stdin:
    try:
        said = json.dumps(answer(json.loads(line)), default=plain)
    except Exception as e:
        said = json.dumps({"error": type(e).__name__ + ": " + str(e)})
    print(said, flush=True)
`

// pyProcess is the interpreter of this test's process. It ends when its input does, and so with
// the process.
var pyProcess struct {
	sync.Mutex
	in  io.WriteCloser
	out *bufio.Reader
}

// PyTable is what PyIceberg finds in a table.
type PyTable struct {
	Rows       []map[string]any  `json:"rows"` // times as ISO 8601 text, whole numbers as json.Number
	Types      map[string]string `json:"types"`
	Files      int               `json:"files"` // that the filter left to be read
	Snapshots  int               `json:"snapshots"`
	Partitions []string          `json:"partitions"`
	Properties map[string]string `json:"properties"`
	Summary    map[string]string `json:"summary"` // of the last snapshot
	Error      string            `json:"error"`
}

// Read reads the rows of a table that the filter leaves; all for an empty one.
func (p PyIceberg) Read(t testing.TB, table, filter string) PyTable {
	t.Helper()
	found, err := p.ask(map[string]any{"catalog": p.Catalog, "table": table, "filter": filter})
	if err == nil && found.Error != "" {
		err = errors.New(found.Error)
	}
	if err != nil {
		t.Fatalf("ask PyIceberg: %v", err)
	}
	return found
}

func (p PyIceberg) ask(what map[string]any) (found PyTable, err error) {
	line, err := json.Marshal(what)
	if err != nil {
		return found, err
	}
	r := &pyProcess
	r.Lock()
	defer r.Unlock()
	if r.in == nil {
		c := exec.Command(p.python, "-c", pyScript)
		c.Stderr = os.Stderr
		if r.in, err = c.StdinPipe(); err != nil {
			return found, err
		}
		out, err := c.StdoutPipe()
		if err == nil {
			err = c.Start()
		}
		if err != nil {
			r.in = nil
			return found, err
		}
		r.out = bufio.NewReader(out)
	}
	if _, err := r.in.Write(append(line, '\n')); err != nil {
		return found, err
	}
	answer, err := r.out.ReadBytes('\n')
	if err != nil {
		return found, err
	}
	d := json.NewDecoder(bytes.NewReader(answer))
	d.UseNumber()
	err = d.Decode(&found)
	return found, err
}
