package geo_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/weirdata/weir/internal/geo"
)

func TestFind(t *testing.T) {
	t.Parallel()
	db, err := geo.Open(filepath.Join("testdata", "places.mmdb"))
	if err != nil {
		t.Fatal(err)
	}
	for ip, want := range map[string]string{
		"81.2.69.160":        `{"ip":"81.2.69.160","city":"London","country":"GB","region":"England","postal":"OX1","location":"51.514200,-0.093100","timezone":"Europe/London"}`,
		"::ffff:81.2.69.160": `{"ip":"::ffff:81.2.69.160","city":"London","country":"GB","region":"England","postal":"OX1","location":"51.514200,-0.093100","timezone":"Europe/London"}`,
		"2001:480::1":        `{"ip":"2001:480::1","city":"San Diego","country":"US","region":"California","postal":"","location":"32.720300,-117.155200","timezone":"America/Los_Angeles"}`,
		"127.0.0.1":          `{"ip":"127.0.0.1","city":"","country":"","region":"","postal":"","location":"","timezone":""}`,
	} {
		p, err := db.Find(netip.MustParseAddr(ip))
		if got := string(p.Append(nil)); err != nil || got != want {
			t.Errorf("%s is at %s, %v", ip, got, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	bad := filepath.Join(t.TempDir(), "bad.mmdb")
	if err := os.WriteFile(bad, []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{bad, bad + "-missing"} {
		if _, err := geo.Open(path); err == nil {
			t.Error(path, "was opened")
		}
	}
}
