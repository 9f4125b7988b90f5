package lease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirdata/weir/internal/fault"
)

// The columns of the Kinesis Client Library 2.x.
const (
	kclKey          = "leaseKey"
	kclOwner        = "leaseOwner"
	kclCounter      = "leaseCounter"
	kclSwitches     = "ownerSwitchesSinceCheckpoint"
	kclSequence     = "checkpoint"
	kclSub          = "checkpointSubSequenceNumber"
	kclParents      = "parentShardId"
	kclChildren     = "childShardIds"
	kclFrom         = "startingHashKey"
	kclTo           = "endingHashKey"
	kclStream       = "streamName"
	kclHandedFrom   = "checkpointOwner" // 3.x
	kclEntity       = "entityType"      // 3.x
	kclVersion      = "cv"              // 3.x, of a migration
	kclMigrationKey = "Migration3.0"
)

// KCL is the lease table of the Kinesis Client Library 2.x in DynamoDB: one item for each shard.
//
//	leaseKey                      S   shard
//	leaseOwner                    S   not there when nobody holds it
//	leaseCounter                  N
//	ownerSwitchesSinceCheckpoint  N
//	checkpoint                    S   decimal number, TRIM_HORIZON, LATEST, AT_TIMESTAMP, SHARD_END
//	checkpointSubSequenceNumber   N
//	parentShardId, childShardIds  SS  not there when there are none, or are not known yet
//	startingHashKey, endingHashKey S
//
// A checkpoint removes pendingCheckpoint, pendingCheckpointSubSequenceNumber and
// pendingCheckpointState, which the library writes when it prepares one.
//
// Version 3.x keeps more there: in items of their own, with an entityType, and how a shard is
// handed over (checkpointOwner). Its leader gives shards by rules of its own and none to workers
// without its metrics, so beside a live one this table is refused; what stopped workers of 3.x have
// left is taken over, and workers of 3.x in the mode that is compatible with 2.x share as those of
// 2.x do.
type KCL struct {
	t     table
	quiet time.Duration // how long workers of 3.x must be seen to do nothing

	mu      sync.Mutex
	version string // of the coordinator state, without its prefix; empty when there is none
	asked   time.Time
	first   time.Time
	last    map[string]Row // of the look before
	inTable string         // version kept in the lease table itself
	skipped int            // items of multi-stream applications
}

// KCLOptions are what [NewKCL] needs.
type KCLOptions struct {
	// Name is that of the application, and so of the table.
	Name string
	// Fault gives errors of DynamoDB their meaning; nil wraps them.
	Fault Fault
	// Quiet is how long live workers of version 3.x are watched for; 0 is the fail-over time that
	// is assumed of foreign workers.
	Quiet time.Duration
}

// NewKCL returns the table of an application. It touches no network.
func NewKCL(client DynamoDB, o KCLOptions) *KCL {
	if o.Fault == nil {
		o.Fault = plainFault
	}
	return &KCL{t: table{client: client, name: o.Name, key: kclKey, fault: o.Fault}, quiet: cmp.Or(o.Quiet, DefaultForeignFailover)}
}

func (k *KCL) String() string { return "DynamoDB table " + k.t.name }

// SubSequences implements [Table].
func (k *KCL) SubSequences() bool { return true }

// Open implements [Table].
func (k *KCL) Open(ctx context.Context) error { return k.t.open(ctx, true) }

// decode reads an item; nil when it is no lease.
func (k *KCL) decode(it item) (*Row, error) {
	var errs []error
	str := func(column string) string {
		s, err := textOf(it, column)
		errs = append(errs, err)
		return s
	}
	num := func(column string) (int64, bool) {
		n, there, err := numberOf(it, column)
		errs = append(errs, err)
		return n, there
	}
	set := func(column string) []string {
		list, err := textsOf(it, column)
		errs = append(errs, err)
		slices.Sort(list)
		return list
	}
	r := &Row{Shard: str(kclKey), Owner: str(kclOwner), HandedFrom: str(kclHandedFrom), Parents: set(kclParents), Children: set(kclChildren)}
	r.Range = HashRange{From: str(kclFrom), To: str(kclTo)}
	if !r.Range.known() {
		r.Range = HashRange{}
	}
	counter, counted := num(kclCounter)
	r.Counter = counter
	r.Switches, _ = num(kclSwitches)
	sub, _ := num(kclSub)
	if !counted {
		errs = append(errs, fmt.Errorf("%s is missing", kclCounter))
	}
	if sub < 0 {
		errs = append(errs, fmt.Errorf("%s is below zero", kclSub))
	}
	p, err := parsePosition(str(kclSequence), uint64(max(sub, 0)))
	if err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", kclSequence, err))
	}
	r.Position = p
	return r, errors.Join(errs...)
}

// Scan implements [Table].
func (k *KCL) Scan(ctx context.Context, latest bool) (Rows, error) {
	var rows Rows
	skipped, version := 0, ""
	err := k.t.scan(ctx, latest, func(it item) {
		key, _ := textOf(it, kclKey)
		if entity, err := textOf(it, kclEntity); err != nil || entity != "" && entity != "LEASE" {
			if key == kclMigrationKey {
				version = versionOf(it)
			}
			return
		}
		if stream, err := textOf(it, kclStream); err != nil || stream != "" {
			skipped++
			return
		}
		r, err := k.decode(it)
		if err != nil {
			rows.Broken = append(rows.Broken, Broken{Shard: key, Err: err})
			return
		}
		rows.Rows = append(rows.Rows, *r)
	})
	k.mu.Lock()
	k.inTable, k.skipped = version, skipped
	k.mu.Unlock()
	return rows, err
}

// Get implements [Table].
func (k *KCL) Get(ctx context.Context, shard string) (Row, error) {
	it, err := k.t.get(ctx, shard)
	switch {
	case err != nil:
		return Row{}, err
	case it == nil:
		return Row{}, errNoRow
	}
	return k.row(it)
}

func (k *KCL) row(it item) (Row, error) {
	r, err := k.decode(it)
	if err != nil {
		return Row{}, fault.New(fault.Setup, fmt.Errorf("the lease of shard %s in %s cannot be understood: %w", r.Shard, k, err))
	}
	return *r, nil
}

// Create implements [Table].
func (k *KCL) Create(ctx context.Context, r Row) error {
	it := item{
		kclKey: text(r.Shard), kclCounter: number(0), kclSwitches: number(0),
		kclSequence: text(r.Position.Sequence), kclSub: number(int64(min(r.Position.Sub, 1<<62))),
	}
	if len(r.Parents) > 0 {
		it[kclParents] = texts(r.Parents)
	}
	if written(r.Range) {
		it[kclFrom], it[kclTo] = text(r.Range.From), text(r.Range.To)
	}
	return k.t.put(ctx, it)
}

// written reports whether hash keys are kept. Those of a shard with a single key are not: a worker
// of the library that reads such a row takes no lease any more.
func written(keys HashRange) bool { return keys.known() && compareDecimal(keys.From, keys.To) < 0 }

// unhanded is the condition that no leader of 3.x is about to give the shard to somebody.
const unhanded = " AND attribute_not_exists(" + kclHandedFrom + ")"

func (k *KCL) update(ctx context.Context, shard, change, condition string, values item) (Row, error) {
	it, err := k.t.update(ctx, shard, change, condition, values)
	if err != nil {
		return Row{}, err
	}
	return k.row(it)
}

// Take implements [Table].
func (k *KCL) Take(ctx context.Context, seen Row, worker string) (Row, error) {
	after := seen
	after.take(worker)
	return k.update(ctx, seen.Shard, "SET leaseOwner = :me, leaseCounter = :next, ownerSwitchesSinceCheckpoint = :switches",
		"leaseCounter = :seen"+unhanded,
		item{":me": text(worker), ":next": number(seen.Counter + 1), ":seen": number(seen.Counter), ":switches": number(after.Switches)})
}

const stillHeld = "leaseCounter = :seen AND leaseOwner = :me" + unhanded

// Renew implements [Table].
func (k *KCL) Renew(ctx context.Context, held Row) (Row, error) {
	return k.update(ctx, held.Shard, "SET leaseCounter = :next", stillHeld,
		item{":me": text(held.Owner), ":next": number(held.Counter + 1), ":seen": number(held.Counter)})
}

// Save implements [Table].
func (k *KCL) Save(ctx context.Context, held Row, p Position, children []string) (Row, error) {
	change := "SET leaseCounter = :next, checkpoint = :sequence, checkpointSubSequenceNumber = :sub, ownerSwitchesSinceCheckpoint = :none"
	values := item{
		":me": text(held.Owner), ":next": number(held.Counter + 1), ":seen": number(held.Counter),
		":sequence": text(p.Sequence), ":sub": number(int64(min(p.Sub, 1<<62))), ":none": number(0),
	}
	if len(children) > 0 {
		change += ", childShardIds = :children"
		values[":children"] = texts(children)
	}
	change += " REMOVE pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState"
	return k.update(ctx, held.Shard, change, stillHeld, values)
}

// Release implements [Table].
func (k *KCL) Release(ctx context.Context, held Row) error {
	_, err := k.t.update(ctx, held.Shard, "SET leaseCounter = leaseCounter + :one REMOVE leaseOwner", "leaseOwner = :me",
		item{":me": text(held.Owner), ":one": number(1)})
	return err
}

// Describe implements [Table].
func (k *KCL) Describe(ctx context.Context, shard string, children []string, keys HashRange) error {
	var set []string
	values := item{}
	if len(children) > 0 {
		set = append(set, "childShardIds = :children")
		values[":children"] = texts(children)
	}
	if written(keys) {
		set = append(set, "startingHashKey = :from", "endingHashKey = :to")
		values[":from"], values[":to"] = text(keys.From), text(keys.To)
	}
	if len(set) == 0 {
		return nil
	}
	_, err := k.t.update(ctx, shard, "SET "+strings.Join(set, ", "), "attribute_exists(leaseKey)", values)
	if errors.Is(err, ErrMoved) {
		return nil
	}
	return err
}

// Delete implements [Table].
func (k *KCL) Delete(ctx context.Context, r Row) error {
	return k.t.remove(ctx, r.Shard, "checkpoint = :end", item{":end": text(End.Sequence)})
}

// versionOf is the version that an item of a migration says, without its prefix.
func versionOf(it item) string {
	v, _ := textOf(it, kclVersion)
	return strings.TrimPrefix(v, "CLIENT_VERSION_")
}

// led says that a leader of 3.x gives the shards to workers.
func led(version string) bool { return version == "3X" || version == "3X_WITH_ROLLBACK" }

// askEvery is how often it is looked up whether 3.x is in charge.
const askEvery = time.Minute

// Watch implements [Table]: it refuses to work beside live workers of 3.x.
func (k *KCL) Watch(ctx context.Context, rows Rows) error {
	k.mu.Lock()
	due := k.asked.IsZero() || time.Since(k.asked) >= askEvery
	k.mu.Unlock()
	if due {
		version, err := k.ask(ctx)
		if err != nil {
			return fmt.Errorf("%w: %w", errNotYet, err)
		}
		k.mu.Lock()
		k.version, k.asked = version, time.Now()
		k.mu.Unlock()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.skipped > 0 && len(rows.Rows) == 0 {
		return fault.New(fault.Setup, fmt.Errorf("%s is of an application of the Kinesis Client Library that reads several streams (%d items have a %s): name a table of your own", k, k.skipped, kclStream))
	}
	now := time.Now()
	if k.first.IsZero() {
		k.first = now
	}
	before := k.last
	k.last = make(map[string]Row, len(rows.Rows))
	moved := ""
	for _, r := range rows.Rows {
		if r.HandedFrom != "" {
			return k.refuse("a leader hands shard "+r.Shard+" from "+r.HandedFrom+" to "+r.Owner, r.HandedFrom)
		}
		k.last[r.Shard] = r
		if was, ok := before[r.Shard]; ok && r.Owner != "" && !isOurs(r.Owner) && was.Owner == r.Owner && was.Counter != r.Counter {
			moved = r.Owner
		}
	}
	version := cmp.Or(k.inTable, k.version)
	switch {
	case !led(version):
		return nil
	case moved != "":
		return k.refuse("its coordinator state is "+version, moved)
	case now.Sub(k.first) < k.quiet:
		return fmt.Errorf("%s was led by the Kinesis Client Library 3.x (its state is %s): watching for %s whether its workers are alive: %w", k, version, k.quiet, errNotYet)
	}
	return nil
}

func (k *KCL) refuse(why, worker string) error {
	return fault.New(fault.Setup, fmt.Errorf("%s is in use by the Kinesis Client Library 3.x: %s, and its worker %s is alive; it gives no shard to others and takes what they hold. Stop all its workers, or have them run as CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X, or use another table", k, why, worker))
}

// ask reads the coordinator state of 3.x, which is in a table of its own.
func (k *KCL) ask(ctx context.Context) (string, error) {
	state := table{client: k.t.client, name: k.t.name + "-CoordinatorState", key: "key", fault: k.t.fault}
	it, err := state.get(ctx, kclMigrationKey)
	switch {
	case missingTable(err):
		return "", nil
	case err != nil && fault.Of(err) == fault.Setup:
		return "", nil // not allowed to see it: what its workers do to the leases is seen
	case err != nil:
		return "", err
	}
	return versionOf(it), nil
}
