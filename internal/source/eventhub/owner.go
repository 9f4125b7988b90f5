package eventhubsource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// foreignExpiry is how long a claim holds at least whose owner does not say how long it means it
// to: that of the other SDKs.
const foreignExpiry = 60 * time.Second

// listPartitionsEvery is how often the partitions of the hub are listed: some tiers add to them.
const listPartitionsEvery = 5 * time.Minute

// atOnce is how many claims are written at the same time.
const atOnce = 8

// holding is a partition that this instance owns. It ends once: when another instance has the
// partition, when the claim could not be renewed in time, or with the coordinator. What has ended
// does not come back, whatever a renewal says that was under way: events may have been let go of.
type holding struct {
	lasts time.Duration
	lost  chan struct{} // closed at the end

	mu      sync.Mutex
	claim   ownership
	renewed time.Time // when the last renewal that succeeded was begun
	ended   bool
	why     string
}

// current is the claim, while it holds.
func (h *holding) current() (ownership, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.ended && time.Since(h.renewed) >= h.lasts {
		h.endLocked("it could not be renewed in time")
	}
	return h.claim, !h.ended
}

func (h *holding) end(why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.endLocked(why)
}

func (h *holding) endLocked(why string) {
	if !h.ended {
		h.ended, h.why = true, why
		close(h.lost)
	}
}

func (h *holding) reason() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.why
}

// sight is when a version of an ownership was first seen, or earlier where the ledger knows.
type sight struct {
	version string
	since   time.Time
}

// coordinator has partitions claimed, renewed and given back. run and close are called by one
// goroutine.
type coordinator struct {
	ledger ledger
	me     string
	every  time.Duration
	lasts  time.Duration
	log    *slog.Logger
	// list lists the partitions of the hub; gained is called with each that is claimed, and has to
	// return at once.
	list   func(ctx context.Context) ([]string, error)
	gained func(h *holding, partition string)

	held       map[string]*holding
	seen       map[string]sight
	partitions []string
	listed     time.Time
}

// round renews what is held, looks once at who owns what, and claims what is wanted. Renewals come
// first, and nothing else is done while they fail: they have the least time.
func (c *coordinator) round(ctx context.Context) error {
	begun := time.Now()
	c.forget()
	if err := c.renew(ctx); err != nil {
		return err
	}
	owners, err := c.look(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	claims := wanted(c.me, c.partitions, func(p string) string {
		if c.held[p] != nil {
			return c.me
		}
		if o, there := owners[p]; there && o.owner != c.me && !c.expired(o, now) {
			return o.owner
		}
		return ""
	})
	return c.take(ctx, claims, owners, begun.Add(c.every))
}

// look lists partitions, where that is due, and owners.
func (c *coordinator) look(ctx context.Context) (map[string]ownership, error) {
	switch {
	case c.partitions == nil: // nothing is held, so that nothing hurries
		ps, err := c.list(ctx)
		if err != nil {
			return nil, err
		}
		c.partitions, c.listed = ps, time.Now()
	case time.Since(c.listed) > listPartitionsEvery:
		listing, cancel := context.WithTimeout(ctx, c.lasts/3)
		ps, err := c.list(listing)
		cancel()
		if err == nil {
			c.partitions = ps
		}
		c.listed = time.Now() // what fails is asked for the next time
	}
	owners, err := c.bounded(ctx, func(ctx context.Context) (map[string]ownership, error) { return c.ledger.owners(ctx) })
	if err != nil {
		return nil, err
	}
	now := time.Now()
	for p, o := range owners {
		if s, known := c.seen[p]; known && s.version == o.version {
			continue
		}
		since := now
		if o.age > 0 {
			since = now.Add(-o.age)
		}
		c.seen[p] = sight{o.version, since}
	}
	return owners, nil
}

// bounded gives a call to the ledger no more time than a renewal may take.
func (c *coordinator) bounded(ctx context.Context, call func(context.Context) (map[string]ownership, error)) (map[string]ownership, error) {
	ctx, cancel := context.WithTimeout(ctx, c.lasts/3)
	defer cancel()
	return call(ctx)
}

// expired reports whether nobody has renewed o for as long as its owner said that it lasts.
func (c *coordinator) expired(o ownership, now time.Time) bool {
	if o.owner == "" {
		return true
	}
	lasts := o.lasts
	if lasts <= 0 {
		lasts = max(foreignExpiry, c.lasts)
	}
	return now.Sub(c.seen[o.partition].since) > lasts
}

// forget lets go of holdings that have ended.
func (c *coordinator) forget() {
	for p, h := range c.held {
		if _, holds := h.current(); !holds {
			c.lose(p, h, "")
		}
	}
}

func (c *coordinator) lose(partition string, h *holding, why string) {
	delete(c.held, partition)
	h.end(why)
	c.log.Info("a partition is not read here any more", keyPartition, partition, "reason", h.reason())
}

// renew renews all that is held, and loses what somebody else has claimed.
func (c *coordinator) renew(ctx context.Context) error {
	type outcome struct {
		partition string
		h         *holding
		err       error
	}
	outcomes := make(chan outcome, len(c.held))
	slots := make(chan struct{}, atOnce)
	var busy sync.WaitGroup
	for p, h := range c.held {
		busy.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			outcomes <- outcome{p, h, c.renewOne(ctx, h)}
		})
	}
	busy.Wait()
	close(outcomes)
	var failed error
	for o := range outcomes {
		switch {
		case errors.Is(o.err, errLost):
			c.lose(o.partition, o.h, "another instance has claimed it")
		case o.err != nil:
			failed = o.err
		}
	}
	return failed
}

func (c *coordinator) renewOne(ctx context.Context, h *holding) error {
	ctx, cancel := context.WithTimeout(ctx, c.lasts/3)
	defer cancel()
	claim, holds := h.current()
	if !holds {
		return errLost
	}
	begun := time.Now()
	next, err := c.ledger.claim(ctx, claim, claim)
	if errors.Is(err, errLost) {
		// The answer to the last renewal may have been lost: what is there may be ours. It has to be
		// written anew: others count from when it was.
		owners, lookErr := c.ledger.owners(ctx)
		if lookErr != nil {
			return lookErr
		}
		if o := owners[claim.partition]; o.owner == c.me && o.epoch == claim.epoch {
			begun = time.Now()
			o.lasts = c.lasts
			next, err = c.ledger.claim(ctx, o, o)
		}
	}
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.claim, h.renewed = next, begun
	h.mu.Unlock()
	return nil
}

// take claims partitions until it is time to renew what is held; the next look takes the others. One
// that somebody else was faster with is left to them.
func (c *coordinator) take(ctx context.Context, claims []string, owners map[string]ownership, until time.Time) error {
	var failed error
	for i, p := range claims {
		if i > 0 && time.Now().After(until) {
			break
		}
		now := owners[p]
		next := ownership{partition: p, owner: c.me, epoch: now.epoch + 1, lasts: c.lasts}
		begun := time.Now()
		var made ownership
		_, err := c.bounded(ctx, func(ctx context.Context) (_ map[string]ownership, err error) {
			made, err = c.ledger.claim(ctx, now, next)
			return nil, err
		})
		switch {
		case errors.Is(err, errLost):
			continue
		case err != nil:
			failed = err
			continue
		}
		h := &holding{lasts: c.lasts, lost: make(chan struct{}), claim: made, renewed: begun}
		c.held[p] = h
		c.log.Info("a partition is read here from now on", keyPartition, p, "epoch", made.epoch, "before", now.owner)
		c.gained(h, p)
	}
	return failed
}

// run does rounds until ctx ends. said is told of each.
func (c *coordinator) run(ctx context.Context, said func(err error)) {
	c.held, c.seen = map[string]*holding{}, map[string]sight{}
	for ctx.Err() == nil {
		err := c.round(ctx)
		if ctx.Err() == nil {
			said(err)
		}
		// Instances that start together do not go on together. What cannot be renewed is tried again
		// soon, as long as it holds.
		pause := c.every
		if err != nil && len(c.held) > 0 {
			pause /= 4
		}
		wait := time.NewTimer(time.Duration(float64(pause) * (0.8 + rand.Float64()/4)))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
		}
	}
}

// close gives back all that is held, so that others need not wait. A renewal or a claim that was cut
// off may have been written all the same, so what is there counts, where it can be looked at.
func (c *coordinator) close(ctx context.Context) error {
	mine := map[string]ownership{}
	for p, h := range c.held {
		if claim, holds := h.current(); holds {
			mine[p] = claim
		}
		h.end("the source was closed")
		delete(c.held, p)
	}
	if owners, err := c.ledger.owners(ctx); err == nil {
		clear(mine)
		for p, o := range owners {
			if o.owner == c.me {
				mine[p] = o
			}
		}
	}
	var failed error
	for p, claim := range mine {
		back := claim
		back.owner = ""
		if _, err := c.ledger.claim(ctx, claim, back); err != nil && !errors.Is(err, errLost) {
			failed = fmt.Errorf("give back partition %s: %w", p, err)
		}
	}
	return failed
}
