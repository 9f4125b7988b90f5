package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/weirdata/weir/internal/queue"
)

// read is the queues that anybody leases from; false when that cannot be known.
func (v *cluster) read() (queues [][]byte, known bool) {
	queues = [][]byte{}
	for _, m := range v.members {
		if m.whole {
			return nil, false
		}
		queues = append(queues, texts(m.queues)...)
	}
	return queues, true
}

// ReadByOthers implements queue.Shared. What a process of before there were shares leases from is
// not known.
func (s *Store) ReadByOthers(ctx context.Context) (func(queue string) bool, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	var v *cluster
	err := s.try(ctx, func(ctx context.Context) (err error) {
		v, err = s.wholeCluster(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for who leases from the queues: %w", meaning(err))
	}
	return func(queue string) bool {
		for id, m := range v.members {
			if id != s.process && !m.whole && m.reads(queue) {
				return true
			}
		}
		return false
	}, nil
}

// Unread implements queue.Subscriber. While a process lives that does not say what it leases
// from, nothing can be said.
func (s *Store) Unread(ctx context.Context) ([]queue.Backlog, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	var found []queue.Backlog
	kept := true
	err := s.try(ctx, func(ctx context.Context) error {
		found = nil
		v, err := s.wholeCluster(ctx)
		if err != nil {
			return err
		}
		read, known := v.read()
		if !known {
			return nil
		}
		kept = !slices.ContainsFunc(v.parts, func(p partState) bool { return !v.kept(&p) })
		rows, err := s.pool.Query(ctx, s.names.sql("SELECT queue, sum(jobs + retry + parked)::bigint FROM @schema.lanes WHERE queue <> ALL($1) GROUP BY queue"), read)
		if err != nil {
			return err
		}
		var name []byte
		var open int64
		_, err = pgx.ForEachRow(rows, []any{&name, &open}, func() error {
			found = append(found, queue.Backlog{Queue: string(name), Open: open})
			return nil
		})
		return err
	})
	for i := range found {
		if kept || err != nil {
			break
		}
		// No checkpoint says what has come since.
		var st queue.Stats
		st, err = s.Stats(ctx, queue.Filter{Queue: found[i].Queue})
		found[i].Open = st.Open()
	}
	if err != nil {
		return nil, fmt.Errorf("look for queues that nobody leases from: %w", meaning(err))
	}
	found = slices.DeleteFunc(found, func(b queue.Backlog) bool { return b.Open == 0 })
	slices.SortFunc(found, func(a, b queue.Backlog) int { return cmp.Compare(a.Queue, b.Queue) })
	return found, nil
}
