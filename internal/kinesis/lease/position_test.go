package lease

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func record(t *testing.T, sequence string, sub uint64) Position {
	t.Helper()
	p, err := At(sequence, sub)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOrderOfPositions(t *testing.T) {
	t.Parallel()
	long := "49" + strings.Repeat("0", 54)
	order := []Position{
		{}, AtTimestamp, TrimHorizon, Latest, record(t, "0", 0), record(t, "9", 5), record(t, "10", 0), record(t, "10", 1),
		record(t, "010", 2), record(t, long, 0), record(t, long+"0", 0), End,
	}
	for i, a := range order {
		for j, b := range order {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := a.Compare(b); got != want {
				t.Errorf("%s compared with %s is %d, want %d", a, b, got, want)
			}
		}
	}
	if record(t, "0007", 0).Compare(record(t, "7", 0)) != 0 {
		t.Error("zeros in front change a number")
	}
}

func TestTextsThatAreNoPosition(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "latest", "SHARD_ENDED", "-1", "1.5", "12 ", "0x10", strings.Repeat("9", 200), "１２"} {
		if p, err := parsePosition(s, 0); err == nil {
			t.Errorf("%q was read as %s", s, p)
		}
	}
	for _, p := range []Position{AtTimestamp, TrimHorizon, Latest, End, record(t, "496", 7)} {
		got, err := parsePosition(p.Sequence, p.Sub)
		if err != nil || got != p {
			t.Errorf("%s was read back as %s (%v)", p, got, err)
		}
	}
	if _, err := At("TRIM_HORIZON", 0); err == nil {
		t.Error("a sentinel became a record")
	}
}

// FuzzPosition: what is in a table never panics, and what is understood is written as it was read.
func FuzzPosition(f *testing.F) {
	for _, s := range []string{"", "LATEST", "SHARD_END", "0", "000", "49612", "x"} {
		f.Add(s, uint64(3))
	}
	f.Fuzz(func(t *testing.T, s string, sub uint64) {
		p, err := parsePosition(s, sub)
		if err != nil {
			return
		}
		if again := p; p.Sequence != s || p.Compare(again) != 0 {
			t.Errorf("%q became %+v", s, p)
		}
	})
}

func TestListsThatDoNotCover(t *testing.T) {
	t.Parallel()
	r := newRiver(4)
	whole := r.list()
	if err := covers(whole); err != nil {
		t.Error(err)
	}
	r.split(whole[1].ID)
	r.merge(whole[2].ID, whole[3].ID)
	if err := covers(r.list()); err != nil {
		t.Error(err)
	}
	for name, list := range map[string][]Shard{
		"empty": nil, "a hole": append(append([]Shard{}, whole[:1]...), whole[2:]...), "no first": whole[1:], "no last": whole[:3],
		"parent and child open": append(append([]Shard{}, whole...), Shard{ID: "c", Parents: []string{whole[0].ID}, Range: whole[0].Range}),
		"no keys":               {{ID: "a"}},
	} {
		if err := covers(list); err == nil {
			t.Errorf("%s: taken for whole", name)
		}
	}
}

// shardsOf reads "4 8<6+7 9<5": a shard, and what it came from; an exclamation mark makes it open.
func shardsOf(text string) []Shard {
	var list []Shard
	for word := range strings.FieldsSeq(text) {
		s := Shard{Closed: !strings.Contains(word, "!")}
		id, parents, _ := strings.Cut(strings.ReplaceAll(word, "!", ""), "<")
		s.ID = id
		if parents != "" {
			s.Parents = strings.Split(parents, "+")
		}
		s.First = strings.Repeat("0", 3-len(id)) + id
		list = append(list, s)
	}
	return list
}

func rowsOf(text string) Rows {
	var rows Rows
	for word := range strings.FieldsSeq(text) {
		id, at, _ := strings.Cut(word, "=")
		p := Position{Sequence: at}
		if at == "" {
			p = Position{Sequence: "7"}
		}
		rows.Rows = append(rows.Rows, Row{Shard: id, Position: p})
	}
	return rows
}

func TestMissingRows(t *testing.T) {
	t.Parallel()
	const family = "0 1 2 3 4! 5 6<0+1 7<2+3 8!<6+7 9!<5 10!<5"
	for _, row := range []struct{ name, shards, rows, start, want string }{
		{"the library's example, LATEST", family, "4 5 7", "LATEST", "6=LATEST"},
		{"the library's example, TRIM_HORIZON", family, "4 5 7", "TRIM_HORIZON", "0=TRIM_HORIZON 1=TRIM_HORIZON"},
		{"empty, LATEST", family, "", "LATEST", "4=LATEST 8=LATEST 9=LATEST 10=LATEST"},
		{"empty, TRIM_HORIZON", family, "", "TRIM_HORIZON", "0=TRIM_HORIZON 1=TRIM_HORIZON 2=TRIM_HORIZON 3=TRIM_HORIZON 4=TRIM_HORIZON 5=TRIM_HORIZON"},
		{"all there", "0! 1!", "0 1", "LATEST", ""},
		{"one more open shard", "0! 1!", "0", "LATEST", "1=LATEST"},
		{"child of one that is read", "0 1!<0 2!<0", "0", "LATEST", ""},
		{"children of one that has ended (K1, K2)", "0 1!<0 2!<0", "0=SHARD_END", "LATEST", "1=TRIM_HORIZON 2=TRIM_HORIZON"},
		{"one child of one that has ended", "0 1!<0 2!<0", "0=SHARD_END 2", "LATEST", "1=TRIM_HORIZON"},
		{"merge of which one parent has ended", "0 1 2!<0+1", "0=SHARD_END 1", "TRIM_HORIZON", "2=TRIM_HORIZON"},
		{"merge of which one parent waits for its row", "0 1 2<1 3!<0+2", "0=SHARD_END 1", "TRIM_HORIZON", ""},
		{"merge of which one parent has no row at all", "0 1 2!<0+1", "0=SHARD_END", "LATEST", "1=LATEST"},
		{"parent's row deleted by hand (K8)", "0 1!<0 2!<0", "1 2", "TRIM_HORIZON", ""},
		{"parent not listed any more", "1!<0 2!<0", "", "TRIM_HORIZON", "1=TRIM_HORIZON 2=TRIM_HORIZON"},
		{"one parent of a merge not listed any more", "1 2!<0+1", "", "TRIM_HORIZON", "1=TRIM_HORIZON"},
		{"a closed chain nobody has read", "0 1<0 2!<1", "", "TRIM_HORIZON", "0=TRIM_HORIZON"},
		{"a list in circles", "0<1 1<0 2!<1", "", "TRIM_HORIZON", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			start := Start{Position: Position{Sequence: row.start}}
			got := missing(shardsOf(row.shards), rowsOf(row.rows), start, nil)
			var text []string
			for _, r := range got {
				text = append(text, r.Shard+"="+r.Position.Sequence)
			}
			if row.name == "a list in circles" {
				return // whatever it is, it came to an end
			}
			if diff := cmp.Diff(row.want, strings.Join(text, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMissingRowsSince(t *testing.T) {
	t.Parallel()
	// 0 was closed before the time, 1 after it.
	shards := shardsOf("0 1<0 2!<1 3!<1")
	start := Start{Position: AtTimestamp}
	got := missing(shards, Rows{}, start, shardsOf("1<0 2!<1 3!<1"))
	if len(got) != 1 || got[0].Shard != "1" || got[0].Position != AtTimestamp {
		t.Errorf("rows are made for %+v, want 1 at AT_TIMESTAMP", got)
	}
	// A service that does not filter lists them all.
	if got := missing(shards, Rows{}, start, shards); len(got) != 1 || got[0].Shard != "0" {
		t.Errorf("rows are made for %+v, want 0", got)
	}
	broken := Rows{Broken: []Broken{{Shard: "1"}}}
	if got := missing(shards, broken, start, shards); len(got) != 0 {
		t.Errorf("a row that is broken is made once more: %+v", got)
	}
}

func TestDeletable(t *testing.T) {
	t.Parallel()
	gone := map[string]bool{"gone": true}
	for _, row := range []struct{ name, shards, rows, want string }{
		{"children are read", "0 1!<0 2!<0", "0=SHARD_END 1 2=SHARD_END", "0"},
		{"a child has not begun", "0 1!<0 2!<0", "0=SHARD_END 1 2=TRIM_HORIZON", ""},
		{"a child waits at a time", "0 1!<0 2!<0", "0=SHARD_END 1 2=AT_TIMESTAMP", ""},
		{"a child without a row", "0 1!<0 2!<0", "0=SHARD_END 1", ""},
		{"not ended", "0 1!<0 2!<0", "0 1 2", ""},
		{"no children listed", "0", "0=SHARD_END", ""},
		{"not listed, ended", "1!", "gone=SHARD_END 1", "gone"},
		{"not listed, not ended", "1!", "gone 1", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var ids []string
			for _, r := range deletable(shardsOf(row.shards), rowsOf(row.rows), gone) {
				ids = append(ids, r.Shard)
			}
			if got := strings.Join(ids, " "); got != row.want {
				t.Errorf("deletes %q, want %q", got, row.want)
			}
		})
	}
	// Not while its parent has a row: the child of that would be taken for one that is missing.
	rows := rowsOf("0=SHARD_END 1=SHARD_END 2")
	rows.Rows[1].Parents = []string{"0"}
	if got := deletable(shardsOf("0 1<0 2!<1"), rows, nil); len(got) != 1 || got[0].Shard != "0" {
		t.Errorf("deletes %+v, want the oldest only", got)
	}
}
