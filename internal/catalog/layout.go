package catalog

import (
	"fmt"
	"strings"
	"time"
)

// Unit is one level of the partition folders.
type Unit string

// The units. Times are in UTC.
const (
	Year  Unit = "year"
	Month Unit = "month"
	Day   Unit = "day"
	Hour  Unit = "hour"
)

// Units are all units, from the longest.
func Units() []Unit { return []Unit{Year, Month, Day, Hour} }

// Layout is the levels of partition folders, the first of [Units]; none puts all files into
// the dataset's own folder.
type Layout []Unit

// Partition is the folder, relative to the dataset, for an event of the given time.
func (l Layout) Partition(t time.Time) string {
	t = t.UTC()
	var b strings.Builder
	for i, u := range l {
		if i > 0 {
			b.WriteByte('/')
		}
		switch u {
		case Year:
			fmt.Fprintf(&b, "year=%04d", t.Year())
		case Month:
			fmt.Fprintf(&b, "month=%02d", t.Month())
		case Day:
			fmt.Fprintf(&b, "day=%02d", t.Day())
		case Hour:
			fmt.Fprintf(&b, "hour=%02d", t.Hour())
		}
	}
	return b.String()
}

// Bucket numbers the partition of t: times have one bucket exactly if they have one folder.
func (l Layout) Bucket(t time.Time) int64 {
	if len(l) == 0 {
		return 0
	}
	if l[len(l)-1] == Hour {
		s := t.Unix()
		return (s - ((s%3600)+3600)%3600) / 3600
	}
	y, m, d := t.UTC().Date()
	switch l[len(l)-1] {
	case Year:
		m, d = 0, 0
	case Month:
		d = 0
	}
	return int64(y)<<16 | int64(m)<<8 | int64(d)
}
