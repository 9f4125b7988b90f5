package failures

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/event"
)

// Most messages and payload bytes of one read.
const (
	readMessages = 500
	readBytes    = 8 << 20
)

// Tally is what a replay has done so far.
type Tally struct {
	// Sent counts events that were sent through the pipeline, of which AsRead had their
	// payload as it was read, and Settled are settled. Doubtful ones may differ from what
	// they were.
	Sent, AsRead, Settled, Doubtful atomic.Int64
	// Before counts events that were replayed before, NoPayload those that cannot be, and
	// Gone those that somebody else took meanwhile.
	Before, NoPayload, Gone atomic.Int64

	mu      sync.Mutex
	skipped Skipped
	why     error
}

// Skipped is what was left out because it is no failed event that can be read.
func (t *Tally) Skipped() Skipped {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.skipped
}

func (t *Tally) skip(s Skipped) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.skipped.Other += s.Other
	t.skipped.Damaged += s.Damaged
	if t.skipped.First == nil {
		t.skipped.First = s.First
	}
}

// refuse counts an event without a payload.
func (t *Tally) refuse(f *Failure, err error) {
	t.NoPayload.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.why == nil {
		t.why = errors.New(f.ID + ": " + err.Error())
	}
}

// Refused is why the first event cannot be replayed that cannot be; nil when all can.
func (t *Tally) Refused() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.why
}

// Plan says which failures are sent again, and how.
type Plan struct {
	Selection
	// Which payload is sent.
	Which Which
	// Limit is the most events to send; 0 means all.
	Limit int
	// Tally, which all sources of a replay share, is told what happens.
	Tally *Tally
}

// message is f as it is sent through the pipeline again; nil when it cannot be, which the
// tally then knows.
func (p *Plan) message(f *Failure) *event.Message {
	payload, asRead, err := f.Replayed(p.Which)
	if err != nil {
		p.Tally.refuse(f, err)
		return nil
	}
	p.Tally.Sent.Add(1)
	if asRead {
		p.Tally.AsRead.Add(1)
	}
	if f.Doubtful && !asReadInQueue(f) {
		p.Tally.Doubtful.Add(1)
	}
	return f.again(payload)
}

// Again is f as it is sent through a pipeline again.
func (f *Failure) Again(w Which) (*event.Message, error) {
	payload, _, err := f.Replayed(w)
	if err != nil {
		return nil, err
	}
	return f.again(payload), nil
}

func (f *Failure) again(payload []byte) *event.Message {
	m := event.New(payload)
	if o := f.Message; o != nil {
		m.Key, m.Meta.ID, m.Meta.Headers, m.Meta.Scope = o.Key, o.Meta.ID, o.Meta.Headers, o.Meta.Scope
		m.Times.Created = o.Times.Created
		return m
	}
	c := f.Context
	m.Key, m.Meta.ID = c.Key, c.ID
	if c.Scope != (event.Scope{}) {
		m.Meta.Scope = &c.Scope
	}
	if !f.Time.IsZero() {
		m.Times.Created = f.Time
	}
	return m
}

func asReadInQueue(f *Failure) bool { return f.Message != nil && f.AsRead }

// spent reports whether as many events were sent as may be.
func (p *Plan) spent() bool { return p.Limit > 0 && p.Tally.Sent.Load() >= int64(p.Limit) }

// FileSource sends the failures of a file.
type FileSource struct {
	Plan Plan
	// Path is the file.
	Path string
	// Journal is the file of what was replayed before and is now. When it is empty nothing
	// is noted.
	Journal string
	// Again sends what the journal has too.
	Again bool
	// Must says that a file that is not there is an error, and not one without failures.
	Must bool
	// In is read when Path is "-".
	In io.Reader

	reader  *reader
	journal *journal
	ahead   *event.Message // was read and there was no room for it
	aheadID identity
	skipped Skipped
	closing sync.Once
	err     error
}

// Open implements connector.Source.
func (s *FileSource) Open(context.Context) (err error) {
	s.reader, err = open(s.Path, s.In, &s.skipped)
	if !s.Must && errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.Journal != "" {
		if s.journal, err = openJournal(s.Journal); err != nil {
			return errors.Join(err, s.reader.Close())
		}
	}
	return nil
}

// Close implements connector.Source.
func (s *FileSource) Close(context.Context) error {
	s.closing.Do(func() {
		if s.reader == nil {
			return
		}
		s.Plan.Tally.skip(s.skipped)
		s.err = errors.Join(s.reader.Close(), s.journal.Close())
	})
	return s.err
}

// Read implements connector.Source.
func (s *FileSource) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	if s.reader == nil {
		return nil, nil, io.EOF
	}
	messages, most := room.Within(readMessages, readBytes)
	var b event.Batch
	var ids []identity
	bytes := 0
	take := func(m *event.Message, id identity) bool {
		if len(b) > 0 && bytes+len(m.Data) > most {
			s.ahead, s.aheadID = m, id
			return false
		}
		b, ids, bytes = append(b, m), append(ids, id), bytes+len(m.Data)
		return true
	}
	if m := s.ahead; m != nil {
		s.ahead = nil
		take(m, s.aheadID)
	}
	for len(b) < messages {
		if s.Plan.spent() {
			break
		}
		f, id, err := s.reader.next(ctx)
		if err == io.EOF { //nolint:errorlint // see next
			break
		}
		if err != nil {
			if len(b) > 0 {
				break // the error comes again
			}
			return nil, nil, err
		}
		if !s.Plan.Match(f) {
			continue
		}
		if !s.Again && s.journal.has(id) {
			s.Plan.Tally.Before.Add(1)
			continue
		}
		if m := s.Plan.message(f); m != nil && !take(m, id) {
			break
		}
	}
	if len(b) == 0 {
		return nil, nil, io.EOF
	}
	return b, func(_ context.Context, o event.Outcomes) error {
		settled := ids[:0:0]
		for i, id := range ids {
			if o == nil || o[i] == nil {
				settled = append(settled, id)
			}
		}
		s.Plan.Tally.Settled.Add(int64(len(settled)))
		return s.journal.add(settled)
	}, nil
}

// Sources sends the failures of several places, one after the other.
type Sources struct {
	All []connector.Source
	// Closed, if set, is called when the pipeline has ended.
	Closed func()

	at int
}

// Open implements connector.Source.
func (s *Sources) Open(ctx context.Context) error {
	for i, one := range s.All {
		if err := one.Open(ctx); err != nil {
			for _, open := range s.All[:i] {
				err = errors.Join(err, open.Close(ctx))
			}
			return err
		}
	}
	return nil
}

// Read implements connector.Source.
func (s *Sources) Read(ctx context.Context, room connector.Room) (event.Batch, connector.Ack, error) {
	for s.at < len(s.All) {
		b, ack, err := s.All[s.at].Read(ctx, room)
		if err != io.EOF { //nolint:errorlint // see connector.Source
			return b, ack, err
		}
		s.at++
	}
	return nil, nil, io.EOF
}

// Close implements connector.Source.
func (s *Sources) Close(ctx context.Context) error {
	var errs []error
	for _, one := range s.All {
		errs = append(errs, one.Close(ctx))
	}
	if s.Closed != nil {
		s.Closed()
	}
	return errors.Join(errs...)
}
