package btrfs

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Mount is a place where the file system, or a part of it, can be seen.
type Mount struct {
	Point    string // absolute path of the mount point
	Root     string // what is mounted there: its path from the top level, without leading slash
	ReadOnly bool   // the mount, whatever the flag of the subvolume

	covered []string // mount points below Point that hide what is beneath them
}

// Mounts returns where the file system is mounted and visible to this process,
// by whichever device, subvolume or directory. Mount points that are hidden
// behind later mounts, or that cannot be opened, are left out.
func (f *Filesystem) Mounts() ([]Mount, error) {
	text, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("listing mounts: %w", err)
	}
	defer text.Close()
	all, err := parseMountinfo(text)
	if err != nil {
		return nil, fmt.Errorf("listing mounts: %w", err)
	}
	var mounts []Mount
	for at, m := range all {
		if m.fstype != "btrfs" || !f.shows(m, all[at+1:]) {
			continue
		}
		mounts = append(mounts, m.mount(all))
	}
	return mounts, nil
}

// shows reports whether f is what one sees at the mount point of m. later are
// the mounts that were made after m.
func (f *Filesystem) shows(m mountLine, later []mountLine) bool {
	dir, err := os.OpenFile(m.point, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return false // hidden, or a single file, or out of reach
	}
	defer dir.Close()
	info, err := fsInfo(dir)
	if err != nil || info.fsid != f.uuid {
		return false
	}
	var st unix.Statx_t
	err = control(dir, func(fd int) error { return unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st) })
	if err == nil && st.Mask&unix.STATX_MNT_ID != 0 {
		return st.Mnt_id == m.id
	}
	// Before Linux 5.8: the last on a mount point is the one to be seen.
	return !slices.ContainsFunc(later, func(o mountLine) bool { return o.point == m.point })
}

// LinuxPaths returns, by number of subvolume, all the paths at which it can be
// seen through mounts, the shortest first. What cannot be seen is not in it.
func (f *Filesystem) LinuxPaths(subvolumes []Subvolume, mounts []Mount) map[uint64][]string {
	paths := make(map[uint64][]string, len(subvolumes))
	all := make([]string, 0, len(subvolumes)) // most are seen once
	for i := range subvolumes {
		s := &subvolumes[i]
		if s.Deleted {
			continue
		}
		begin := len(all)
		for _, m := range mounts {
			if path, ok := m.find(s.Path); ok {
				all = append(all, path)
			}
		}
		seen := all[begin:len(all):len(all)]
		switch len(seen) {
		case 0:
			continue
		case 1:
		default:
			slices.SortFunc(seen, func(a, b string) int {
				return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
			})
			seen = slices.Compact(seen)
		}
		paths[s.ID] = seen
	}
	return paths
}

// find returns the path at which the mount shows what has path from the top
// level.
func (m Mount) find(path string) (string, bool) {
	rest, ok := below(path, m.Root)
	if !ok {
		return "", false
	}
	shown := strings.TrimSuffix(m.Point, "/") + rest
	if shown == "" {
		shown = "/"
	}
	for _, c := range m.covered {
		if _, hidden := below(shown, c); hidden {
			return "", false
		}
	}
	return shown, true
}

// below reports whether path is dir or in it, and what follows dir then: "" or
// something with a slash in front. The empty dir contains every path that has
// no leading slash.
func below(path, dir string) (string, bool) {
	switch {
	case path == dir:
		return "", true
	case dir == "":
		return "/" + path, true
	}
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(dir, "/"))
	return rest, ok && strings.HasPrefix(rest, "/")
}

// mountLine is what is of use in one line of /proc/self/mountinfo; see
// proc_pid_mountinfo(5).
type mountLine struct {
	id, parent  uint64
	root, point string
	readOnly    bool
	fstype      string
}

// mount makes a Mount of m. all is the whole of mountinfo.
func (m mountLine) mount(all []mountLine) Mount {
	var covered []string
	for _, o := range all {
		if o.parent == m.id && o.id != m.id {
			covered = append(covered, o.point)
		}
	}
	return Mount{
		Point:    m.point,
		Root:     strings.TrimPrefix(m.root, "/"),
		ReadOnly: m.readOnly,
		covered:  covered,
	}
}

// parseMountinfo reads the text of /proc/self/mountinfo. Lines that are not
// what the kernel writes are skipped.
func parseMountinfo(r io.Reader) ([]mountLine, error) {
	var all []mountLine
	lines := bufio.NewScanner(r)
	// A path of 4 KiB can take four times that with its escapes, and a line has
	// two of them besides long lists of options.
	lines.Buffer(nil, 1<<20)
	lines.Split(splitLines)
	for lines.Scan() {
		if m, ok := parseMountLine(lines.Text()); ok {
			all = append(all, m)
		}
	}
	return all, lines.Err()
}

// splitLines is bufio.ScanLines, except that it leaves a carriage return at the
// end of a line alone: it belongs to a name.
func splitLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if at := bytes.IndexByte(data, '\n'); at >= 0 {
		return at + 1, data[:at], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

func parseMountLine(line string) (mountLine, bool) {
	// The kernel escapes blanks within fields; other white space stays.
	fields := strings.Split(line, " ")
	dash := slices.Index(fields, "-")
	if dash < 6 || len(fields) < dash+2 {
		return mountLine{}, false
	}
	id, err1 := strconv.ParseUint(fields[0], 10, 64)
	parent, err2 := strconv.ParseUint(fields[1], 10, 64)
	if err1 != nil || err2 != nil {
		return mountLine{}, false
	}
	m := mountLine{
		id:       id,
		parent:   parent,
		root:     unescape(fields[3]),
		point:    unescape(fields[4]),
		readOnly: slices.Contains(strings.Split(fields[5], ","), "ro"),
		fstype:   unescape(fields[dash+1]),
	}
	return m, strings.HasPrefix(m.point, "/")
}

// unescape undoes the kernel's \ooo, three octal digits for one byte.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 16); err == nil && c <= math.MaxUint8 {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
