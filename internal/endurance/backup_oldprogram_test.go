package endurance

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

// An oldBackup does what btrfs-backup 0.3 does, by the same commands of
// btrfs-progs, and with its mistakes: names are all it knows of snapshots, the
// record of unfinished transfers is written in place, and what has another prefix
// is dropped from it.
type oldBackup struct {
	t      *testing.T
	source string
	prefix string
	clock  time.Time // when the next snapshot is taken
	// keep and keepThere are -N and -n.
	keep, keepThere int

	// cut ends each stream to a destination after so many bytes.
	cut map[string]int
	// dies ends the program before it drops the locks of a transfer.
	dies bool
}

// oldLock is an entry of the record, in the order of the file.
type oldLock struct {
	Locks   []string `json:"locks,omitempty"`
	Parents []string `json:"parent_locks,omitempty"`
}

func (o *oldBackup) folder() string { return filepath.Join(o.source, "snapshot") }

func (o *oldBackup) record() string { return filepath.Join(o.folder(), ".outstanding_transfers") }

// list returns the names of snapshots in a directory, the oldest first.
func (o *oldBackup) list(dir string) []string {
	o.t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		o.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if rest, ok := strings.CutPrefix(e.Name(), o.prefix); ok {
			if _, err := time.Parse(stamp, rest); err == nil {
				names = append(names, e.Name())
			}
		}
	}
	return names
}

// locks reads the record, as far as it is about the prefix.
func (o *oldBackup) locks() map[string]*oldLock {
	o.t.Helper()
	text, err := os.ReadFile(o.record())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		o.t.Fatal(err)
	}
	all := map[string]*oldLock{}
	if len(bytes.TrimSpace(text)) > 0 {
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&all); err != nil {
			o.t.Fatalf("lock file couldn't be parsed: %v\n%s", err, text)
		}
	}
	for name := range all {
		if !slices.Contains(o.list(o.folder()), name) {
			delete(all, name)
		}
	}
	return all
}

// change changes the locks of a snapshot.
func (o *oldBackup) change(name string, change func(*oldLock)) {
	o.t.Helper()
	all := o.locks()
	if all[name] == nil {
		all[name] = &oldLock{}
	}
	change(all[name])
	if len(all[name].Locks)+len(all[name].Parents) == 0 {
		delete(all, name)
	}
	if err := os.WriteFile(o.record(), oldRecord(o.t, all), 0o644); err != nil {
		o.t.Fatal(err)
	}
}

// oldRecord is the text of a record.
func oldRecord(t *testing.T, all map[string]*oldLock) []byte {
	t.Helper()
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "    ")
	if err := e.Encode(all); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(text.Bytes())
}

func without(list []string, one string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(x string) bool { return x == one })
}

// run makes a snapshot, brings it to the destinations, and removes what is more
// than enough.
func (o *oldBackup) run(dests ...string) {
	o.t.Helper()
	for _, dir := range append([]string{o.folder()}, dests...) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			o.t.Fatal(err)
		}
	}
	o.btrfs("subvolume", "snapshot", "-r", o.source, filepath.Join(o.folder(), o.prefix+o.clock.Format(stamp)))
	o.btrfs("filesystem", "sync", o.folder())
	o.clock = o.clock.Add(time.Minute)
	for _, dest := range dests {
		if o.transfer(dest) {
			return // dead
		}
	}
	o.purge(o.folder(), o.keep, o.locks())
	for _, dest := range dests {
		o.purge(dest, o.keepThere, nil)
	}
}

// transfer brings a destination what it lacks, and reports whether the program
// has died of it.
func (o *oldBackup) transfer(dest string) (dead bool) {
	o.t.Helper()
	src, dst := o.list(o.folder()), o.list(dest)
	for name, lock := range o.locks() {
		if slices.Contains(lock.Locks, dest) && slices.Contains(dst, name) {
			o.btrfs("subvolume", "delete", filepath.Join(dest, name)) // potentially corrupt
			dst = without(dst, name)
		}
		o.change(name, func(l *oldLock) { l.Locks, l.Parents = without(l.Locks, dest), without(l.Parents, dest) })
	}
	todo := src
	if o.keepThere > 0 {
		todo = src[max(0, len(src)-o.keepThere):]
	}
	todo = slices.DeleteFunc(slices.Clone(todo), func(name string) bool { return slices.Contains(dst, name) })
	for len(todo) > 0 {
		name, parent := o.next(src, dst, todo, dest)
		o.change(name, func(l *oldLock) { l.Locks = append(l.Locks, dest) })
		if parent != "" {
			o.change(parent, func(l *oldLock) { l.Parents = append(l.Parents, dest) })
		}
		sent := o.send(name, parent, dest)
		if o.dies {
			return true
		}
		if sent {
			o.change(name, func(l *oldLock) { l.Locks = without(l.Locks, dest) })
			if parent != "" {
				o.change(parent, func(l *oldLock) { l.Parents = without(l.Parents, dest) })
			}
			dst = append(dst, name)
			slices.Sort(dst)
		}
		todo = without(todo, name)
	}
	return false
}

// next chooses what is sent next, and its parent.
func (o *oldBackup) next(src, dst, todo []string, dest string) (name, parent string) {
	o.t.Helper()
	locks := o.locks()
	present := slices.DeleteFunc(slices.Clone(src), func(name string) bool {
		return !slices.Contains(dst, name) || locks[name] != nil && slices.Contains(locks[name].Locks, dest)
	})
	const none = 999999999
	parentOf := func(name string) (string, int) {
		if len(present) == 0 {
			return "", none
		}
		parent := present[0]
		for _, p := range present {
			if p < name {
				parent = p
			}
		}
		return parent, max(slices.Index(src, name), slices.Index(src, parent)) - min(slices.Index(src, name), slices.Index(src, parent))
	}
	name = slices.MinFunc(todo, func(a, b string) int {
		_, x := parentOf(a)
		_, y := parentOf(b)
		return cmp.Compare(x, y)
	})
	parent, _ = parentOf(name)
	return name, parent
}

// send sends one snapshot, and reports whether that has worked.
func (o *oldBackup) send(name, parent, dest string) bool {
	o.t.Helper()
	script := `btrfs send --quiet ${3:+-p "$3"} "$1" | btrfs receive "$2"`
	if cut := o.cut[dest]; cut > 0 {
		script = fmt.Sprintf(`btrfs send --quiet ${3:+-p "$3"} "$1" | head -c %d | btrfs receive "$2"`, cut)
	}
	if parent != "" {
		parent = filepath.Join(o.folder(), parent)
	}
	cmd := exec.Command(btrfstest.Program(o.t, "bash"), "-o", "pipefail", "-c", script, "old", filepath.Join(o.folder(), name), dest, parent)
	out, err := cmd.CombinedOutput()
	if err != nil && o.cut[dest] == 0 {
		o.t.Fatalf("%s to %s: %v\n%s", name, dest, err, out)
	}
	return err == nil
}

// purge removes all but the newest few.
func (o *oldBackup) purge(dir string, keep int, locks map[string]*oldLock) {
	o.t.Helper()
	names := o.list(dir)
	if keep == 0 || len(names) <= keep {
		return
	}
	for _, name := range names[:len(names)-keep] {
		if locks[name] == nil {
			o.btrfs("subvolume", "delete", filepath.Join(dir, name))
		}
	}
}

func (o *oldBackup) btrfs(args ...string) {
	o.t.Helper()
	if err := tool("btrfs", args...); err != nil {
		o.t.Fatal(err)
	}
}
