package executor

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/weirdata/weir/internal/event"
	"github.com/weirdata/weir/internal/meter"
	"github.com/weirdata/weir/internal/queue"
)

// A message that comes again after a crash finds the execution that it has started: the
// execution is named after where the message was read, if its source says so. What a message
// started is known for as long as its execution goes on, and for remembered after it began
// (ended, where somebody waits for its end).

// remembered is for how long it is known that a message has started an execution. Sources
// deliver again after a restart, and that comes sooner.
const remembered = 10 * time.Minute

// names gives out names of executions for the messages of a batch, of which several may come
// from one place.
type names struct {
	machine string
	seen    map[string]int
}

// of is the name for m; known is false where nobody says where m comes from, and the name is
// one that no other message will have.
func (n *names) of(m *event.Message) (name string, known bool) {
	o := m.Meta.Origin
	if o == nil || len(o.Position) == 0 {
		return rand.Text(), false
	}
	h := sha256.New()
	var size [8]byte
	for _, part := range [][]byte{[]byte(n.machine), []byte(o.Stream), []byte(o.Partition), o.Position, binary.BigEndian.AppendUint64(nil, o.Sub), m.Data} {
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write(part)
	}
	name = base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil)[:16])
	if n.seen == nil {
		n.seen = map[string]int{}
	}
	n.seen[name]++
	if again := n.seen[name]; again > 1 { // equal messages that one became
		name += "-" + strconv.Itoa(again)
	}
	return name, true
}

// StartOnceIn implements connector.Machine.
func (m *Machine) StartOnceIn(tx queue.Tx, b event.Batch) error {
	n := names{machine: m.o.Name}
	now := binary.BigEndian.AppendUint64(nil, uint64(m.now().UnixNano()))
	jobs := make([]queue.Job, 0, len(b))
	for _, msg := range b {
		name, known := n.of(msg)
		if known {
			key := m.startedKey(name)
			before, err := tx.Get(key)
			if err != nil {
				return err
			}
			if before != nil {
				continue
			}
			if err := tx.Put(key, now); err != nil {
				return err
			}
		}
		jobs = append(jobs, m.startJob(msg, ""))
	}
	if n := len(b) - len(jobs); n > 0 {
		m.o.Log.Info("messages came again and have started their executions already", meter.KeyMessages, n)
	}
	if len(jobs) == 0 {
		return nil
	}
	return tx.Append(jobs...)
}

// startWaited starts an execution for each name that has none yet.
func (m *Machine) startWaited(ctx context.Context, b event.Batch, ids []string, known []bool) error {
	return m.o.Store().Update(ctx, func(tx queue.Tx) error {
		jobs := make([]queue.Job, 0, len(b))
		for i, msg := range b {
			if known[i] {
				there, err := m.there(tx, ids[i])
				if err != nil {
					return err
				}
				if there {
					continue
				}
			}
			jobs = append(jobs, m.startJob(msg, ids[i]))
		}
		if len(jobs) == 0 {
			return nil
		}
		return tx.Append(jobs...)
	})
}

// there reports whether an execution goes on, or has ended and is remembered.
func (m *Machine) there(r interface {
	Get(key []byte) ([]byte, error)
}, id string) (bool, error) {
	for _, key := range [][]byte{m.stateKey(id), m.endedKey(id)} {
		v, err := r.Get(key)
		if err != nil || v != nil {
			return v != nil, err
		}
	}
	return false, nil
}

func (m *Machine) startedPrefix() []byte { return []byte("machine/" + m.o.Name + "/w/") }

func (m *Machine) startedKey(name string) []byte { return append(m.startedPrefix(), name...) }

// forgetStarts forgets what was started long enough ago.
func (m *Machine) forgetStarts(ctx context.Context) error {
	err := m.forgetOld(ctx, m.startedPrefix(), func(r queue.Record) bool {
		return len(r.Value) != 8 || m.now().Sub(time.Unix(0, int64(binary.BigEndian.Uint64(r.Value)))) >= remembered
	})
	if err != nil {
		return fmt.Errorf("forget what has started executions: %w", err)
	}
	return nil
}
