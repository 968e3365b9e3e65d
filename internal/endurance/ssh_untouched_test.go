package endurance

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// TestSSHUntouchedSource: reading changes nothing at the far side, not even what
// lies unfinished there.
func TestSSHUntouchedSource(t *testing.T) {
	t.Parallel()
	m := remotely(t, btrfstest.New(t, btrfstest.Size(1<<30)), btrfstest.New(t, btrfstest.Size(1<<30)))
	m.family("a", 2, 2<<20)
	r := m.push(often)
	m.checkpointed(r, 1)
	r.signal(syscall.SIGKILL)
	r.wait()
	m.deserted()
	before := fingerprint(t, m.dst)
	m.run("list", m.url(m.to())).wait()
	m.run("list", "-d", "-n", m.url(m.to())).wait()
	m.run("sync", "-n", m.from(), m.url(m.to())).fine()
	m.run("sync", "-n", "-d", m.from(), m.url(m.to())).fine()
	if after := fingerprint(t, m.dst); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
	m.finish(pushing)
}

// fingerprint is a text that changes with what is in a file system: its
// subvolumes and the names, times and sizes of what is in its directories.
func fingerprint(t *testing.T, file *btrfstest.FS) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(file.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		inode := info.Sys().(*syscall.Stat_t).Ino
		fmt.Fprintln(&b, path, info.Mode(), info.ModTime().UnixNano(), info.Size(), inode)
		if e.IsDir() && inode == 256 && path != file.Dir { // a subvolume
			show := file.Show(path)
			fmt.Fprintln(&b, path, show["UUID"], show["Received UUID"], show["Flags"])
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// changes tells which lines only one of two texts has.
func changes(before, after string) string {
	var b strings.Builder
	old, now := strings.Split(before, "\n"), strings.Split(after, "\n")
	for _, line := range old {
		if !slices.Contains(now, line) {
			b.WriteString("- " + line + "\n")
		}
	}
	for _, line := range now {
		if !slices.Contains(old, line) {
			b.WriteString("+ " + line + "\n")
		}
	}
	return b.String()
}
