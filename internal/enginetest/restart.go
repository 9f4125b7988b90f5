//go:build unix

package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Restartable is an engine of one test, which may be killed: it comes back on its port, with what
// it keeps on disk.
type Restartable struct {
	Address string
	name    string
	pid     string // file that has the process's id
	how     syscall.Signal
}

// again starts a command line over and over, and writes the process's id into the file $1.
const again = `file=$1
shift
trap 'kill -9 "$engine" 2>/dev/null; exit 0' TERM
while :; do
	"$@" </dev/null &
	engine=$!
	echo "$engine" >"$file"
	wait "$engine"
done`

// restartable starts f with another command line, again and again.
func (f *fetched) restartable(t testing.TB, command func(ctx context.Context, w *workspace, dir, port string) ([]string, error)) *Restartable {
	t.Helper()
	pid := func(port string) string {
		return filepath.Join(os.TempDir(), "weir-engine-"+strings.ReplaceAll(strings.ToLower(f.name), " ", "-")+"-"+port+".pid")
	}
	kept := &fetched{
		name: f.name, variable: f.variable, version: f.version, needs: f.needs, fetch: f.fetch, signal: "TERM", address: f.address, answers: f.answers,
		command: func(ctx context.Context, w *workspace, dir, port string) ([]string, error) {
			line, err := command(ctx, w, dir, port)
			if err != nil {
				return nil, err
			}
			return append([]string{"sh", "-c", again, "sh", pid(port)}, line...), nil
		},
	}
	at := kept.alone(t).Address
	r := &Restartable{Address: at, name: f.name, pid: pid(at[strings.LastIndexByte(at, ':')+1:]), how: syscall.SIGKILL}
	t.Cleanup(func() { _ = os.Remove(r.pid) })
	return r
}

// Restart kills the engine, and waits until it is there again.
func (r *Restartable) Restart(t testing.TB) {
	t.Helper()
	text, err := os.ReadFile(r.pid)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatalf("read the id of the process of %s: %v", r.name, err)
	}
	if err := syscall.Kill(pid, r.how); err != nil {
		t.Fatalf("end %s: %v", r.name, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	for {
		now, err := os.ReadFile(r.pid)
		if err == nil && len(now) > 0 && !bytes.Equal(now, text) && answersTCP(ctx, r.Address) == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(fmt.Errorf("%s is not back after %s", r.name, startTimeout))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// RestartableKafka is a broker.
func RestartableKafka(t testing.TB) *Restartable {
	t.Helper()
	return apacheKafka.restartable(t, kafkaCommand)
}

// inFolder adds a folder of the workspace to a command line.
func (f *fetched) inFolder(option string) func(ctx context.Context, w *workspace, dir, port string) ([]string, error) {
	return func(ctx context.Context, w *workspace, dir, port string) ([]string, error) {
		line, err := f.command(ctx, w, dir, port)
		return append(line, option, filepath.Join(w.dir, "data")), err
	}
}

// RestartableKinesis is a kinesalite: each write is in its files before it is answered.
func RestartableKinesis(t testing.TB) *Restartable {
	t.Helper()
	return kinesalite.restartable(t, kinesalite.inFolder("--path"))
}

// RestartableDynamoDB is a dynalite: each write is in its files before it is answered.
func RestartableDynamoDB(t testing.TB) *Restartable {
	t.Helper()
	return dynalite.restartable(t, dynalite.inFolder("--path"))
}

// RestartableAzurite is a Blob storage that is asked to end: it writes the list of its blobs every
// few seconds, and when it ends.
func RestartableAzurite(t testing.TB) *Restartable {
	t.Helper()
	r := azurite.restartable(t, azurite.command)
	r.how = syscall.SIGTERM
	return r
}

// RestartableSQS is a fauxqs that keeps queues and messages in SQLite.
func RestartableSQS(t testing.TB) *Restartable {
	t.Helper()
	node := nodeJS.get(t)
	return fauxqs.restartable(t, func(_ context.Context, w *workspace, dir, port string) ([]string, error) {
		return []string{
			"env", "FAUXQS_LOGGER=false", "FAUXQS_HOST=127.0.0.1", "FAUXQS_PORT=" + port, "FAUXQS_PERSISTENCE=true", "FAUXQS_DATA_DIR=" + filepath.Join(w.dir, "data"),
			node, "--no-warnings", filepath.Join(dir, "node_modules", "fauxqs", "dist", "server.js"),
		}, nil
	})
}

// RestartableEventHub makes a hub in a stand-in that keeps events in a file.
func RestartableEventHub(t testing.TB, partitions int) (EventHub, *Restartable) {
	t.Helper()
	r := eventHubs.restartable(t, func(ctx context.Context, w *workspace, dir, port string) ([]string, error) {
		line, err := eventHubs.command(ctx, w, dir, port)
		if err != nil {
			return nil, err
		}
		if line[0] != "env" {
			return nil, errors.New("the command line of the stand-in does not begin with its environment")
		}
		return append([]string{"env", "KEEP=" + filepath.Join(w.dir, "kept")}, line[1:]...), nil
	})
	return hubAt(t, r.Address, partitions), r
}
