package endurance

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBackupDying has one of three places die, each in several ways, while the
// others go on. Afterwards the next night brings it up to date with increments.
func TestBackupDying(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	n.backup(nil).ends(done)
	n.complete()
	for _, way := range []struct {
		name       string
		ruin, heal func()
		flags      []string
		during     func(*run) // nil: nothing
		code       int        // 0: partly
		// Those that are complete all the same.
		near, far, archive bool
	}{
		{
			name: "unmounted", far: true, archive: true,
			ruin: func() { n.dst.Unmount() },
			heal: func() { n.dst.Mount() },
		},
		{
			name: "read-only", far: true, archive: true, code: conflict,
			ruin: func() { n.must(tool("mount", "-o", "remount,ro", n.dst.Dir)) },
			heal: func() { n.must(tool("mount", "-o", "remount,rw", n.dst.Dir)) },
		},
		{
			name: "full", far: true, archive: true,
			ruin: func() { fill(t, n.dst, "filler", 0) },
			heal: func() { n.must(os.Remove(n.dst.Path("filler"))); n.dst.Sync() },
		},
		{
			name: "the directory is gone", near: true, archive: true,
			ruin: func() {
				n.must(os.Rename(n.far.Path("bk"), n.far.Path("elsewhere")))
				n.must(os.WriteFile(n.far.Path("bk"), nil, 0o600))
			},
			heal: func() {
				n.must(os.Remove(n.far.Path("bk")))
				n.must(os.Rename(n.far.Path("elsewhere"), n.far.Path("bk")))
			},
		},
		{
			name: "the connection breaks for good", near: true, archive: true,
			flags: []string{"--limit", "1M/s"}, // or it may be over before it breaks
			ruin:  func() { n.link.forget() },
			during: func(r *run) {
				for n.link.up.bytes.Load() < 1<<20 && !r.gone() {
					time.Sleep(time.Millisecond)
				}
				n.link.broken.Store(true)
				n.link.drop()
			},
			heal: func() { n.link.broken.Store(false) },
		},
		{
			name: "the server is killed", near: true, archive: true,
			ruin: func() {},
			during: func(r *run) {
				for !r.gone() {
					for _, pid := range n.servers() {
						_ = syscall.Kill(pid, syscall.SIGKILL)
					}
					time.Sleep(5 * time.Millisecond)
				}
			},
			heal: func() {},
		},
		{
			name: "no archive any more", near: true, far: true,
			ruin: func() { n.must(os.Rename(n.marker(), n.marker()+".away")) },
			heal: func() { n.must(os.Rename(n.marker()+".away", n.marker())) },
		},
	} {
		before := n.note()
		n.grow(4 << 20)
		way.ruin()
		r := n.backup(way.flags)
		if way.during != nil {
			way.during(r)
		}
		code := r.wait()
		all := n.note()
		if code != cmp.Or(way.code, partly) || len(all) != len(before)+1 {
			t.Fatalf("%s: it ends with %d, with %d snapshots:\n%s", way.name, code, len(all), r.story())
		}
		if way.near && !slices.Equal(n.holds(n.dst, n.near()), all) {
			t.Fatalf("%s: the directory has %q:\n%s", way.name, n.names(n.near()), r.story())
		}
		if way.far && !slices.Equal(n.holds(n.far, n.far.Path("bk")), all) {
			t.Fatalf("%s: the other machine has %q:\n%s", way.name, n.names(n.far.Path("bk")), r.story())
		}
		if way.archive && !slices.Equal(n.stored(), all) {
			t.Fatalf("%s: the archive has %q:\n%s", way.name, n.stored(), r.story())
		}
		way.heal()
		r = n.backup([]string{"-S"})
		if code := r.wait(); code != done {
			t.Fatalf("%s, and healed: it ends with %d:\n%s", way.name, code, r.story())
		}
		if full, increments := r.transfers(); full != 0 || increments != 1 {
			t.Fatalf("%s, and healed: %d full streams and %d increments:\n%s", way.name, full, increments, r.story())
		}
		n.complete()
	}
	n.restored()
}

func (n *night) marker() string {
	return filepath.Join(n.archive.bucket.(dirBucket).root, ".buttersink-archive.json")
}

// TestBackupCommandDies has a command fail that takes streams, beside a directory.
func TestBackupCommandDies(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	sink := filepath.Join(t.TempDir(), "sink")
	command := `shell://test ! -e ` + sink + `.broken && cat > ` + sink + `.$BUTTERSINK_NAME`
	n.must(os.WriteFile(sink+".broken", nil, 0o600))
	n.backup(nil, n.near(), command).ends(partly)
	all := n.note()
	if got := n.holds(n.dst, n.near()); !slices.Equal(got, all) {
		t.Fatalf("the directory has %q", got)
	}
	if locks := n.locks(); len(locks[all[0]]["locks"]) != 1 || locks[all[0]]["locks"][0] != command {
		t.Fatalf("locked is %v", locks)
	}
	n.must(os.Remove(sink + ".broken"))
	// What is locked is not removed, however few are to be kept; when it is not any
	// more, it is.
	n.grow(1 << 20)
	r := n.backup([]string{"--locked-dests", "-N", "2"}, n.near()).ends(partly)
	r.says("a command is not run because a note says so")
	n.backup([]string{"--locked-dests", "-N", "1", "--force"}, n.near(), command).ends(done)
	for _, name := range n.note() {
		if info, err := os.Stat(sink + "." + name); err != nil || info.Size() == 0 {
			t.Errorf("%s has not been given to the command: %v", name, err)
		}
	}
	if locks := n.locks(); len(locks) > 0 {
		t.Errorf("locked is %v", locks)
	}
}

// TestBackupKilled kills the program behind every line that it says, run after
// run, and at random. What looks whole is, wherever; and the next run brings
// everything to its end, and owes nothing.
func TestBackupKilled(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	flags := []string{"-N", "4", "-n", "6", "--force"} // kills keep things from going, and there may be many then
	kills := 0
	for line := 0; ; line += 1 + line/6 {
		n.grow(300_000)
		r := n.backup(flags)
		if r.await("\n", line) { // as many lines
			r.signal(syscall.SIGKILL)
		}
		code := r.wait()
		n.note()
		n.holds(n.dst, n.near())
		n.holds(n.far, n.far.Path("bk"))
		if code != killed {
			if code != done {
				t.Fatalf("after %d kills it ends with %d:\n%s", kills, code, r.story())
			}
			break
		}
		kills++
		if kills%4 == 3 {
			r := n.backup(flags)
			if code := r.wait(); code != done {
				t.Fatalf("after %d kills it ends with %d:\n%s", kills, code, r.story())
			}
			n.note()
			if locks := n.locks(); len(locks) > 0 {
				t.Fatalf("after %d kills locked is %v", kills, locks)
			}
		}
	}
	if kills < 10 {
		t.Errorf("only %d kills", kills)
	}
	n.backup(flags).ends(done)
	n.note()
	n.holds(n.dst, n.near())
	n.holds(n.far, n.far.Path("bk"))
	n.restored()
}

// TestBackupTwice has two runs at once: one of them waits if it is told to, and
// else ends at once, with nothing done.
func TestBackupTwice(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	n.grow(8 << 20)
	gate := filepath.Join(t.TempDir(), "gate")
	n.must(os.WriteFile(gate, nil, 0o600))
	slow := "shell://while test -e '" + gate + "'; do sleep 0.1; done; cat > /dev/null"
	first := n.backup(nil, slow)
	if !first.await("step-begun", 1) {
		t.Fatal(first.story())
	}
	second := n.backup(nil, n.near()).ends(locked)
	second.says("locked")
	if got := n.names(n.near()); len(got) > 0 {
		t.Errorf("the second run has sent %q", got)
	}
	third := n.backup([]string{"--wait"}, n.near())
	for !strings.Contains(third.err.String(), "Waiting for another run") {
		if third.gone() {
			t.Fatal(third.story())
		}
		time.Sleep(time.Millisecond)
	}
	n.must(os.Remove(gate))
	first.ends(done)
	third.ends(done)
	all := n.note()
	if got := n.holds(n.dst, n.near()); len(all) != 2 || !slices.Equal(got, all) {
		t.Errorf("there are %q, and %q was made", got, all)
	}
}
