package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/queue/partition"
)

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// Report is what Check has read.
type Report struct {
	Segments, Commits, Values int64 // of the log
	Open, Side, Records       int64 // batches with open jobs, jobs of the side table, records
}

// Check reads the whole store and verifies every checksum, every place and every number.
// progress, when it is not nil, is told how many bytes of how many were read. The error
// names the first thing that is damaged.
func (s *Store) Check(ctx context.Context, progress func(done, total int64)) (Report, error) {
	if err := s.enter(); err != nil {
		return Report{}, err
	}
	defer s.leave()
	s.maintain.Lock() // no segment is deleted meanwhile
	defer s.maintain.Unlock()
	var r Report
	for _, step := range []func(context.Context, *Report, func(int64, int64)) error{s.checkLog, s.checkLanes, s.checkState} {
		if err := step(ctx, &r, progress); err != nil {
			return r, fmt.Errorf("check the queue store %s: %w", s.dir, err)
		}
	}
	return r, nil
}

func (s *Store) checkLog(ctx context.Context, r *Report, progress func(int64, int64)) error {
	s.mu.Lock()
	total, done := int64(0), int64(0)
	sizes := map[uint64]int64{}
	for n, g := range s.segments {
		sizes[n] = g.size
		total += g.size
	}
	s.mu.Unlock()
	for _, n := range s.segmentNumbers() {
		if sizes[n] == 0 {
			continue
		}
		path := segmentPath(s.fs, s.dir, n)
		if _, whole, err := readSegment(s.fs, path, n); err != nil || !whole {
			return errors.Join(err, fmt.Errorf("segment %s has no header: %w", path, queue.ErrCorrupt))
		}
		fr, err := newFrameReader(s.fs, path, segmentHeader, sizes[n])
		if err != nil {
			return err
		}
		for {
			f, at, err := fr.next()
			if isEOF(err) {
				break
			}
			if err = errors.Join(err, ctx.Err()); err != nil {
				fr.close()
				return fmt.Errorf("segment %s at offset %d: %w: %w", path, at, err, queue.ErrCorrupt)
			}
			r.Commits++
			r.Values += int64(len(f.appends))
			if progress != nil {
				progress(done+fr.at, total)
			}
		}
		done += sizes[n]
		r.Segments++
		fr.close()
	}
	return nil
}

// checkLanes reads every value that is open, and every side row.
func (s *Store) checkLanes(ctx context.Context, r *Report, _ func(int64, int64)) error {
	for _, l := range s.part.Lanes() {
		for seq := l.First; seq < l.Tail; {
			vs, err := s.Values(ctx, l.ID, seq, 4<<20)
			if err != nil {
				return err
			}
			now, _ := s.part.StateOf(l.ID)
			if len(vs) == 0 && now.First < now.Tail && seq < now.First {
				seq = now.First
				continue
			}
			if len(vs) == 0 {
				break
			}
			for _, v := range vs {
				if err := checkValue(v); err != nil {
					return fmt.Errorf("value %d of lane %d: %w", v.Seq, l.ID, err)
				}
				r.Open++
				seq = v.Seq + 1
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if err := s.eachSide(l, rowSide, queue.ID{Lane: l.ID}, func(row partition.Side) (bool, error) {
			r.Side++
			_, err := jobOf(l, row)
			return true, err
		}); err != nil {
			return err
		}
	}
	return nil
}

func checkValue(v partition.Value) error {
	rs, err := queue.OpenValue(v.Data)
	for err == nil {
		var rec []byte
		if rec, err = rs.Next(); rec == nil {
			break
		}
		_, err = queue.ReadHead(rec)
	}
	return err
}

func (s *Store) checkState(ctx context.Context, r *Report, _ func(int64, int64)) error {
	// Reading every row verifies the checksum of every block.
	return s.each(nil, func(k, _ []byte) error {
		if len(k) > 0 && k[0] == rowKV {
			r.Records++
		}
		return ctx.Err()
	})
}
