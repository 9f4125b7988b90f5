package sqssource

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/weirdata/weir/internal/cloud/aws"
	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/meter"
	format "github.com/weirdata/weir/internal/sqs"
)

const (
	callTimeout = 10 * time.Second // of a call that waits for nothing
	// stopGrace bounds how long the source, when it closes, waits for the receive calls that are
	// under way: what a call that is cut brings is lost to everybody for a timeout.
	stopGrace = 5 * time.Second
	// While as many deletions wait, or as much is held beside the pipeline, no more is received:
	// messages behind others of their group, mostly.
	mostDeletes = 1000
	mostBeside  = 2000
	mostBytes   = 32 << 20
	// sameAnswer is how long a FIFO queue gives the same answer to a receive call with the same
	// id; a little less than it says.
	sameAnswer = 4 * time.Minute
)

// session is the source from an Open to its Close.
type session struct {
	service    service
	disconnect func()
	queue      format.Queue
	c          Config
	redrive    bool
	log        *slog.Logger
	hand       *hand

	work          context.Context // of everything but receiving; ends when all is given back
	endWork       context.CancelFunc
	receiving     context.Context
	endReceiving  context.CancelFunc
	beating       context.Context
	endBeating    context.CancelFunc
	changed       chan struct{} // has an element when there may be something to read
	heldMore      chan struct{} // has an element when there may be something to extend
	beatEnded     chan struct{}
	receivers     sync.WaitGroup
	deleters      sync.WaitGroup
	pointersNoted sync.Once

	mu       sync.Mutex
	closed   bool
	active   int           // receive calls under way
	idle     chan struct{} // closed when none is; nil while nobody waits for that
	paused   int           // who wants none to begin
	wanted   int           // how many there may be: more while they come back full
	err      error         // of a receive, that no read has returned
	repeat   []repeat      // receive calls of a FIFO queue whose answers were lost
	deletes  []*entry      // to be deleted
	deleting int           // calls that delete
	troubled [2]troubled   // what was said of extending and deleting
}

// repeat is a receive call to make again.
type repeat struct {
	in    *sqs.ReceiveMessageInput
	since time.Time
}

// troubled says when something was logged last, so that a fault that lasts fills no log.
type troubled struct{ until time.Time }

func begin(client service, disconnect func(), q format.Queue, c Config, redrive bool, log *slog.Logger) *session {
	s := &session{service: client, disconnect: disconnect, queue: q, c: c, redrive: redrive, log: log.With("queue", q.Name),
		changed: make(chan struct{}, 1), heldMore: make(chan struct{}, 1), beatEnded: make(chan struct{}), wanted: 1}
	receives := 0
	if redrive {
		receives = q.MaxReceives
	}
	s.hand = newHand(time.Duration(c.VisibilityTimeoutSeconds)*time.Second, q.FIFO, receives)
	s.work, s.endWork = context.WithCancel(context.Background())
	s.receiving, s.endReceiving = context.WithCancel(s.work)
	s.beating, s.endBeating = context.WithCancel(s.work)
	go s.heartbeat()
	return s
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// mostPerRead bounds one read when the engine does not.
const mostPerRead = 1000

// read waits for messages that may be worked on.
func (s *session) read(ctx context.Context, room connector.Room) ([]*entry, error) {
	messages, size := room.Within(mostPerRead, mostBytes)
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if es := s.hand.take(time.Now(), messages, size); len(es) > 0 {
			s.receiveFor(messages - len(es))
			return es, nil
		}
		if err := s.failure(); err != nil {
			return nil, err
		}
		s.receiveFor(messages)
		var due <-chan time.Time
		var timer *time.Timer
		if at := s.hand.next(); !at.IsZero() {
			timer = time.NewTimer(time.Until(at))
			due = timer.C
		}
		select {
		case <-s.changed:
		case <-due:
		case <-ctx.Done():
		case <-s.receiving.Done():
			return nil, errors.New("read from the sqs source: it was closed")
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// failure is the error of a receive call that no read has returned yet.
func (s *session) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.err
	s.err = nil
	return err
}

// receiveFor has receive calls made for as many messages as there is room for.
func (s *session) receiveFor(messages int) {
	waits, beside, size := s.hand.count()
	careful := s.hand.careful(time.Now())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.paused > 0 || s.err != nil || waits >= s.c.MaxWaitingMessages || beside-waits >= mostBeside || size >= mostBytes || len(s.deletes) >= mostDeletes {
		return
	}
	for s.active < s.wanted && s.active*format.MaxEntries < messages {
		n := min(messages-s.active*format.MaxEntries, format.MaxEntries)
		if careful {
			n = 1
		}
		s.active++
		in := s.input(n)
		s.receivers.Go(func() { s.receive(in) })
	}
}

// input is the next receive call.
func (s *session) input(n int) *sqs.ReceiveMessageInput {
	for len(s.repeat) > 0 {
		r := s.repeat[0]
		s.repeat = s.repeat[1:]
		if time.Since(r.since) < sameAnswer {
			return r.in
		}
	}
	in := &sqs.ReceiveMessageInput{
		QueueUrl: &s.queue.URL, MaxNumberOfMessages: int32(n), WaitTimeSeconds: int32(s.c.WaitTimeSeconds),
		VisibilityTimeout: int32(s.c.VisibilityTimeoutSeconds), MessageAttributeNames: []string{"All"},
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
	}
	if s.queue.FIFO {
		id := newAttemptID()
		in.ReceiveRequestAttemptId = &id
	}
	return in
}

// receive makes one receive call.
func (s *session) receive(in *sqs.ReceiveMessageInput) {
	begun := time.Now()
	ctx, done := context.WithTimeout(s.receiving, time.Duration(in.WaitTimeSeconds)*time.Second+callTimeout)
	out, err := s.service.ReceiveMessage(ctx, in)
	done()
	if err == nil && len(out.Messages) > 0 {
		es := make([]*entry, 0, len(out.Messages))
		for i := range out.Messages {
			if e := s.entry(&out.Messages[i]); e != nil {
				es = append(es, e)
			}
		}
		if again := s.hand.receive(time.Now(), es); again > 0 {
			s.log.Debug("received messages that are held already", meter.KeyMessages, again)
		}
	}
	s.mu.Lock()
	if s.active--; s.active == 0 && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
	switch {
	case err != nil && s.receiving.Err() == nil:
		s.wanted = 1
		s.err = aws.Fault("receive from queue "+strconv.Quote(s.queue.Name), err)
		if in.ReceiveRequestAttemptId != nil && aws.Code(err) == "" && len(s.repeat) < s.c.ConcurrentReceives {
			s.repeat = append(s.repeat, repeat{in, begun})
		}
	case err != nil:
	case len(out.Messages) == int(in.MaxNumberOfMessages):
		s.wanted = min(s.wanted+1, s.c.ConcurrentReceives)
	case len(out.Messages) == 0:
		s.wanted = 1
	}
	s.mu.Unlock()
	signal(s.heldMore)
	signal(s.changed)
}

// pause has no receive call begin, and waits for those that are under way, until resume is
// called. A call that was made before a group was known to be in trouble would take the whole
// group again.
func (s *session) pause(ctx context.Context) (resume func()) {
	s.mu.Lock()
	s.paused++
	idle := s.idle
	if s.active > 0 && idle == nil {
		idle = make(chan struct{})
		s.idle = idle
	}
	waits := s.active > 0
	s.mu.Unlock()
	if waits {
		timer := time.NewTimer(stopGrace)
		select {
		case <-idle:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return func() {
		s.mu.Lock()
		s.paused--
		s.mu.Unlock()
		signal(s.changed)
	}
}

// entry is a message as it is held; nil for what has no id or handle, which cannot be deleted.
func (s *session) entry(m *types.Message) *entry {
	if m.MessageId == nil || m.ReceiptHandle == nil {
		return nil
	}
	body := ""
	if m.Body != nil {
		body = *m.Body
	}
	as := make([]format.Attribute, 0, len(m.MessageAttributes))
	for name, v := range m.MessageAttributes {
		a := format.Attribute{Name: name, Type: "String"}
		if v.DataType != nil {
			a.Type = *v.DataType
		}
		switch {
		case a.Binary():
			a.Value = v.BinaryValue
		case v.StringValue != nil:
			a.Value = []byte(*v.StringValue)
		}
		as = append(as, a)
	}
	e := &entry{id: *m.MessageId, handle: *m.ReceiptHandle, data: format.Decode(body, as), headers: format.Headers(as), receives: 1}
	system := func(name types.MessageSystemAttributeName) string { return m.Attributes[string(name)] }
	e.group = system(types.MessageSystemAttributeNameMessageGroupId)
	if s.queue.FIFO {
		e.position = format.Position(system(types.MessageSystemAttributeNameSequenceNumber))
	}
	if ms, err := strconv.ParseInt(system(types.MessageSystemAttributeNameSentTimestamp), 10, 64); err == nil {
		e.created = time.UnixMilli(ms).UTC()
	} else {
		e.created = time.Now().UTC()
	}
	if n, err := strconv.Atoi(system(types.MessageSystemAttributeNameApproximateReceiveCount)); err == nil {
		e.receives = n
	}
	if format.Pointer(body) {
		s.pointersNoted.Do(func() {
			s.log.Warn("a message is the place of a payload in S3, written by a library for large messages: such messages are passed on as they are, without the payload", "message_id", e.id)
		})
	}
	return e
}

// close gives back what is held, and ends.
func (s *session) close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.endReceiver(ctx)
	s.waitFor(ctx, callTimeout/4, &s.deleters) // each call has its own limit
	s.endBeating()
	<-s.beatEnded
	behind, first := s.hand.all()
	err := s.giveBack(ctx, behind, first, nil)
	s.endWork()
	s.deleters.Wait()
	s.hand.letGo()
	s.disconnect()
	return err
}

// endReceiver ends the receive calls that are under way.
func (s *session) endReceiver(ctx context.Context) {
	s.waitFor(ctx, stopGrace, &s.receivers)
	s.endReceiving()
	s.receivers.Wait()
}

// waitFor waits until all of wg have ended, not longer than d or ctx.
func (s *session) waitFor(ctx context.Context, d time.Duration, wg *sync.WaitGroup) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		wg.Wait()
	}()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	case <-ctx.Done():
	}
}
