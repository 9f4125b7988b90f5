//go:build unix

package enginetest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Broker is a broker of Apache Kafka of one test, which may be killed: it comes back on its
// port, with its log.
type Broker struct {
	Address string
	pid     string // file that has the process's id
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

// restartable is Apache Kafka that is started again when it ends.
var restartable = &fetched{
	name: "Apache Kafka", variable: "WEIR_TEST_KAFKA", version: apacheKafka.version, needs: apacheKafka.needs, fetch: apacheKafka.fetch, signal: "TERM",
	command: func(ctx context.Context, w *workspace, dir, port string) ([]string, error) {
		line, err := kafkaCommand(ctx, w, dir, port)
		if err != nil {
			return nil, err
		}
		return append([]string{"sh", "-c", again, "sh", filepath.Join(os.TempDir(), pidName(port))}, line...), nil
	},
	address: plain, answers: answersTCP,
}

func pidName(port string) string { return "weir-engine-kafka-" + port + ".pid" }

// RestartableKafka starts a broker for this test alone.
func RestartableKafka(t testing.TB) *Broker {
	t.Helper()
	r := restartable.alone(t)
	_, port, _ := strings.Cut(r.Address, ":")
	b := &Broker{Address: r.Address, pid: filepath.Join(os.TempDir(), pidName(port))}
	t.Cleanup(func() { _ = os.Remove(b.pid) })
	return b
}

// Restart kills the broker, and waits until it is there again.
func (b *Broker) Restart(t testing.TB) {
	t.Helper()
	text, err := os.ReadFile(b.pid)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatalf("read the id of the broker's process: %v", err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill the broker: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	for {
		now, err := os.ReadFile(b.pid)
		if err == nil && !bytes.Equal(now, text) && answersTCP(ctx, b.Address) == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(fmt.Errorf("the broker is not back after %s", startTimeout))
		case <-time.After(50 * time.Millisecond):
		}
	}
}
