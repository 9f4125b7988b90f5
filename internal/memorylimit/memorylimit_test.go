package memorylimit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// machine is a root with files of /proc and /sys.
func machine(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const (
	mounts2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	mounts1 = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n" +
		"32 31 0:29 %s /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n" +
		"35 31 0:32 %s /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	mountInfo = "proc/self/mountinfo"
	ownGroups = "proc/self/cgroup"
)

func TestContainer(t *testing.T) {
	t.Parallel()
	const unlimited = "9223372036854771712\n"
	in1 := func(from string) string { return fmt.Sprintf(mounts1, from, from) }
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
		file  string
		bad   bool
	}{
		"nothing is mounted":              {map[string]string{}, 0, "", false},
		"version 2, in a namespace":       {map[string]string{mountInfo: mounts2, ownGroups: "0::/\n", "sys/fs/cgroup/memory.max": "268435456\n"}, 268435456, "/sys/fs/cgroup/memory.max", false},
		"version 2, max":                  {map[string]string{mountInfo: mounts2, ownGroups: "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, 0, "", false},
		"version 2, the root has no file": {map[string]string{mountInfo: mounts2, ownGroups: "0::/\n"}, 0, "", false},
		"version 2, nested: the least counts": {map[string]string{mountInfo: mounts2, ownGroups: "0::/a/b/c\n", "sys/fs/cgroup/a/b/c/memory.max": "max", "sys/fs/cgroup/a/b/memory.max": "300000000",
			"sys/fs/cgroup/a/memory.max": "200000000"}, 200000000, "/sys/fs/cgroup/a/memory.max", false},
		"version 2, memory.high":                {map[string]string{mountInfo: mounts2, ownGroups: "0::/a\n", "sys/fs/cgroup/a/memory.max": "300000000", "sys/fs/cgroup/a/memory.high": "250000000"}, 250000000, "/sys/fs/cgroup/a/memory.high", false},
		"version 2, moved out of the namespace": {map[string]string{mountInfo: mounts2, ownGroups: "0::/../other\n", "sys/fs/cgroup/memory.max": "100000000"}, 100000000, "/sys/fs/cgroup/memory.max", false},
		"version 1, from the host's root": {map[string]string{mountInfo: in1("/"), ownGroups: "4:memory:/docker/x\n1:cpu:/\n", "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": "268435456\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": unlimited}, 268435456, "/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", false},
		"version 1, the container's is mounted": {map[string]string{mountInfo: in1("/docker/x"), ownGroups: "4:cpuacct,memory:/docker/x\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456\n"}, 268435456, "/sys/fs/cgroup/memory/memory.limit_in_bytes", false},
		"version 1, a name that only begins like it": {map[string]string{mountInfo: in1("/docker/x"), ownGroups: "4:memory:/docker/xy\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456\n",
			"sys/fs/cgroup/memory/y/memory.limit_in_bytes": "1000"}, 268435456, "/sys/fs/cgroup/memory/memory.limit_in_bytes", false},
		"version 1, without a limit": {map[string]string{mountInfo: in1("/"), ownGroups: "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": unlimited}, 0, "", false},
		"both, version 2 without memory": {map[string]string{mountInfo: in1("/") + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", ownGroups: "4:memory:/m\n0::/u\n",
			"sys/fs/cgroup/memory/m/memory.limit_in_bytes": "150000000"}, 150000000, "/sys/fs/cgroup/memory/m/memory.limit_in_bytes", false},
		"what is no number": {map[string]string{mountInfo: mounts2, ownGroups: "0::/a\n", "sys/fs/cgroup/a/memory.max": "lots", "sys/fs/cgroup/memory.max": "100000000"}, 100000000, "/sys/fs/cgroup/memory.max", true},
	} {
		got, file, err := Container(machine(t, c.files))
		if got != c.want || file != c.file || (err != nil) != c.bad {
			t.Errorf("%s: %d from %q (%v), want %d from %q", name, got, file, err, c.want, c.file)
		}
	}
}

// TestLinesOfTheKernel: whatever is in the files, nothing panics and no limit is below 1.
func TestLinesOfTheKernel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		word := rapid.SampledFrom([]string{"/", "", "..", "/a", " ", " - ", "cgroup2", "cgroup", "rw,memory", "0::", "4:memory:", "\n", "35 31 0:32 ", "/sys/fs/cgroup", "max", "-1", "0", "77", "99999999999999999999"})
		text := func(name string) string {
			s := ""
			for _, w := range rapid.SliceOfN(word, 0, 12).Draw(rt, name) {
				s += w
			}
			return s
		}
		root := machine(t, map[string]string{mountInfo: mounts2 + text("mounts"), ownGroups: "0::/a\n" + text("own"), "sys/fs/cgroup/memory.max": text("limit")})
		if n, file, _ := Container(root); n < 0 || (n == 0) != (file == "") {
			rt.Fatalf("%d from %q", n, file)
		}
	})
}

func TestWhoSaysTheLimit(t *testing.T) {
	t.Parallel()
	root := machine(t, map[string]string{mountInfo: mounts2, ownGroups: "0::/\n", "sys/fs/cgroup/memory.max": "200000000"})
	nothing := func(string) (string, bool) { return "", false }
	if l, err := find(nothing, 0, root); err != nil || l.Bytes != 170000000 || l.From != "85 % of 200000000 in /sys/fs/cgroup/memory.max" {
		t.Errorf("the container's: %+v, %v", l, err)
	}
	if l, _ := find(nothing, 5000, root); l.Bytes != 5000 || l.From != "memory_limit_bytes" {
		t.Errorf("the config's: %+v", l)
	}
	user := func(name string) (string, bool) { return "off", name == "GOMEMLIMIT" }
	if l, _ := find(user, 5000, root); l.From != "GOMEMLIMIT" {
		t.Errorf("the user's: %+v", l)
	}
}

// TestShort: work is refused near the limit, and taken again only when there is some room.
func TestShort(t *testing.T) {
	t.Parallel()
	before := false
	for _, step := range []struct {
		live uint64
		want bool
	}{{80, false}, {90, false}, {91, true}, {85, true}, {81, true}, {80, false}, {89, false}} {
		if before = short(before, step.live*1000, 100_000); before != step.want {
			t.Fatalf("%d %% in use: short %t", step.live, before)
		}
	}
}

// TestWhatIsInUse: near the limit work is refused, and taken again once less is in use, though
// nothing else is allocated. Not parallel: the limit is the process's.
func TestWhatIsInUse(t *testing.T) {
	t.Cleanup(func() { Set(Limit{}) })
	if err := Short(); err != nil {
		t.Fatalf("without a limit: %v", err)
	}
	if n := Share(100, 4, 1); n != 100 {
		t.Errorf("without a limit a share is %d", n)
	}
	held := make([]byte, 96<<20)
	runtime.GC()
	Set(Limit{Bytes: 80 << 20, From: "a test"})
	err := Short()
	if _, ok := errors.AsType[*ShortError](err); !ok {
		t.Fatalf("with %d bytes in use: %v", len(held), err)
	}
	if n := Share(100<<20, 4, 1); n != 20<<20 {
		t.Errorf("a share is %d", n)
	}
	runtime.KeepAlive(held)
	tick, end := time.NewTicker(10*time.Millisecond), time.After(5*time.Minute)
	defer tick.Stop()
	for Short() != nil {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("it stays short")
		}
	}
}
