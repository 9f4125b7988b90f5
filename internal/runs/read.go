package runs

import (
	"fmt"
	"time"

	"github.com/weirdata/weir/internal/queue"
	"github.com/weirdata/weir/internal/wire"
)

// errForm is the error of a value that is no such thing.
func errForm(key []byte) error {
	return fmt.Errorf("the record %q of the status of a job run: %w", key, queue.ErrCorrupt)
}

// begin reads the number of the form.
func begin(rec queue.Record) (*wire.Reader, error) {
	r := &wire.Reader{Rest: rec.Value}
	if f := r.Byte(); f > form {
		return nil, fmt.Errorf("the record %q of the status of a job run has the form %d, and this program knows 1: %w", rec.Key, f, queue.ErrVersion)
	} else if f != form {
		return nil, errForm(rec.Key)
	}
	return r, nil
}

func readRow(r *wire.Reader) row {
	return row{task: r.Text(), source: r.Text(), destination: r.Text()}
}

func readCounts(r *wire.Reader) Counts {
	return Counts{In: r.Varint(), Out: r.Varint(), Failed: r.Varint()}
}

// change is what one transaction has changed of a run.
type change struct {
	run  string
	at   time.Time
	rows map[row]Counts
}

func readChange(rec queue.Record) (c change, err error) {
	r, err := begin(rec)
	if err != nil {
		return c, err
	}
	c.run, c.at, c.rows = r.Text(), time.Unix(r.Varint(), 0), map[row]Counts{}
	for n := r.Uvarint(); n > 0 && !r.Bad; n-- {
		of := readRow(r)
		c.rows[of] = readCounts(r)
	}
	if r.Bad || len(r.Rest) > 0 {
		return c, errForm(rec.Key)
	}
	return c, nil
}

func readSum(rec queue.Record) (of row, c Counts, err error) {
	r, err := begin(rec)
	if err != nil {
		return of, c, err
	}
	of = readRow(r)
	c = readCounts(r)
	if r.Bad || len(r.Rest) > 0 {
		return of, c, errForm(rec.Key)
	}
	return of, c, nil
}

// readKnown is the name of a run, and when something of it changed last.
func readKnown(rec queue.Record) (run string, at time.Time, err error) {
	r, err := begin(rec)
	if err != nil {
		return "", at, err
	}
	run, at = r.Text(), time.Unix(r.Varint(), 0)
	if r.Bad || len(r.Rest) > 0 {
		return "", at, errForm(rec.Key)
	}
	return run, at, nil
}

func readRecord(rec queue.Record) (of row, id string, code int, err error) {
	r, err := begin(rec)
	if err != nil {
		return of, "", 0, err
	}
	of = readRow(r)
	code = int(r.Varint())
	id = r.Text()
	if r.Bad || len(r.Rest) > 0 {
		return of, "", 0, errForm(rec.Key)
	}
	return of, id, code, nil
}
