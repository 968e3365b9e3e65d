package endurance

import (
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/sshtest"
)

// nothingThere makes a remote scene without buttersink at the far side, for a
// user with a login shell.
func nothingThere(t *testing.T, shell func(*sshtest.Server) string) *remote {
	t.Helper()
	m := apart(t)
	m.server.Uninstall("buttersink")
	m.scheme = "ssh+btrfs"
	user := m.server.User(sshtest.Shell(shell(m.server)))
	user.Sudoers("ALL=(root) NOPASSWD: ALL")
	m.as(user)
	return m
}

// sparing are trees that any btrfs receive can carry out: it gives a default ACL
// of a snapshot's root to all that it makes.
var sparing = btrfstest.Without(btrfstest.RootInheritance)

func dash(*sshtest.Server) string { return "/bin/dash" }

// TestSSHNothingThere pushes and pulls with nothing but btrfs and some shell at
// the far side.
func TestSSHNothingThere(t *testing.T) {
	for name, shell := range map[string]func(*sshtest.Server) string{
		"dash": dash,
		"ash":  (*sshtest.Server).Ash,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := nothingThere(t, shell)
			m.family("a", 3, 1<<20, sparing)
			m.push().fine()
			m.complete()
			// What is there is known again, and a new one is an increment.
			m.snapshot("live-a", "a3")
			m.link.forget()
			m.push().fine()
			if crossed := m.link.up.bytes.Load(); crossed > 1<<20 {
				t.Errorf("%d bytes cross the network for next to nothing", crossed)
			}
			m.complete()

			// Back to where it came from, from received snapshots.
			if err := os.Mkdir(m.src.Path("back"), 0o755); err != nil {
				t.Fatal(err)
			}
			m.run("sync", "--json", m.url(m.to()), m.src.Path("back")+"/").fine()
			for name, want := range m.wanted {
				if show := m.src.Show(m.src.Path("back/" + name)); show["Received UUID"] != want.uuid {
					t.Errorf("%s comes back as %v, of %s", name, show, want.uuid)
				}
				if diff := difference(t, m.src.Path("snaps/"+name), m.src.Path("back/"+name)); diff != "" {
					t.Errorf("%s differs:\n%s", name, diff)
				}
			}

			// A run with -d removes what is not here.
			m.src.Delete("snaps/a1")
			delete(m.wanted, "a1")
			m.push("-d").fine()
			m.complete()

			list := m.run("list", "--json", m.url(m.to())).fine()
			if n := len(list.events("snapshot")); n != len(m.wanted) {
				t.Errorf("%d snapshots are listed:\n%s", n, list.story())
			}
		})
	}
}

// TestSSHFallsBack: an ssh:// URL of a machine without buttersink is carried out
// with btrfs alone, and the program says so.
func TestSSHFallsBack(t *testing.T) {
	t.Parallel()
	m := nothingThere(t, dash)
	m.scheme = "ssh"
	m.family("a", 2, 300_000, sparing)
	m.push().fine().says("buttersink", "btrfs")
	m.complete()
	m.empty()
	m.pull().fine()
	m.complete()
}

// TestSSHNothingThereKilled kills the program, its ssh, and what runs at the far
// side, and breaks the network. What looks whole is, and the next run completes
// the rest and leaves nothing else.
func TestSSHNothingThereKilled(t *testing.T) {
	bothWays(t, func(t *testing.T, m *remote, d direction) {
		m.server.Uninstall("buttersink")
		m.scheme = "ssh+btrfs"
		m.family("a", 2, 8<<20, sparing)
		began := time.Now()
		d.sync(m).fine()
		undisturbed := time.Since(began)
		m.complete()
		ended := map[int]int{}
		for range times(t, 1) {
			for _, victim := range []string{"program", "ssh", "btrfs", "network"} {
				m.empty()
				r := d.sync(m)
				r.lives(undisturbed/4 + rand.N(undisturbed*3/4))
				switch victim {
				case "program":
					r.signal(syscall.SIGKILL)
				case "ssh":
					end(m.sshes(r))
				case "btrfs":
					end(m.server.Pids("btrfs"))
				case "network":
					m.link.drop()
				}
				code := r.wait()
				ended[code]++
				m.quiet()
				m.wholeSoFar()
				if code != done && code != killed && code != failed && code != partly {
					t.Fatalf("without its %s it ends with %d:\n%s", victim, code, r.story())
				}
				if code != done {
					d.sync(m).fine()
				}
				m.complete()
			}
		}
		t.Logf("by exit code: %v", ended)
	})
}

// quiet waits until no btrfs is at work at the far side.
func (m *remote) quiet() {
	m.t.Helper()
	for deadline := time.Now().Add(patience); len(m.server.Pids("btrfs")) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatal("btrfs goes on at the far side")
		}
	}
}

// wholeSoFar compares what looks whole. What does not, and has the name of a
// snapshot all the same because btrfs receive has given it to it, must not be
// read-only, or it could be taken for one.
func (m *remote) wholeSoFar() {
	m.t.Helper()
	entries, err := os.ReadDir(m.to())
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := m.wanted[e.Name()]; !ok {
			continue
		}
		show := m.dst.Show(m.dst.Path("snaps/" + e.Name()))
		if show["Flags"] == "readonly" || len(strings.TrimLeft(show["Received UUID"], "- ")) > 0 {
			m.compare(e.Name())
		}
	}
}

// TestSSHNothingThereFull runs out of space at the far side.
func TestSSHNothingThereFull(t *testing.T) {
	t.Parallel()
	m := remotely(t, btrfstest.New(t, btrfstest.Size(1<<30)), btrfstest.New(t, btrfstest.Size(256<<20)))
	m.server.Uninstall("buttersink")
	m.scheme = "ssh+btrfs"
	for _, name := range []string{"a", "b", "c"} {
		m.family(name, 2, 8<<20, sparing)
	}
	fill(t, m.dst, "filler", 40<<20)
	m.push().unsuccessful("o space left on device")
	m.wholeSoFar()
	if err := os.Remove(m.dst.Path("filler")); err != nil {
		t.Fatal(err)
	}
	m.dst.Sync()
	m.push().fine()
	m.complete()
}

// TestSSHNothingThereOccupied: what is at the far side already is never
// overwritten, whatever it is.
func TestSSHNothingThereOccupied(t *testing.T) {
	t.Parallel()
	m := nothingThere(t, dash)
	m.family("a", 1, 300_000, sparing)
	for name, make := range map[string]func(path string) error{
		"a directory": func(path string) error { return os.Mkdir(path, 0o755) },
		"a file":      func(path string) error { return os.WriteFile(path, []byte("mine"), 0o644) },
		"a link":      func(path string) error { return os.Symlink("/nowhere", path) },
		"a subvolume": func(path string) error { return tool("btrfs", "subvolume", "create", path) },
	} {
		t.Run(name, func(t *testing.T) {
			path := m.dst.Path("snaps/a0")
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			before := fingerprint(t, m.dst)
			r := m.push()
			if code := r.wait(); code != conflict && code != failed && code != partly {
				t.Errorf("it ends with %d:\n%s", code, r.story())
			}
			if after := fingerprint(t, m.dst); after != before {
				t.Errorf("something changes:\n%s", changes(before, after))
			}
			if err := tool("btrfs", "subvolume", "delete", path); err != nil {
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	m.push().fine()
	m.complete()
}
