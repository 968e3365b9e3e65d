package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// somebody is a user of the machine who owns subvolumes, and is not root.
const somebody = 65534

// newVillage is a homestead in whose home two people have subvolumes: alice, who is
// somebody, and bob, who has a secret.
func newVillage(t *testing.T, config string) *homestead {
	t.Helper()
	e := newHomestead(t, config)
	for _, name := range []string{"home/alice", "home/alice/sub", "home/bob", "home/bob/sub"} {
		e.fs.Subvolume(name)
	}
	for _, name := range []string{"home/bob/secret", "home/bob/sub/secret"} {
		if err := os.WriteFile(e.fs.Path(name), []byte("bob's"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"home/alice", "home/alice/sub"} {
		if err := os.Chown(e.fs.Path(name), somebody, somebody); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// link has somebody make a symbolic link.
func (e *homestead) link(t *testing.T, to, name string) {
	t.Helper()
	if err := os.Symlink(to, e.fs.Path(name)); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(e.fs.Path(name), somebody, somebody); err != nil {
		t.Fatal(err)
	}
}

// untouched asserts that nothing of bob's has been copied in the name of somebody
// else, and that nothing was made at his place.
func (e *homestead) untouched(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(e.fs.Dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(e.fs.Dir, name)
		theirs := strings.HasPrefix(rel, "home/bob/")
		switch {
		case d.Name() == "secret" && !theirs:
			t.Errorf("bob's secret is at %s", rel)
		case theirs && d.Name() != "secret" && rel != "home/bob/sub":
			t.Errorf("there is %s", rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

const nestedConfig = `
[jobs.home]
sources = ["$FS/home/alice"]
nested = true
[[jobs.home.destinations]]
url = "$FS/backup/{source}"
`

// TestNestedSwapped: who owns a nested subvolume puts something else in its place
// between the snapshots and the transfers.
func TestNestedSwapped(t *testing.T) {
	for _, tt := range []struct {
		name string
		swap func(t *testing.T, e *homestead)
		says string
	}{
		{"for a link", func(t *testing.T, e *homestead) { e.link(t, e.fs.Path("home/bob"), "home/alice/next") }, "sub: a symbolic link that others can change, which is not followed"},
		{"for another subvolume", func(t *testing.T, e *homestead) { e.fs.Subvolume("home/alice/next") }, "another one has come to its place"},
		{"for a directory", func(t *testing.T, e *homestead) {
			if err := os.Mkdir(e.fs.Path("home/alice/next"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, "it is not a subvolume, but a directory in one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newVillage(t, strings.Replace(nestedConfig, "nested = true", "nested = true\nafter-snapshot = [\"$DIR/swap\"]", 1))
			e.write(t, "swap", "#!/bin/sh\nset -e\nmv $FS/home/alice/sub $FS/home/alice/away\nmv $FS/home/alice/next $FS/home/alice/sub\n", 0o755)
			tt.swap(t, e)
			says(t, e.run(t, 4, "run"), "home/alice/sub: ", tt.says)
			e.untouched(t)
			name := "backup/" + strings.TrimPrefix(strings.ReplaceAll(e.fs.Path("home/alice/sub"), "/", "-"), "-")
			if _, err := os.Lstat(e.fs.Path(name)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("there is something in the backup: %v", err)
			}
			says(t, e.run(t, 4, "status"), " are late")
		})
	}
}

// TestNestedSwappedAllTheTime: the same at any moment.
func TestNestedSwappedAllTheTime(t *testing.T) {
	e := newVillage(t, nestedConfig)
	e.link(t, e.fs.Path("home/bob"), "home/alice/other")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, e.fs.Path("home/alice/sub"), unix.AT_FDCWD, e.fs.Path("home/alice/other"), unix.RENAME_EXCHANGE)
			}
		}
	}()
	for range 8 {
		env, _, _ := testEnv(t, "buttersink")
		env.Getenv = func(name string) string {
			return map[string]string{"BUTTERSINK_STATE": e.dir + "/state", "BUTTERSINK_CONFIG": e.config}[name]
		}
		if code := Main([]string{"run"}, env); code != 0 && code != 4 {
			t.Errorf("exit code %d", code)
		}
	}
	close(stop)
	<-done
	e.untouched(t)
}

// TestSnapshotsOfNestedBehindLink: nor does a link lead the snapshots elsewhere.
func TestSnapshotsOfNestedBehindLink(t *testing.T) {
	e := newVillage(t, nestedConfig)
	e.link(t, e.fs.Path("home/bob"), "home/alice/sub/snapshot")
	says(t, e.run(t, 4, "run"), "sub/snapshot: a symbolic link that others can change")
	e.untouched(t)
	// Root's own links are an arrangement.
	if err := os.Remove(e.fs.Path("home/alice/sub/snapshot")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(e.fs.Path("snaps"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(e.fs.Path("snaps"), e.fs.Path("home/alice/sub/snapshot")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(e.fs.Path("home/alice/sub"), 0, 0); err != nil {
		t.Fatal(err)
	}
	e.run(t, 0, "run")
	if len(entries(t, e.fs.Path("snaps"))) == 0 {
		t.Error("there is no snapshot where root's link leads")
	}
}

// TestPatternThroughLinks: a pattern follows the links of root, and those of nobody
// else.
func TestPatternThroughLinks(t *testing.T) {
	e := newVillage(t, `
[jobs.home]
sources = ["$FS/homes/*/*/sub"]
snapshots = "$FS/snaps/{source}"
[[jobs.home.destinations]]
url = "$FS/backup/{source}"
`)
	if err := os.Symlink("home", e.fs.Path("homes")); err != nil {
		t.Fatal(err)
	}
	e.fs.Subvolume("home/alice/own")
	if err := os.Rename(e.fs.Path("home/alice/sub"), e.fs.Path("home/alice/own/sub")); err != nil {
		t.Fatal(err)
	}
	e.link(t, "../bob", "home/alice/friend")
	if err := os.Symlink("own", e.fs.Path("home/alice/roots")); err != nil { // but in a directory of others
		t.Fatal(err)
	}
	if err := os.Symlink("alice", e.fs.Path("home/also")); err != nil {
		t.Fatal(err)
	}
	said := e.run(t, 0, "run")
	e.untouched(t)
	says(t, said, "homes/alice/own/sub", "homes/also/own/sub")
	if strings.Contains(said, "roots") {
		t.Errorf("a link in a directory of somebody else is followed:\n%s", said)
	}
}

// TestPatternThroughLinksOfLinks: where a link of root's leads through one of somebody
// else, who can change that, it is not followed either.
func TestPatternThroughLinksOfLinks(t *testing.T) {
	for name, target := range map[string]string{"as it is there": "alice/own", "a full path": "$FS/home/alice/own", "with dots": "../home/./alice//own/"} {
		t.Run(name, func(t *testing.T) {
			e := newVillage(t, `
[jobs.home]
sources = ["$FS/home/ch*/sub"]
snapshots = "$FS/snaps/{source}"
[[jobs.home.destinations]]
url = "$FS/backup/{source}"
`)
			if err := os.Symlink(strings.ReplaceAll(target, "$FS", e.fs.Dir), e.fs.Path("home/chosen")); err != nil {
				t.Fatal(err)
			}
			e.link(t, "../bob", "home/alice/own")
			says(t, e.run(t, 1, "run"), "matches no subvolume")
			e.untouched(t)
			// A directory there is what root has meant.
			if err := os.Remove(e.fs.Path("home/alice/own")); err != nil {
				t.Fatal(err)
			}
			e.fs.Subvolume("home/alice/own")
			e.fs.Subvolume("home/alice/own/sub")
			says(t, e.run(t, 0, "run"), "home/chosen/sub")
		})
	}
}
