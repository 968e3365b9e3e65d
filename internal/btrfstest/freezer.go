package btrfstest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A Freezer stops processes as a machine does that goes to sleep, and as
// container managers do: by a control group (cgroups(7)).
type Freezer struct {
	Version int // of the control groups: 1 or 2

	t                    testing.TB
	dir                  string
	file, frozen, thawed string // the file that freezes, and what it wants
	reports, done        string // the file that tells, and what it says then
}

// Freezers returns one for each version of control groups that can freeze here,
// at least one. Where there is none the test is skipped, or fails if RealEnv is
// set.
func Freezers(t testing.TB) []*Freezer {
	t.Helper()
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var found []*Freezer
	var errs []error
	for line := range strings.Lines(string(info)) {
		fields := strings.Fields(line)
		place, kind, options := fields[4], fields[slices.Index(fields, "-")+1], fields[len(fields)-1]
		f := &Freezer{t: t}
		switch {
		case kind == "cgroup2":
			*f = Freezer{Version: 2, t: t, file: "cgroup.freeze", frozen: "1", thawed: "0", reports: "cgroup.events", done: "frozen 1"}
		case kind == "cgroup" && slices.Contains(strings.Split(options, ","), "freezer"):
			*f = Freezer{Version: 1, t: t, file: "freezer.state", frozen: "FROZEN", thawed: "THAWED", reports: "freezer.state", done: "FROZEN"}
		default:
			continue
		}
		if slices.ContainsFunc(found, func(other *Freezer) bool { return other.Version == f.Version }) {
			continue
		}
		if err := f.create(place); err != nil {
			errs = append(errs, err)
			continue
		}
		found = append(found, f)
	}
	if len(found) > 0 {
		return found
	}
	why := errors.Join(errors.New("no control group can be made that freezes"), errors.Join(errs...))
	if realTests() {
		t.Fatal(why)
	}
	t.Skip(why)
	return nil
}

func (f *Freezer) create(place string) error {
	dir, err := os.MkdirTemp(place, "btrfstest-")
	if err != nil {
		return err
	}
	f.dir = dir
	f.t.Cleanup(func() {
		f.Thaw()
		// The group is busy until its last process has been waited for.
		err := os.Remove(dir)
		for deadline := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(deadline); err = os.Remove(dir) {
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil {
			f.t.Errorf("removing a control group: %v", err)
		}
	})
	if _, err := os.Stat(filepath.Join(dir, f.file)); err != nil {
		return fmt.Errorf("looking for a freezer: %w", err)
	}
	return nil
}

// Add puts a process into the group.
func (f *Freezer) Add(pid int) {
	f.t.Helper()
	f.write("cgroup.procs", strconv.Itoa(pid))
}

// Freeze stops the processes of the group and returns when they stand still.
func (f *Freezer) Freeze() {
	f.t.Helper()
	f.write(f.file, f.frozen)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		state, err := os.ReadFile(filepath.Join(f.dir, f.reports))
		if err != nil {
			f.t.Fatal(err)
		}
		if strings.Contains(string(state), f.done) {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("the processes do not freeze: %s", state)
		}
	}
}

// Thaw lets them go on.
func (f *Freezer) Thaw() {
	f.t.Helper()
	f.write(f.file, f.thawed)
}

func (f *Freezer) write(file, text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, file), []byte(text), 0); err != nil {
		f.t.Fatal(err)
	}
}
