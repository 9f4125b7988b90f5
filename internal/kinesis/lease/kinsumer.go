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
)

// Kinsumer is the tables that a Snowbridge keeps in DynamoDB, taken over as they are: the rows of
// <name>_checkpoints, one for each shard, are read and written in its columns and types, so that
// it can go on with them when it comes back. Nothing else is kept in them, since it writes rows
// whole.
//
//	Shard                     S
//	SequenceNumber            S   NULL, "" or not there: none
//	LastUpdate                N   nanoseconds since 1970; what others call a counter
//	LastUpdateRFC             S
//	OwnerID, OwnerName        S   NULL or not there: nobody
//	Finished, FinishedRFC     N,S NULL or not there: the shard has not ended
//
// <name>_clients has a row for each running Snowbridge, with a LastUpdate that it writes often.
// While one is younger than stale, nothing is taken: a Snowbridge gives each of its clients its
// shards by their place in a list, which only another Snowbridge can share. Positions have no place
// within a record, and rows are never deleted.
type Kinsumer struct {
	t, clients table
	name       string
	stale      time.Duration

	mu   sync.Mutex
	seen map[string]beat
}

// beat is what was last seen of a client.
type beat struct {
	update int64
	since  time.Time // when this update was first seen
	writes bool      // another update was seen before it
}

// KinsumerOptions are what [NewKinsumer] needs.
type KinsumerOptions struct {
	// Name is the application's, with which the names of the tables begin.
	Name string
	// Client is written beside the name of the worker, for people.
	Client string
	// Stale is the age from which a client of a Snowbridge is taken for dead: six times its
	// shard_check_freq_seconds; 0 means 60 s.
	Stale time.Duration
	// Fault gives errors of DynamoDB their meaning; nil wraps them.
	Fault Fault
}

// HasKinsumer reports whether there are tables of a Snowbridge for an application.
func HasKinsumer(ctx context.Context, client DynamoDB, o KinsumerOptions) (bool, error) {
	k := NewKinsumer(client, o)
	err := k.t.open(ctx, false)
	if missingTable(err) {
		return false, nil
	}
	return err == nil, err
}

// NewKinsumer returns the tables of an application, which exist. It touches no network.
func NewKinsumer(client DynamoDB, o KinsumerOptions) *Kinsumer {
	if o.Fault == nil {
		o.Fault = plainFault
	}
	return &Kinsumer{
		t:       table{client: client, name: o.Name + "_checkpoints", key: "Shard", fault: o.Fault},
		clients: table{client: client, name: o.Name + "_clients", key: "ID", fault: o.Fault},
		name:    o.Client, stale: cmp.Or(o.Stale, time.Minute), seen: map[string]beat{},
	}
}

func (k *Kinsumer) String() string { return "DynamoDB table " + k.t.name }

// SubSequences implements [Table].
func (k *Kinsumer) SubSequences() bool { return false }

// Open implements [Table].
func (k *Kinsumer) Open(ctx context.Context) error { return k.t.open(ctx, false) }

// Watch implements [Table]: it takes nothing while a Snowbridge runs.
func (k *Kinsumer) Watch(ctx context.Context, _ Rows) error {
	live, err := k.live(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errNotYet, err)
	case len(live) > 0:
		return fmt.Errorf("a Snowbridge still runs on the tables of %s: its clients are %s; stop them, their shards are taken %s after their last sign of life: %w",
			strings.TrimSuffix(k.t.name, "_checkpoints"), strings.Join(live, ", "), k.stale, errNotYet)
	}
	return nil
}

// live is the clients that were heard of lately: by the clock, or by having been seen to write.
func (k *Kinsumer) live(ctx context.Context) ([]string, error) {
	var live []string
	now := time.Now()
	seen := map[string]beat{}
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.clients.scan(ctx, true, func(it item) {
		id, _ := textOf(it, "ID")
		name, _ := textOf(it, "Name")
		update, _, err := numberOf(it, "LastUpdate")
		if err != nil || id == "" {
			return
		}
		b, ok := k.seen[id]
		if !ok || b.update != update {
			b = beat{update: update, since: now, writes: ok}
		}
		seen[id] = b
		young := update > now.Add(-k.stale).UnixNano()
		if now.Sub(b.since) < k.stale && (young || b.writes) {
			live = append(live, fmt.Sprintf("%s (%s)", name, id))
		}
	})
	if missingTable(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	k.seen = seen
	slices.Sort(live)
	return live, nil
}

func (k *Kinsumer) decode(it item) (Row, error) {
	var errs []error
	str := func(column string) string {
		s, err := textOf(it, column)
		errs = append(errs, err)
		return s
	}
	r := Row{Shard: str("Shard"), Owner: str("OwnerID")}
	update, _, err := numberOf(it, "LastUpdate")
	errs = append(errs, err)
	r.Counter = update
	if s := str("SequenceNumber"); s != "" {
		p, err := parsePosition(s, 0)
		if err != nil {
			errs = append(errs, fmt.Errorf("SequenceNumber: %w", err))
		}
		r.Position = p
	}
	if _, finished, err := numberOf(it, "Finished"); err != nil {
		errs = append(errs, err)
	} else if finished {
		r.Unread, r.Position = r.Position.IsZero(), End
	}
	return r, errors.Join(errs...)
}

// Scan implements [Table].
func (k *Kinsumer) Scan(ctx context.Context, latest bool) (Rows, error) {
	var rows Rows
	err := k.t.scan(ctx, latest, func(it item) {
		r, err := k.decode(it)
		if err != nil {
			rows.Broken = append(rows.Broken, Broken{Shard: r.Shard, Err: err})
			return
		}
		rows.Rows = append(rows.Rows, r)
	})
	return rows, err
}

// Get implements [Table].
func (k *Kinsumer) Get(ctx context.Context, shard string) (Row, error) {
	it, err := k.t.get(ctx, shard)
	switch {
	case err != nil:
		return Row{}, err
	case it == nil:
		return Row{}, errNoRow
	}
	return k.decode(it)
}

// stamp is the columns that everything writes: later than seen, whatever the clock says.
func stamp(values item, seen int64) item {
	now := time.Now()
	values[":next"] = number(max(now.UnixNano(), seen+1))
	values[":rfc"] = text(now.UTC().Format(time.RFC1123Z))
	return values
}

const stamped = "SET LastUpdate = :next, LastUpdateRFC = :rfc"

// Create implements [Table]. A position that is no record's has no place in a row: it is found by
// what the shard follows, and by the settings.
func (k *Kinsumer) Create(ctx context.Context, r Row) error {
	now := time.Now()
	return k.t.put(ctx, item{"Shard": text(r.Shard), "LastUpdate": number(now.UnixNano()), "LastUpdateRFC": text(now.UTC().Format(time.RFC1123Z))})
}

func (k *Kinsumer) update(ctx context.Context, shard, change, condition string, values item) (Row, error) {
	it, err := k.t.update(ctx, shard, change, condition, values)
	if err != nil {
		return Row{}, err
	}
	return k.decode(it)
}

// Take implements [Table]. From a Snowbridge a shard is taken as another Snowbridge would: when its
// last update is old.
func (k *Kinsumer) Take(ctx context.Context, seen Row, worker string) (Row, error) {
	values := stamp(item{":me": text(worker), ":name": text(cmp.Or(k.name, worker))}, seen.Counter)
	condition := "LastUpdate = :seen"
	if seen.Counter == 0 {
		condition = "(attribute_not_exists(LastUpdate) OR LastUpdate = :seen)"
	}
	values[":seen"] = number(seen.Counter)
	if seen.Owner == "" {
		condition += " AND (attribute_not_exists(OwnerID) OR attribute_type(OwnerID, :null) OR OwnerID = :nobody)"
		values[":null"], values[":nobody"] = text("NULL"), text("")
	} else {
		condition += " AND OwnerID = :owner"
		values[":owner"] = text(seen.Owner)
		if !isOurs(seen.Owner) {
			condition += " AND LastUpdate <= :old"
			values[":old"] = number(time.Now().Add(-k.stale).UnixNano())
		}
	}
	return k.update(ctx, seen.Shard, stamped+", OwnerID = :me, OwnerName = :name", condition, values)
}

func (k *Kinsumer) held(ctx context.Context, held Row, more string, values item) (Row, error) {
	values = stamp(values, held.Counter)
	values[":me"], values[":seen"] = text(held.Owner), number(held.Counter)
	return k.update(ctx, held.Shard, stamped+more, "OwnerID = :me AND LastUpdate = :seen", values)
}

// Renew implements [Table].
func (k *Kinsumer) Renew(ctx context.Context, held Row) (Row, error) {
	return k.held(ctx, held, "", item{})
}

// Save implements [Table].
func (k *Kinsumer) Save(ctx context.Context, held Row, p Position, _ []string) (Row, error) {
	if p == End {
		return k.held(ctx, held, ", Finished = :next, FinishedRFC = :rfc", item{})
	}
	r, err := k.held(ctx, held, ", SequenceNumber = :sequence", item{":sequence": text(p.Sequence)})
	r.Position.Sub = p.Sub // for whoever compares with it while the shard is held
	return r, err
}

// Release implements [Table].
func (k *Kinsumer) Release(ctx context.Context, held Row) error {
	values := stamp(item{":me": text(held.Owner)}, held.Counter)
	_, err := k.t.update(ctx, held.Shard, stamped+" REMOVE OwnerID, OwnerName", "OwnerID = :me", values)
	return err
}

// Describe implements [Table]: there is no place for it.
func (k *Kinsumer) Describe(context.Context, string, []string, HashRange) error { return nil }

// Delete implements [Table]: rows stay.
func (k *Kinsumer) Delete(context.Context, Row) error { return nil }
