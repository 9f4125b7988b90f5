package stdin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/conntest"
	"github.com/weirdata/weir/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// on is a source on the given input.
func on(input io.Reader) *Source {
	return &Source{pump: &pump{input: input}, config: *Entry.Default().(*Config)}
}

func TestConformance(t *testing.T) { // not parallel: it looks for goroutines
	conntest.Examples(t, conntest.One(Entry), "../../..")
	conntest.Source(t, conntest.SourceCase{
		Setup: func(t *testing.T, payloads [][]byte) func() connector.Source {
			var in bytes.Buffer
			for _, p := range payloads {
				in.Write(p)
				in.WriteByte('\n')
			}
			p := &pump{input: &in}
			return func() connector.Source { return &Source{pump: p, config: *Entry.Default().(*Config)} }
		},
		Features: conntest.SourceFeatures{Ends: true, Ordered: true, Empty: true, Positions: true, Acknowledges: true, Remembers: true},
	})
}

func TestReadsStandardInput(t *testing.T) {
	t.Parallel()
	s, err := Entry.Build(t.Context(), connector.Deps{}, func(any) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if s.(*Source).pump != &standard || standard.input != os.Stdin {
		t.Error("the source does not read standard input")
	}
}

func TestBatchesAndLimits(t *testing.T) {
	t.Parallel()
	s := on(strings.NewReader("a\nb\nc\n\r\nd"))
	s.config.MaxBatchMessages = 2
	var got []string
	for {
		b, ack, err := s.Read(t.Context(), connector.Room{})
		if err == io.EOF {
			break
		}
		if err != nil || ack == nil {
			t.Fatal(err)
		}
		var ps []string
		for _, m := range b {
			ps = append(ps, string(m.Data))
		}
		got = append(got, strings.Join(ps, ","))
	}
	if s := fmt.Sprintf("%q", got); s != `["a,b" "c," "d"]` {
		t.Errorf("batches %s", s)
	}
}

func TestLineThatIsTooLong(t *testing.T) {
	t.Parallel()
	s := on(strings.NewReader("short\nfar too long\nshort\n"))
	s.config.MaxLineBytes = 5
	if b, _, err := s.Read(t.Context(), connector.Room{}); err != nil || len(b) != 1 {
		t.Fatalf("%d messages, %v", len(b), err)
	}
	_, _, err := s.Read(t.Context(), connector.Room{})
	want := "read standard input: line 2 has more than 5 bytes: line too long; raise max_line_bytes of the stdin source"
	if err == nil || err.Error() != want || fault.Of(err) != fault.Fatal {
		t.Errorf("error %v (%s), want %s", err, fault.Of(err), want)
	}
}

func TestInputThatFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("input/output error")
	_, _, err := on(io.MultiReader(strings.NewReader("half"), &failing{broken})).Read(t.Context(), connector.Room{})
	if !errors.Is(err, broken) || fault.Of(err) != fault.Fatal {
		t.Errorf("error %v (%s)", err, fault.Of(err))
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// A read that is given up loses nothing: the next one, of this source or of its successor,
// gets the lines.
func TestSuccessorGetsWhatWasReadAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		defer w.Close()
		old := on(r)
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if _, _, err := old.Read(ctx, connector.Room{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		go w.Write([]byte("late\n"))
		synctest.Wait()
		next := &Source{pump: old.pump, config: old.config}
		b, _, err := next.Read(t.Context(), connector.Room{})
		if err != nil || len(b) != 1 || string(b[0].Data) != "late" {
			t.Errorf("%v, %v", b, err)
		}
	})
}

// Two sources that wait at once, as in a reload: each line goes to one of them, and when
// one has left, the other gets everything.
func TestTwoSourcesShareTheInput(t *testing.T) {
	t.Parallel()
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			r, w := io.Pipe()
			old := on(r)
			next := &Source{pump: old.pump, config: old.config}
			leaving, leave := context.WithCancel(t.Context())
			var mu sync.Mutex
			seen := map[string]int{}
			var wg sync.WaitGroup
			for _, s := range []*Source{old, next} {
				ctx := t.Context()
				if s == old {
					ctx = leaving
				}
				wg.Go(func() {
					for {
						b, _, err := s.Read(ctx, connector.Room{})
						mu.Lock()
						for _, m := range b {
							seen[string(m.Data)]++
						}
						if s == old && len(seen) >= 5 {
							leave() // as it gets a line: nobody may wait for it any more
						}
						mu.Unlock()
						if err != nil {
							return
						}
					}
				})
			}
			for i := range 20 {
				synctest.Wait()
				fmt.Fprintf(w, "line %d\n", i)
			}
			w.Close()
			wg.Wait()
			leave()
			if len(seen) != 20 {
				t.Errorf("%d lines of 20 were read", len(seen))
			}
			for l, n := range seen {
				if n != 1 {
					t.Errorf("%s was read %d times", l, n)
				}
			}
		})
	}
}

// TestLessRoom: what was asked for when there was more room is handed over as there is room
// now, in its order, and the rest to whoever reads next.
func TestLessRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		s := on(r)
		next := &Source{pump: s.pump, config: s.config}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := s.Read(ctx, connector.Room{}); err == nil {
			t.Error("a read that was cancelled has no error")
		}
		results, _, _ := s.pump.ask(s.config, 1000, 1000)
		go func() { fmt.Fprint(w, "a\nbbbb\nc\nd\n"); w.Close() }()
		synctest.Wait()
		if len(results) != 1 {
			t.Fatal("no lines")
		}
		var got []string
		for i, room := range []connector.Room{{Messages: 1, Bytes: 9}, {Messages: 5, Bytes: 2}, {Messages: 1}, {Messages: 1, Bytes: 1}} {
			from := []*Source{s, next}[i%2]
			b, _, err := from.Read(t.Context(), room)
			if err != nil || len(b) != 1 {
				t.Fatalf("read %d: %d messages, %v", i, len(b), err)
			}
			got = append(got, string(b[0].Data))
			if o := b[0].Meta.Origin; o.Stream != "stdin" || o.Position[7] != byte(i+1) {
				t.Errorf("line %d is at %+v", i+1, o)
			}
		}
		if strings.Join(got, " ") != "a bbbb c d" {
			t.Errorf("lines %q", got)
		}
		if _, _, err := next.Read(t.Context(), connector.Room{}); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
	})
}

func TestValidate(t *testing.T) {
	t.Parallel()
	ps := Config{}.Validate()
	if len(ps) != 2 || ps[0].Field != "max_line_bytes" || ps[1].Field != "max_batch_messages" {
		t.Errorf("problems %+v", ps)
	}
	if ps := Entry.Default().(*Config).Validate(); len(ps) != 0 {
		t.Errorf("the defaults have problems: %+v", ps)
	}
}
