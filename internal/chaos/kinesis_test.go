//go:build unix

package chaos

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/weirdata/weir/internal/enginetest"
)

// TestKinesisInstances: instances share a stream, while one is killed and others come, and while
// the stream is split: what comes out is what went in, however the leases are kept. A message is
// repeated at most once for each change of the instances.
func TestKinesisInstances(t *testing.T) {
	for name, leases := range map[string]func(t *testing.T) string{
		"leases in DynamoDB": func(t *testing.T) string {
			return fmt.Sprintf("leases = \"dynamodb\"\n    custom_dynamodb_endpoint = %q", enginetest.DynamoDB(t))
		},
		"leases in PostgreSQL": func(*testing.T) string { return `leases = "store"` },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, leases(t), strings.Contains(name, "PostgreSQL"))
			f.run()
		})
	}
}

// fleet is instances of weir that read one stream, each into a file of its own.
type fleet struct {
	t                *testing.T
	binary, dir      string
	stream, endpoint string
	source, store    string
	client           *kinesis.Client

	mu     sync.Mutex
	number atomic.Int64              // of the last record that is put
	put    int                       // records that the stream has
	moves  int                       // changes of the instances
	seen   map[string]map[string]int // by instance, payload: how often
	read   map[string]int64          // bytes of each file
}

type instance struct {
	f    *fleet
	name string
	cmd  *exec.Cmd
	done chan struct{}
}

func newFleet(t *testing.T, source string, postgres bool) *fleet {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, binary: path, dir: t.TempDir(), stream: fmt.Sprintf("fleet-%d", time.Now().UnixNano()), endpoint: enginetest.KinesisLocal(t), source: source,
		seen: map[string]map[string]int{}, read: map[string]int64{}}
	if postgres {
		f.store = fmt.Sprintf("store {\n  use \"postgres\" {\n    dsn = %q\n  }\n}\n", enginetest.Postgres(t))
	}
	f.client = kinesis.New(kinesis.Options{Region: "eu-central-1", BaseEndpoint: &f.endpoint, Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")})
	if _, err := f.client.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &f.stream, ShardCount: sdk.Int32(4)}); err != nil {
		t.Fatal(err)
	}
	f.active()
	return f
}

const fleetPatience = 4 * time.Minute

// until waits for what has to come.
func (f *fleet) until(what string, is func() bool) {
	f.t.Helper()
	for end := time.Now().Add(fleetPatience); !is(); pause(f.t.Context(), 50*time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("waited %s for %s\n%s", fleetPatience, what, f.logs())
		}
	}
}

func (f *fleet) active() {
	f.t.Helper()
	f.until("the stream", func() bool {
		out, err := f.client.DescribeStreamSummary(f.t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: &f.stream})
		return err == nil && out.StreamDescriptionSummary.StreamStatus == types.StreamStatusActive
	})
}

func (f *fleet) start(name string) *instance {
	f.t.Helper()
	config := fmt.Sprintf(`%s
source {
  use "kinesis" {
    stream_name = %q
    region = "eu-central-1"
    app_name = %q
    custom_aws_endpoint = %q
    client_name = %q
    %s
  }
}
target {
  use "file" {
    path = %q
    sync = false
  }
}
`, f.store, f.stream, f.stream, f.endpoint, name, f.source, f.file(name))
	file := filepath.Join(f.dir, name+".hcl")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		f.t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(f.dir, name+".log"))
	if err != nil {
		f.t.Fatal(err)
	}
	c := exec.Command(f.binary, "run", file)
	c.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_EC2_METADATA_DISABLED=true")
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		f.t.Fatal(err)
	}
	i := &instance{f: f, name: name, cmd: c, done: make(chan struct{})}
	go func() {
		_ = c.Wait() // how it ended shows in its log
		_ = log.Close()
		close(i.done)
	}()
	f.t.Cleanup(func() { _ = c.Process.Kill(); <-i.done })
	f.moves++
	return i
}

func (i *instance) kill() {
	i.f.t.Helper()
	select {
	case <-i.done:
		i.f.t.Fatalf("instance %s has ended by itself\n%s", i.name, i.f.logs())
	default:
	}
	_ = i.cmd.Process.Kill()
	<-i.done
	i.f.moves++
}

func (i *instance) stop() {
	i.f.t.Helper()
	if err := i.cmd.Process.Signal(os.Interrupt); err != nil {
		i.f.t.Fatal(err)
	}
	select {
	case <-i.done:
	case <-time.After(fleetPatience):
		i.f.t.Fatalf("instance %s does not stop\n%s", i.name, i.f.logs())
	}
	if code := i.cmd.ProcessState.ExitCode(); code != 0 {
		i.f.t.Errorf("instance %s ended with %d\n%s", i.name, code, i.f.logs())
	}
	i.f.moves++
}

func (f *fleet) file(name string) string { return filepath.Join(f.dir, name+".out") }

// look reads what the instances have written since the last look, and is how many lines that of
// one has.
func (f *fleet) look(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, err := os.ReadFile(f.file(name))
	if err != nil {
		return 0
	}
	if f.seen[name] == nil {
		f.seen[name] = map[string]int{}
	}
	data = data[f.read[name] : bytes.LastIndexByte(data, '\n')+1]
	f.read[name] += int64(len(data))
	for line := range bytes.Lines(data) {
		f.seen[name][string(bytes.TrimSpace(line))]++
	}
	return len(f.seen[name])
}

// all is how many different records have come out, of all instances.
func (f *fleet) all() map[string]int {
	sum := map[string]int{}
	for _, name := range []string{"a", "b", "c", "d"} {
		f.look(name)
		for line, n := range f.seen[name] {
			sum[line] += n
		}
	}
	return sum
}

func (f *fleet) logs() string {
	var b strings.Builder
	files, _ := filepath.Glob(filepath.Join(f.dir, "*.log"))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		lines := strings.Split(string(text), "\n")
		fmt.Fprintf(&b, "--- %s\n%s\n", filepath.Base(file), strings.Join(lines[max(len(lines)-25, 0):], "\n"))
	}
	return b.String()
}

// load puts records until it is stopped.
func (f *fleet) load() (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	var busy sync.WaitGroup
	busy.Go(func() {
		for ctx.Err() == nil {
			var entries []types.PutRecordsRequestEntry
			for range 20 {
				n := f.number.Add(1)
				entries = append(entries, types.PutRecordsRequestEntry{Data: fmt.Appendf(nil, "record %d", n), PartitionKey: sdk.String(fmt.Sprint("key", n%40))})
			}
			for len(entries) > 0 {
				out, err := f.client.PutRecords(context.WithoutCancel(ctx), &kinesis.PutRecordsInput{StreamName: &f.stream, Records: entries})
				if err != nil { // the stream is being split: the outcome is known to be none
					pause(ctx, 100*time.Millisecond)
					continue
				}
				var failed []types.PutRecordsRequestEntry
				for i, r := range out.Records {
					if r.ErrorCode != nil {
						failed = append(failed, entries[i])
					}
				}
				entries = failed
			}
			pause(ctx, 50*time.Millisecond)
		}
	})
	stop = func() {
		cancel()
		busy.Wait()
		f.put = int(f.number.Load())
	}
	f.t.Cleanup(stop)
	return stop
}

// grows waits until an instance has written so many more.
func (f *fleet) grows(name string, by int) {
	f.t.Helper()
	before := f.look(name)
	f.until("instance "+name+" to read", func() bool { return f.look(name) >= before+by })
}

// run is the story.
func (f *fleet) run() {
	t := f.t
	stop := f.load()
	a := f.start("a")
	f.grows("a", 100)
	b := f.start("b")
	f.grows("b", 100) // it has a share
	f.grows("a", 100)
	if _, err := f.client.SplitShard(t.Context(), &kinesis.SplitShardInput{StreamName: &f.stream, ShardToSplit: sdk.String("shardId-000000000001"), NewStartingHashKey: sdk.String("127605887595351923798765477786913079296")}); err != nil {
		t.Fatal(err)
	}
	f.active()
	f.grows("b", 50)
	c := f.start("c") // three
	f.grows("c", 50)
	a.kill()
	before, killed := f.number.Load(), time.Now()
	f.until("the survivors to have everything", func() bool { return f.covered(before) })
	t.Logf("%s after a kill the survivors have had everything from before it", time.Since(killed).Round(100*time.Millisecond))
	d := f.start("d") // three again
	f.grows("d", 50)
	b.stop()
	f.grows("c", 50)
	f.grows("d", 50)
	stop()
	f.until("every record", func() bool { return len(f.all()) >= f.put })
	c.stop()
	d.stop()
	sum, repeated := f.all(), 0
	for i := range f.put {
		line := fmt.Sprint("record ", i+1)
		n := sum[line]
		if n == 0 {
			t.Errorf("%s is lost", line)
		}
		if n > 1+f.moves {
			t.Errorf("%s came %d times, with %d changes of the instances", line, n, f.moves)
		}
		repeated += max(n-1, 0)
	}
	if len(sum) != f.put {
		t.Errorf("%d different records came out, %d went in", len(sum), f.put)
	}
	t.Logf("%d records, %d of them repeated", f.put, repeated)
	if repeated > f.put/2 {
		t.Errorf("%d of %d records were repeated", repeated, f.put)
	}
}

// covered reports whether everything up to a number came out.
func (f *fleet) covered(upTo int64) bool {
	all := f.all()
	for n := int64(1); n <= upTo; n++ {
		if all[fmt.Sprint("record ", n)] == 0 {
			return false
		}
	}
	return true
}
