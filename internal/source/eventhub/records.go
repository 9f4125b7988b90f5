package eventhubsource

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weirdata/weir/internal/fault"
	"github.com/weirdata/weir/internal/queue"
)

// recordPrefix is before the keys of the records of a hub and group. Names have no case there.
func recordPrefix(host, hub, group string) string {
	return "eventhub/" + strings.ToLower(host+"/"+hub+"/"+group) + "/"
}

// records is a ledger in Weir's own store: a record PREFIXo/PARTITION for an ownership and one
// PREFIXc/PARTITION for a checkpoint, both JSON. What it refuses, it refuses in the transaction of
// the write.
type records struct {
	store  func() queue.Store
	prefix string
}

type ownerRecord struct {
	Owner string `json:"owner"`
	Epoch int64  `json:"epoch"`
	Lasts int64  `json:"lasts_ms"`
	// Turn is another one with every write.
	Turn int64 `json:"turn"`
}

type checkpointRecord struct {
	Sequence int64  `json:"sequence"`
	Offset   string `json:"offset"`
}

func (r *records) open(context.Context) error {
	if r.store == nil || r.store() == nil {
		return fault.New(fault.Setup, errors.New("there is no store to keep checkpoints in: add a store block, or checkpoints {} for Blob storage"))
	}
	return nil
}

func (r *records) ownerKey(partition string) []byte { return []byte(r.prefix + "o/" + partition) }

func (r *records) owners(ctx context.Context) (map[string]ownership, error) {
	var os map[string]ownership
	err := r.store().View(ctx, func(reader queue.Reader) error {
		os = map[string]ownership{}
		prefix := []byte(r.prefix + "o/")
		for rec, err := range reader.Scan(prefix, nil) {
			if err != nil {
				return err
			}
			o, err := ownerOf(string(bytes.TrimPrefix(rec.Key, prefix)), rec.Value)
			if err != nil {
				return err
			}
			os[o.partition] = o
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read who owns the partitions from the store: %w", err)
	}
	return os, nil
}

func ownerOf(partition string, value []byte) (ownership, error) {
	var rec ownerRecord
	if err := json.Unmarshal(value, &rec); err != nil {
		return ownership{}, fault.New(fault.Setup, fmt.Errorf("the record of the owner of partition %s is damaged: %w", partition, err))
	}
	return ownership{partition: partition, owner: rec.Owner, epoch: rec.Epoch, lasts: time.Duration(rec.Lasts) * time.Millisecond, version: strconv.FormatInt(rec.Turn, 10), age: -1}, nil
}

func (r *records) claim(ctx context.Context, now, next ownership) (ownership, error) {
	var turn int64
	err := r.store().Update(ctx, func(tx queue.Tx) error {
		value, err := tx.Get(r.ownerKey(next.partition))
		if err != nil {
			return err
		}
		turn = 1
		if value != nil {
			there, err := ownerOf(next.partition, value)
			if err != nil {
				return err
			}
			if there.version != now.version {
				return errLost
			}
			if turn, err = strconv.ParseInt(there.version, 10, 64); err != nil {
				return err
			}
			turn++
		} else if now.version != "" {
			return errLost
		}
		value, err = json.Marshal(ownerRecord{next.owner, next.epoch, next.lasts.Milliseconds(), turn})
		if err != nil {
			return err
		}
		return tx.Put(r.ownerKey(next.partition), value)
	})
	if err != nil {
		return ownership{}, fmt.Errorf("claim partition %s in the store: %w", next.partition, err)
	}
	next.version = strconv.FormatInt(turn, 10)
	return next, nil
}

func (r *records) checkpointKey(partition string) []byte {
	return []byte(r.prefix + "c/" + partition)
}

func (r *records) checkpoint(ctx context.Context, partition string) (mark, error) {
	var cp mark
	err := r.store().View(ctx, func(reader queue.Reader) error {
		value, err := reader.Get(r.checkpointKey(partition))
		if err != nil || value == nil {
			cp = mark{}
			return err
		}
		var rec checkpointRecord
		if err := json.Unmarshal(value, &rec); err != nil {
			return fault.New(fault.Setup, fmt.Errorf("the record is damaged: %w", err))
		}
		cp = mark{position{rec.Sequence, rec.Offset}, "there"}
		return nil
	})
	if err != nil {
		return mark{}, fmt.Errorf("read the checkpoint of partition %s from the store: %w", partition, err)
	}
	return cp, nil
}

func (r *records) save(ctx context.Context, mine ownership, was mark, to position) (mark, error) {
	err := r.store().Update(ctx, func(tx queue.Tx) error {
		value, err := tx.Get(r.ownerKey(mine.partition))
		if err != nil {
			return err
		}
		if value == nil {
			return errLost
		}
		if o, err := ownerOf(mine.partition, value); err != nil {
			return err
		} else if o.owner != mine.owner || o.epoch != mine.epoch {
			return errLost
		}
		// An owner before may have gone further since this one began.
		if value, err = tx.Get(r.checkpointKey(mine.partition)); err != nil {
			return err
		}
		var there checkpointRecord
		if value != nil {
			if err := json.Unmarshal(value, &there); err != nil {
				return fault.New(fault.Setup, fmt.Errorf("the record is damaged: %w", err))
			}
			if there.Sequence != was.sequence {
				return errChanged
			}
		}
		value, err = json.Marshal(checkpointRecord{to.sequence, to.offset})
		if err != nil {
			return err
		}
		return tx.Put(r.checkpointKey(mine.partition), value)
	})
	if err != nil {
		return was, fmt.Errorf("save the checkpoint of partition %s in the store: %w", mine.partition, err)
	}
	return mark{to, "there"}, nil
}
