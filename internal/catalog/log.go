package catalog

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/weirdata/weir/internal/blob"
	"github.com/weirdata/weir/internal/fault"
)

// plan is _weir/plans/NUMBER.json: what a landing is about to create.
type plan struct {
	Number uint64   `json:"plan"`
	Writer string   `json:"writer"`
	Files  []string `json:"files"` // relative to the dataset
}

// outcome is the first line of _weir/commits/NUMBER.rec: what became of a plan. The ids of
// what has landed follow it.
type outcome struct {
	Number uint64   `json:"plan"`
	Writer string   `json:"writer"`
	Files  []string `json:"files,omitempty"` // of the plan, that belong to the dataset by it
	Lanes  []reach  `json:"lanes,omitempty"` // how far what has landed goes in each
	IDs    int      `json:"ids,omitempty"`
	Sum    string   `json:"sum"` // SHA-256 of the ids
}

// without is the files of the plan that do not belong to the dataset by the outcome.
func (p plan) without(o outcome) []string {
	return slices.DeleteFunc(slices.Clone(p.Files), func(f string) bool { return slices.Contains(o.Files, f) })
}

func planName(n uint64) string   { return fmt.Sprintf("%s/%012d.json", plans, n) }
func commitName(n uint64) string { return fmt.Sprintf("%s/%012d%s", commits, n, recSuffix) }

// numberOf is the number in the name of a plan or a commit.
func numberOf(name, suffix string) (uint64, bool) {
	digits, ok := strings.CutSuffix(base(name), suffix)
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, ok && err == nil
}

func (o outcome) encode(ids []ID) []byte {
	body := make([]byte, 0, len(ids)*len(ID{}))
	for i := range ids {
		body = append(body, ids[i][:]...)
	}
	sum := sha256.Sum256(body)
	o.IDs, o.Sum = len(ids), hex.EncodeToString(sum[:])
	head, err := json.Marshal(o)
	if err != nil {
		panic(fmt.Sprintf("a commit has a JSON form: %v", err))
	}
	return append(append(head, '\n'), body...)
}

// readOutcome reads a commit, with its ids when they are asked for.
func readOutcome(ctx context.Context, b blob.Bucket, where string, n uint64, withIDs bool) (o outcome, ids []ID, err error) {
	name := commitName(n)
	f, err := b.Open(ctx, name, 0, -1)
	if err != nil {
		return o, nil, err
	}
	defer func() { _ = f.Close() }() // only read
	damaged := func(why any) (outcome, []ID, error) {
		return o, nil, fault.New(fault.Setup, fmt.Errorf("read %s: %v; restore the file: it says which files belong to the dataset", at(where, name), why))
	}
	text := bufio.NewReader(f)
	head, err := text.ReadBytes('\n')
	if err != nil {
		if errors.Is(err, io.EOF) {
			return damaged("it ends within its first line")
		}
		return o, nil, fmt.Errorf("read %s: %w", at(where, name), err)
	}
	if err := json.Unmarshal(head, &o); err != nil {
		return damaged(err)
	}
	if o.Number != n {
		return damaged(fmt.Sprintf("it is of plan %d", o.Number))
	}
	if !withIDs {
		return o, nil, nil
	}
	body, err := io.ReadAll(text)
	if err != nil {
		return o, nil, fmt.Errorf("read %s: %w", at(where, name), err)
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != o.Sum || len(body) != o.IDs*len(ID{}) {
		return damaged("the ids are damaged")
	}
	ids = make([]ID, o.IDs)
	for i := range ids {
		copy(ids[i][:], body[i*len(ID{}):])
	}
	return o, ids, nil
}

// readPlan reads a plan.
func readPlan(ctx context.Context, b blob.Bucket, where string, n uint64) (p plan, err error) {
	text, _, err := b.Get(ctx, planName(n))
	if err != nil {
		return p, err
	}
	if err = json.Unmarshal(text, &p); err == nil && p.Number != n {
		err = fmt.Errorf("it is plan %d", p.Number)
	}
	if err != nil {
		err = fault.New(fault.Setup, fmt.Errorf("read %s: %w; restore the file: it says which files may be there that do not belong to the dataset", at(where, planName(n)), err))
	}
	return p, err
}

// numbers are those of the objects in a folder of the log, in order, from the given one on.
func numbers(ctx context.Context, b blob.Bucket, folder, suffix string, from uint64) (ns []uint64, err error) {
	q := within(folder)
	if from > 0 {
		q.After = fmt.Sprintf("%s/%012d", folder, from-1) + "~" // behind every suffix of the number before
	}
	for e, err := range objects(ctx, b, q) {
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", folder, err)
		}
		if n, ok := numberOf(e.Name, suffix); ok {
			ns = append(ns, n)
		}
	}
	slices.Sort(ns)
	return ns, nil
}

// unsettledFiles are the files that may be there and do not belong to the dataset: those of
// plans that are not committed, and what was dropped of others.
func unsettledFiles(ctx context.Context, b blob.Bucket, where string) (map[string]bool, error) {
	ns, err := numbers(ctx, b, plans, ".json", 0)
	if err != nil || len(ns) == 0 {
		return nil, err
	}
	out := map[string]bool{}
	for _, n := range ns {
		p, err := readPlan(ctx, b, where, n)
		if errors.Is(err, blob.ErrNotFound) {
			continue // it is settled meanwhile
		}
		if err != nil {
			return nil, err
		}
		o, _, err := readOutcome(ctx, b, where, n, false)
		if err != nil && !errors.Is(err, blob.ErrNotFound) {
			return nil, err
		}
		for _, name := range p.without(o) {
			out[name] = true
		}
	}
	return out, nil
}

// journal is the log of a dataset that is open for writing.
type journal struct {
	writer string // an id of this opening
	fenced bool   // a lock keeps other writers away

	settling chan struct{} // holds one element while nobody settles what is open

	mu       sync.Mutex
	next     uint64                // the number of the next plan
	lost     error                 // another writer has the dataset
	doubtful []*Landing            // whose outcome nobody knows
	left     map[string]bool       // files that may be there and do not belong to the dataset, or not yet
	dirty    map[uint64][]string   // those that are to be removed, by their plan
	done     []uint64              // plans that are settled and not removed
	kept     []keptCommit          // in the order in which they were made
	landed   past                  // ids of what has landed
	lanes    lanes                 // how far it goes, with what is held
	limit    int                   // ids that are kept
	held     map[*Reservation]bool // of writes in progress
}

// keptCommit is a commit that is in the log.
type keptCommit struct {
	number uint64
	ids    int
	free   bool // its plan is removed: so may it be
}

// tidyAfter is how many settled plans are removed together.
const tidyAfter = 64

func newJournal(limit int, fenced bool) *journal {
	j := &journal{
		writer: rand.Text(), fenced: fenced, settling: make(chan struct{}, 1), left: map[string]bool{}, dirty: map[uint64][]string{},
		limit: limit, landed: past{seen: Seen{half: max(limit/2, 1)}, most: max(limit, 1)}, lanes: lanes{last: map[laneKey]Place{}}, held: map[*Reservation]bool{},
	}
	j.settling <- struct{}{}
	return j
}

// ErrTaken says that another writer has begun to write to the dataset.
var ErrTaken = errors.New("another process has begun to write to it")

// recover reads the log, and undoes what was planned and not committed: whoever was at it
// cannot commit it any more, and its source delivers the events again.
func (d *Dataset) recover(ctx context.Context) error {
	j := d.log
	open := map[uint64]bool{}
	planned, err := numbers(ctx, d.bucket, plans, ".json", 0)
	if err != nil {
		return err
	}
	for _, n := range planned {
		p, err := readPlan(ctx, d.bucket, d.path, n)
		if errors.Is(err, blob.ErrNotFound) {
			continue
		}
		dropped := 0
		if err == nil {
			dropped, err = d.undo(ctx, p)
		}
		if err != nil {
			return fmt.Errorf("settle plan %d: %w", n, err)
		}
		open[n] = true
		j.next = max(j.next, n)
		// A writer that no lock has ended may create files that were dropped later than they
		// were removed: as long as the plan is there, readers pass over them, and each
		// opening removes them.
		if j.fenced || dropped == 0 {
			j.done = append(j.done, n)
		}
	}
	committed, err := numbers(ctx, d.bucket, commits, recSuffix, 0)
	if err != nil {
		return err
	}
	var landed [][]ID // the newest first
	left := j.landed.most
	for _, n := range slices.Backward(committed) {
		j.next = max(j.next, n)
		o, ids, err := readOutcome(ctx, d.bucket, d.path, n, left > 0)
		if errors.Is(err, blob.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		landed, left = append(landed, ids), left-len(ids)
		for _, r := range o.Lanes {
			j.lanes.note(r)
		}
		j.kept = append(j.kept, keptCommit{number: n, ids: o.IDs, free: !open[n]})
	}
	slices.Reverse(j.kept)
	for _, ids := range slices.Backward(landed) {
		j.landed.add(ids)
	}
	j.next++
	return nil
}

// undo makes sure that the plan has an outcome, which is that nothing has landed unless it
// is committed, and removes those of its files that do not belong to the dataset.
func (d *Dataset) undo(ctx context.Context, p plan) (dropped int, err error) {
	o := outcome{Number: p.Number, Writer: d.log.writer}
	err = blob.Ensure(ctx, d.bucket, commitName(p.Number), o.encode(nil))
	if errors.Is(err, blob.ErrExists) {
		o, _, err = readOutcome(ctx, d.bucket, d.path, p.Number, false)
	}
	if err != nil {
		return 0, err
	}
	files := p.without(o)
	return len(files), d.drop(ctx, files)
}

// drop removes data files and their records.
func (d *Dataset) drop(ctx context.Context, files []string) error {
	if len(files) == 0 {
		return nil
	}
	names := slices.Clone(files)
	for _, f := range files {
		names = append(names, recordName(folderOf(f), strings.TrimSuffix(base(f), suffix)))
	}
	return d.bucket.Delete(ctx, names...)
}

// tidy removes plans that are settled, and commits that nobody asks for any more. What
// cannot be removed now is tried again: nothing depends on it.
func (d *Dataset) tidy(ctx context.Context) {
	j := d.log
	j.mu.Lock()
	done := j.done
	if len(done) < tidyAfter {
		j.mu.Unlock()
		return
	}
	j.done = nil
	j.mu.Unlock()
	names := make([]string, len(done))
	for i, n := range done {
		names[i] = planName(n)
	}
	if d.bucket.Delete(ctx, names...) != nil {
		j.mu.Lock()
		j.done = append(j.done, done...)
		j.mu.Unlock()
		return
	}
	if old := j.old(done); len(old) > 0 {
		_ = d.bucket.Delete(ctx, old...) // those that stay are found, and removed, after the next opening
	}
}

// old takes out of the log the commits whose ids are beyond what is kept, given the plans
// that were removed just now. The newest number always stays: the next one follows from it.
func (j *journal) old(gone []uint64) (names []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	after, newest := 0, uint64(0)
	for i := range j.kept {
		k := &j.kept[i]
		k.free = k.free || slices.Contains(gone, k.number)
		after += k.ids
		newest = max(newest, k.number)
	}
	for len(j.kept) > 0 {
		k := j.kept[0]
		if after -= k.ids; after < j.limit || !k.free || k.number == newest {
			break
		}
		names = append(names, commitName(k.number))
		j.kept = j.kept[1:]
	}
	return names
}
