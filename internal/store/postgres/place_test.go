package postgresstore

import (
	"strings"
	"testing"
)

// What a password with special characters leaves of a DSN never shows a part of it.
func TestPlaceNeverShowsThePassword(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://user:12#34@host/db", "postgres://user:12?34@host/db", "postgres://user:12/34@host/db",
		"postgres://user:12%2334@host/db", "postgres://user:12@34@host/db",
	} {
		place, err := placeOf(dsn)
		if text := place + " " + errText(err); strings.Contains(text, "12") {
			t.Errorf("%s: %s", dsn, text)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
