package pipeline

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// backsUp is a pipeline that splits "x,y" at commas, refuses what is bad, leaves out what is none, and
// writes the rest in capitals.
func backsUp(failed bool, payloads ...string) *bench {
	b := newBench(step{payloads: payloads, keys: []string{"k"}})
	b.through(2, transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
		var parts [][]byte
		for part := range strings.SplitSeq(string(m.Data), ",") {
			parts = append(parts, []byte(part))
		}
		return append(out, m.Split(parts...)...), nil
	}), transform(func(_ context.Context, out event.Batch, m *event.Message) (event.Batch, error) {
		switch string(m.Data) {
		case "bad":
			return out, errors.New("bad")
		case "none":
			return out, nil
		}
		m.Key = "changed"
		m.SetHeader("changed", "yes")
		made := event.New([]byte(strings.ToUpper(string(m.Data)))) // which is no part of m
		return append(out, made), nil
	}))
	b.parts.Backup, b.parts.BackUpFailed = Sink{Target: b.backup, Limits: limits()}, failed
	return b
}

// TestBackup: the backup has what was read, as it was read, and each message once.
func TestBackup(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		failed bool
		refuse string // what the target refuses
		want   string
	}{
		{"all", false, "", "a,b bad,bad,c d e,f none"},
		{"failed in a transform", true, "", "bad,bad,c"},
		{"failed at the target", true, "A B E F", "a,b bad,bad,c e,f"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := backsUp(row.failed, "a,b", "bad,bad,c", "d", "e,f", "none")
			b.target.before = func(_ context.Context, batch event.Batch) error {
				failed := map[int]error{}
				for i, m := range batch {
					if slices.Contains(strings.Fields(row.refuse), string(m.Data)) {
						failed[i] = errInvalid
					}
				}
				if len(failed) == 0 {
					return nil
				}
				return &connector.Partial{Failed: failed}
			}
			if err := b.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := b.backup.payloads()
			slices.Sort(got)
			if strings.Join(got, " ") != row.want {
				t.Errorf("%s: the backup has %q", row.name, got)
			}
			for _, k := range b.backup.got {
				if k.key == "changed" {
					t.Errorf("%s: %q has the key that a transform gave", row.name, k.payload)
				}
			}
			if b.source.outcome(0, 1) != nil {
				t.Errorf("%s: %v", row.name, b.source.outcome(0, 1))
			}
		})
	}
}

// TestBackupHoldsSettling: a message is settled when both the target and the backup have it, whichever
// is later.
func TestBackupHoldsSettling(t *testing.T) {
	t.Parallel()
	for _, late := range []string{"target", "backup"} {
		synctest.Test(t, func(t *testing.T) {
			b := backsUp(false, "a")
			slow := map[string]*fakeTarget{"target": b.target, "backup": b.backup}[late]
			slow.before = func(context.Context, event.Batch) error { time.Sleep(time.Hour); return nil }
			b.source.onAck = func(int, event.Outcomes) error {
				if len(b.target.payloads()) != 1 || len(b.backup.payloads()) != 1 {
					t.Errorf("the %s is late, and the read is acknowledged without it", late)
				}
				return nil
			}
			if err := b.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if b.source.outcome(0, 0) != nil {
				t.Error(b.source.outcome(0, 0))
			}
		})
	}
}

// TestBackupThatFails: what the backup refuses goes to the failure target, once, and what it cannot take
// goes back to the source although the target has it.
func TestBackupThatFails(t *testing.T) {
	t.Parallel()
	for _, failed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := backsUp(failed, "bad,a")
			b.backup.before = func(context.Context, event.Batch) error { return errInvalid }
			if err := b.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := b.failure.payloads()
			slices.Sort(got)
			if len(got) != 2 || !strings.HasPrefix(got[0], refusedBackup+"bad,a|") || !strings.HasPrefix(got[1], "bad|") || b.source.outcome(0, 0) != nil {
				t.Errorf("failed %t: %q, %v", failed, got, b.source.outcome(0, 0))
			}
		})
		synctest.Test(t, func(t *testing.T) {
			b := backsUp(failed, "bad,a")
			b.backup.before = func(context.Context, event.Batch) error { return errFatal }
			if err := b.run(t.Context()); err == nil || b.source.outcome(0, 0) == nil {
				t.Errorf("failed %t: Run returned %v, and the message is settled", failed, err)
			}
		})
	}
}
