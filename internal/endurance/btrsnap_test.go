package endurance

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/sshtest"
)

// A homestead is a btrfs with the home of a user, and the snapshots that are made
// of it by the date.
type homestead struct {
	t        *testing.T
	fs       *btrfstest.FS
	user     *sshtest.User
	home     string
	snaps    string
	state    string
	program  string // a copy of the program that the user can run
	digests  map[string]string
	worked   int
	replaced int
}

// newHomestead makes one without snapshots.
func newHomestead(t *testing.T) *homestead {
	t.Helper()
	server := sshtest.Start(t)
	h := &homestead{
		t: t, fs: btrfstest.New(t, btrfstest.Size(1<<30)), user: server.User(),
		state: filepath.Join(t.TempDir(), "state"), digests: map[string]string{},
	}
	h.home, h.snaps = h.fs.Subvolume(h.user.Name), h.fs.Path("snapshot")
	place, err := os.MkdirTemp("/var/tmp", "btrsnap-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(place) })
	h.program = filepath.Join(place, "buttersink")
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.Chmod(place, 0o755), os.WriteFile(h.program, binary, 0o755), os.Chmod(h.fs.Dir, 0o755),
		os.Chown(h.home, h.user.UID, h.user.GID), os.MkdirAll(filepath.Join(h.snaps, h.user.Name), 0o755))
	for dir := filepath.Dir(h.fs.Dir); dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		err = errors.Join(err, os.Chmod(dir, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	h.work()
	return h
}

// work changes what is in the home.
func (h *homestead) work() {
	h.t.Helper()
	h.worked++
	for _, name := range []string{"diary", fmt.Sprint("file", h.worked)} {
		if err := os.WriteFile(filepath.Join(h.home, name), noise(byte(h.worked), 200_000+h.worked), 0o640); err != nil {
			h.t.Fatal(err)
		}
	}
}

// asks makes the user's program a script.
func (h *homestead) asks(script string) {
	h.t.Helper()
	file := filepath.Join(h.home, ".btrsend")
	if err := errors.Join(os.WriteFile(file, []byte("#!/bin/sh\n"+script+"\n"), 0o700), os.Chown(file, h.user.UID, h.user.GID)); err != nil {
		h.t.Fatal(err)
	}
}

// snapshot makes a snapshot as the scripts of old did, so many days ago.
func (h *homestead) snapshot(days int) string {
	h.t.Helper()
	name := ago(days)
	h.fs.Snapshot(h.home, filepath.Join(h.snaps, h.user.Name, name), true)
	h.look(name)
	return name
}

func (h *homestead) look(name string) {
	h.digests[name] = btrfstest.Digest(h.t, filepath.Join(h.snaps, h.user.Name, name))
}

// ago is the date of so many days ago.
func ago(days int) string { return time.Now().AddDate(0, 0, -days).Format(time.DateOnly) }

// run runs btrsnap, and returns how it ended.
func (h *homestead) run(want int, args ...string) *run {
	h.t.Helper()
	r := h.start(args...)
	if got := r.wait(); got != want {
		h.t.Fatalf("btrsnap ends with %d:\n%s", got, r.story())
	}
	return r
}

func (h *homestead) start(args ...string) *run {
	h.t.Helper()
	h.today()
	args = append([]string{"btrsnap", "--snapshots", h.snaps, "--homes", h.fs.Dir}, args...)
	return start(h.t, h.state, append(args, h.user.Name)...)
}

// today waits where the day is about to end.
func (h *homestead) today() {
	for time.Now().Add(time.Minute).Day() != time.Now().Day() {
		time.Sleep(time.Second)
	}
}

// age makes today's snapshot one of so many days ago.
func (h *homestead) age(days int) string {
	h.t.Helper()
	dir := filepath.Join(h.snaps, h.user.Name)
	if err := os.Rename(filepath.Join(dir, ago(0)), filepath.Join(dir, ago(days))); err != nil {
		h.t.Fatal(err)
	}
	h.digests[ago(days)] = h.digests[ago(0)]
	return ago(days)
}

// there are the names of the snapshots.
func (h *homestead) there() []string {
	h.t.Helper()
	all, err := os.ReadDir(filepath.Join(h.snaps, h.user.Name))
	if err != nil {
		h.t.Fatal(err)
	}
	var names []string
	for _, e := range all {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

func (h *homestead) expect(want ...string) {
	h.t.Helper()
	slices.Sort(want)
	if diff := cmp.Diff(want, h.there()); diff != "" {
		h.t.Error(diff)
	}
}

// TestBtrsnapCarriesOn begins with what the scripts of old have left, and with a
// program that speaks as btrsend does.
func TestBtrsnapCarriesOn(t *testing.T) {
	h := newHomestead(t)
	dst := btrfstest.New(t, btrfstest.Size(1<<30))
	old := []string{h.snapshot(70), h.snapshot(65), h.snapshot(10)}
	if err := os.MkdirAll(filepath.Join(h.snaps, h.user.Name, "notes"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.asks(`exec 2>>log
id -un >>who; env >environment; pwd >where; echo "$#" >arguments
if [ -e parent ]; then echo "i $(cat parent)"; else echo c; fi
cat >"stream-$1" && echo "$1" >parent.next`)
	r := h.run(done)
	h.look(ago(0))
	r.says("Made the snapshot", "wants "+ago(0)+" in full", "has taken "+ago(0), "Deleting old snapshot "+h.user.Name+"/"+old[0])
	h.expect(old[2], ago(0), "notes")
	for name, want := range map[string]string{"who": h.user.Name + "\n", "where": h.home + "\n", "arguments": "1\n"} {
		if got, err := os.ReadFile(filepath.Join(h.home, name)); err != nil || string(got) != want {
			t.Errorf("%s has %q, %v", name, got, err)
		}
	}
	environment, err := os.ReadFile(filepath.Join(h.home, "environment"))
	if err != nil || strings.Contains(string(environment), "BUTTERSINK") || !strings.Contains(string(environment), "USER="+h.user.Name) {
		t.Errorf("its environment is %q, %v", environment, err)
	}
	h.taken(dst, ago(0))

	// The next day, more than two months later: what it starts from is there.
	first := h.age(100)
	if err := os.Rename(filepath.Join(h.home, "parent.next"), filepath.Join(h.home, "parent")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.home, "parent"), []byte(first), 0o644); err != nil {
		t.Fatal(err)
	}
	h.work()
	r = h.run(done)
	h.look(ago(0))
	r.says("the increment from " + first + " to " + ago(0))
	h.taken(dst, ago(0))
	if got := h.there(); slices.Contains(got, first) {
		t.Errorf("%s is not needed any more, and there are %q", first, got)
	}
	log, err := os.ReadFile(filepath.Join(h.snaps, "btrsnap.log"))
	for _, line := range []string{"--- btrsnap " + ago(0) + " ---\n", "Calling btrsend for user " + h.user.Name + " and snapshot " + ago(0) + "\n", "Deleting old snapshot " + h.user.Name + "/" + old[1] + "\n"} {
		if err != nil || !strings.Contains(string(log), line) {
			t.Errorf("the log does not have %q: %v\n%s", line, err, log)
		}
	}
}

// taken receives what the program has taken of a day, and compares it.
func (h *homestead) taken(dst *btrfstest.FS, name string) {
	h.t.Helper()
	in, err := os.Open(filepath.Join(h.home, "stream-"+name))
	if err != nil {
		h.t.Fatal(err)
	}
	defer in.Close()
	h.replaced++
	dir := dst.Path(fmt.Sprint("received", h.replaced))
	if err := os.Mkdir(dir, 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := dst.Receive(dir, in); err != nil {
		h.t.Fatal(err)
	}
	all, err := os.ReadDir(dir)
	if err != nil || len(all) != 1 {
		h.t.Fatalf("there are %v, %v", all, err)
	}
	if got := btrfstest.Digest(h.t, filepath.Join(dir, all[0].Name())); got != h.digests[name] {
		h.t.Errorf("what was taken of %s is something else", name)
	}
}

// TestBtrsnapFailures has programs that fail in every way: the snapshot is there,
// and whoever they have spoken to hears of it.
func TestBtrsnapFailures(t *testing.T) {
	h := newHomestead(t)
	for _, c := range []struct {
		name, script string
		exit         int
		says         string
	}{
		{"it fails", "exit 3", partly, "status 3"},
		{"it says what nobody understands", "echo hello", partly, "no answer"},
		{"it wants what is not there", "echo i 2001-01-01; cat >got && touch whole", partly, "no such snapshot"},
		{"it fails in the end", "echo c; cat >got; exit 9", partly, "status 9"},
		{"it does not read", "echo c; sleep 0.2", partly, "read its standard input"},
		{"it wants nothing", "exit 0", done, "wants no backup"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.t = t
			h.asks(c.script)
			h.run(c.exit).says(c.says)
			h.expect(ago(0))
			if _, err := os.Stat(filepath.Join(h.home, "whole")); err == nil {
				t.Error("the program has seen the end of what it did not get")
			}
		})
	}
}

// TestBtrsnapRoot never runs a program as root.
func TestBtrsnapRoot(t *testing.T) {
	h := newHomestead(t)
	h.fs.Subvolume("root")
	file := h.fs.Path("root/.btrsend")
	if err := os.WriteFile(file, []byte("#!/bin/sh\ntouch "+h.fs.Path("ran")), 0o755); err != nil {
		t.Fatal(err)
	}
	r := start(t, h.state, "btrsnap", "--snapshots", h.snaps, "root", h.user.Name)
	if got := r.wait(); got != partly {
		t.Errorf("it ends with %d", got)
	}
	r.says("root: root is root, or in its group")
	h.expect(ago(0))
	if _, err := os.Stat(h.fs.Path("ran")); err == nil {
		t.Error("it ran")
	}
	if _, err := os.Stat(filepath.Join(h.snaps, "root", ago(0))); err != nil {
		t.Errorf("what cannot be offered to anybody is not made either: %v", err)
	}
}

// TestBtrsnapOddPrograms has users put things in the place of the program that are
// none: their snapshots are made, and those of others are not in the way of it.
func TestBtrsnapOddPrograms(t *testing.T) {
	h := newHomestead(t)
	file := filepath.Join(h.home, ".btrsend")
	for _, c := range []struct {
		name string
		make func() error
		exit int
	}{
		{"a loop of links", func() error { return os.Symlink(".btrsend", file) }, partly},
		{"a fifo", func() error { return errors.Join(syscall.Mkfifo(file, 0o777), os.Chmod(file, 0o777)) }, partly},
		{"a link to nothing", func() error { return os.Symlink("nothing", file) }, done},
		{"a directory", func() error { return os.Mkdir(file, 0o755) }, done},
		{"a program of root", func() error {
			return errors.Join(os.WriteFile(file, []byte("#!/bin/sh\ntouch "+h.fs.Path("ran")), 0o700), os.Chown(file, 0, 0))
		}, partly},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.t = t
			if err := errors.Join(os.RemoveAll(file), c.make()); err != nil {
				t.Fatal(err)
			}
			if len(h.there()) > 0 {
				h.fs.Delete(filepath.Join(h.snaps, h.user.Name, ago(0)))
			}
			h.run(c.exit)
			h.expect(ago(0))
		})
	}
	if _, err := os.Stat(h.fs.Path("ran")); err == nil {
		t.Error("it ran")
	}
}

// TestBtrsnapWhereItStands names its directories as seen from where it runs.
func TestBtrsnapWhereItStands(t *testing.T) {
	h := newHomestead(t)
	h.asks(`echo c; cat >"stream-$1"`)
	t.Chdir(h.fs.Dir)
	if err := os.MkdirAll("elsewhere/deeper", 0o755); err != nil {
		t.Fatal(err)
	}
	h.today()
	for _, where := range []string{"nowhere", "elsewhere"} {
		dry := start(t, h.state, "btrsnap", "--snapshots", where, "--homes", ".", "-n", h.user.Name)
		if got := dry.wait(); (got == done) != (where == "elsewhere") {
			t.Errorf("the dry run ends with %d:\n%s", got, dry.story())
		}
		dry.says(map[string]string{"nowhere": "is not an existing directory", "elsewhere": "WOULD: Make the snapshot " + h.user.Name + "/" + ago(0)}[where])
	}
	lost := start(t, h.state, "btrsnap", "--snapshots", "elsewhere/deeper", h.user.Name)
	if got := lost.wait(); got == done {
		t.Errorf("where there is no such home it ends with %d:\n%s", got, lost.story())
	}
	lost.says("say with --homes")
	r := start(t, h.state, "btrsnap", "--snapshots", "snapshot", h.user.Name)
	if got := r.wait(); got != done {
		t.Errorf("it ends with %d:\n%s", got, r.story())
	}
	h.look(ago(0))
	h.taken(btrfstest.New(t, btrfstest.Size(1<<30)), ago(0))
}

// TestBtrsnapKilled kills it while the program gets its stream. What the program
// has is no archive, and the next run gives it all.
func TestBtrsnapKilled(t *testing.T) {
	h := newHomestead(t)
	if err := os.WriteFile(filepath.Join(h.home, "bulk"), noise(77, 30<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	h.asks(`echo c; head -c 1000000 >part; touch begun; sleep 1; cat >>part && touch whole`)
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		r := h.start()
		for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			if _, err := os.Stat(filepath.Join(h.home, "begun")); err == nil {
				break
			}
			if time.Now().After(deadline) || r.gone() {
				t.Fatalf("it does not begin:\n%s", r.story())
			}
		}
		r.signal(sig)
		want := interrupted
		if sig == syscall.SIGKILL {
			want = killed
		}
		if got := r.wait(); got != want {
			t.Errorf("it ends with %d:\n%s", got, r.story())
		}
		if err := os.Remove(filepath.Join(h.home, "begun")); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(h.home, "whole")); err == nil {
			t.Errorf("after %v the program has seen an end", sig)
		}
	}
	h.asks(`echo c; cat >"stream-$1"`)
	h.run(done)
	h.look(ago(0))
	h.taken(btrfstest.New(t, btrfstest.Size(1<<30)), ago(0))
}
