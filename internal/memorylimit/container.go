package memorylimit

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Container is the least memory limit of the cgroups that the process is in, and the file that
// says it; 0 without one. root is that of the file system.
//
// A cgroup has what those above it have, so each is asked, up to the highest that can be seen: in
// a container, where the hierarchy is mounted from the container's own cgroup on, that is the
// container's, whatever path the kernel names.
func Container(root string) (bytes int64, file string, err error) {
	mounts, err := hierarchies(root)
	if err != nil || len(mounts) == 0 {
		return 0, "", err
	}
	own, err := cgroups(root)
	if err != nil {
		return 0, "", err
	}
	bytes = math.MaxInt64
	for _, m := range mounts {
		for dir := m.place(own); ; dir = path.Dir(dir) {
			for _, name := range m.files() {
				n, e := limitIn(filepath.Join(root, dir, name))
				if e != nil {
					err = errors.Join(err, e)
				} else if n < bytes {
					bytes, file = n, path.Join(dir, name)
				}
			}
			if dir == m.at || dir == "/" {
				break
			}
		}
	}
	if bytes >= none {
		return 0, "", err
	}
	return bytes, file, err
}

// none is what a limit of version 1 says when there is none, about: more than any machine has.
const none = 1 << 60

// hierarchy is a mounted tree of cgroups that bounds memory.
type hierarchy struct {
	at   string // where it is mounted
	from string // the cgroup that is mounted there
	two  bool   // version 2
}

func (h hierarchy) files() []string {
	if h.two {
		return []string{"memory.max", "memory.high"}
	}
	return []string{"memory.limit_in_bytes"}
}

// place is the directory of the process's own cgroup, as far as that can be seen.
func (h hierarchy) place(own map[bool]string) string {
	below := own[h.two]
	if h.from != "/" {
		rest, inside := strings.CutPrefix(below, h.from)
		if !inside || rest != "" && rest[0] != '/' {
			return h.at
		}
		below = rest
	}
	below = path.Clean("/" + below) // "/.." of a cgroup outside of the namespace is the root of it
	return path.Join(h.at, below)
}

// hierarchies are those that are mounted.
func hierarchies(root string) ([]hierarchy, error) {
	var all []hierarchy
	err := lines(filepath.Join(root, "proc", "self", "mountinfo"), func(line string) {
		head, tail, ok := strings.Cut(line, " - ")
		fields, kind := strings.Fields(head), strings.Fields(tail)
		if !ok || len(fields) < 5 || len(kind) < 3 {
			return
		}
		h := hierarchy{from: unescape(fields[3]), at: unescape(fields[4])}
		switch kind[0] {
		case "cgroup2":
			h.two = true
		case "cgroup":
			if !strings.Contains(","+kind[len(kind)-1]+",", ",memory,") {
				return
			}
		default:
			return
		}
		all = append(all, h)
	})
	return all, err
}

// unescape reads a path as mountinfo writes it.
func unescape(text string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(text)
}

// cgroups are the paths of the process's own, by whether they are of version 2.
func cgroups(root string) (map[bool]string, error) {
	own := map[bool]string{}
	err := lines(filepath.Join(root, "proc", "self", "cgroup"), func(line string) {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) < 3 {
			return
		}
		switch {
		case parts[0] == "0" && parts[1] == "":
			own[true] = parts[2]
		case strings.Contains(","+parts[1]+",", ",memory,"):
			own[false] = parts[2]
		}
	})
	return own, err
}

// lines calls each with the lines of a file; one that is not there has none.
func lines(name string, each func(string)) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the memory limit of the container: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		each(s.Text())
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("find the memory limit of the container: %s: %w", name, err)
	}
	return nil
}

// limitIn is what a file says; no limit where there is no such file.
func limitIn(name string) (int64, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return math.MaxInt64, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find the memory limit of the container: %w", err)
	}
	value := strings.TrimSpace(string(text))
	if value == "max" {
		return math.MaxInt64, nil
	}
	n, err := strconv.ParseUint(value, 10, 64)
	switch {
	case err != nil || n == 0:
		return 0, fmt.Errorf("find the memory limit of the container: %s says %q, which is no number of bytes", name, value)
	case n > math.MaxInt64:
		return math.MaxInt64, nil
	}
	return int64(n), nil
}
