package sqssource_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/pipeline"
	"github.com/weirdata/weir/internal/retry"
	sqssource "github.com/weirdata/weir/internal/source/sqs"
)

// instance names, for a process of its own, the queue, its endpoint and the file of its target.
const instance = "WEIR_TEST_SQS_INSTANCE"

func TestMain(m *testing.M) {
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	if os.Getenv(instance) != "" {
		if err := runInstance(os.Getenv(instance), os.Getenv(instance+"_ENDPOINT"), os.Getenv(instance+"_FILE")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// lines is a target that appends a line for each message to a file that several processes share.
type lines struct{ f *os.File }

func (lines) Open(context.Context) error    { return nil }
func (l lines) Close(context.Context) error { return l.f.Close() }
func (l lines) Write(_ context.Context, b event.Batch) error {
	time.Sleep(2 * time.Millisecond) // a target is not for nothing
	for _, m := range b {
		if _, err := fmt.Fprintf(l.f, "%d %s %s\n", os.Getpid(), m.Meta.Origin.Partition, m.Data); err != nil {
			return err
		}
	}
	return l.f.Sync()
}

// inFlight is how many messages an instance has at most in work.
const inFlight = 40

// runInstance moves messages from a queue to a file until it is asked to stop.
func runInstance(name, endpoint, path string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	c := sqssource.Entry.Default().(*sqssource.Config)
	c.QueueName, c.CustomAWSEndpoint, c.VisibilityTimeoutSeconds = name, endpoint, 3
	class := retry.Class{Delay: 100 * time.Millisecond}
	limits := connector.Limits{MaxBatchMessages: 10, MaxConcurrentBatches: 2, FlushPeriod: 20 * time.Millisecond}
	to := pipeline.Sink{Target: lines{f}, Limits: limits}
	failures := pipeline.Sink{Target: &sink{}, Limits: limits}
	err = pipeline.New(pipeline.Parts{
		Name: "p", Source: sqssource.New(connector.Deps{}, *c), Target: to, Filter: failures, Failure: failures, Format: asItIs{},
		Drain: time.Minute, InFlightMessages: inFlight, Retry: retry.Policy{Transient: class, Throttle: class, Setup: class},
		Meter: meter.NewPipeline("p"), Log: slog.New(slog.DiscardHandler),
	}).Run(ctx)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
