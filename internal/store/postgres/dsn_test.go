package postgresstore

import (
	"strings"
	"testing"
)

func TestPlaceOf(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"postgres://weir:secret@[::1]:5433/events":                            "[::1]:5433/events",
		"postgres://weir:secret@db.example.com":                               "db.example.com/weir",
		"postgres:///events?host=/run/postgresql&user=weir&password=secret":   "/run/postgresql/events",
		"host=::1 port=5433 database=events password=secret":                  "[::1]:5433/events",
		`user=weir password='secret \' host=elsewhere' dbname = 'the events'`: "local/the events",
		`password=secret\ host=elsewhere host=db.example.com user=weir`:       "db.example.com/weir",
		"  host=db.example.com\n\tuser=weir\tpassword=secret  ":               "db.example.com/weir",
	} {
		if got, err := placeOf(dsn); err != nil || got != want {
			t.Errorf("placeOf(%q) = %q, %v, want %q", dsn, got, err, want)
		}
	}
}

// FuzzPlaceOf: every DSN has a place or is refused, and a quoted password is not seen
// whatever it holds.
func FuzzPlaceOf(f *testing.F) {
	f.Add("postgres://user:", "word@localhost/db")
	f.Add("host=localhost password=", `it\'s`)
	f.Add("host=localhost password='", "two words' host=elsewhere")
	f.Fuzz(func(t *testing.T, before, password string) {
		if place, err := placeOf(before + password); (place == "") == (err == nil) {
			t.Errorf("placeOf(%q) = %q, %v", before+password, place, err)
		}
		quoted := "password='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(password) + "' host=h dbname=d"
		if place, err := placeOf(quoted); err != nil || place != "h/d" {
			t.Errorf("placeOf(%q) = %q, %v, want h/d", quoted, place, err)
		}
	})
}
