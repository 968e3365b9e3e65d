package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/config"
	"github.com/buttersink/buttersink/internal/runner"
)

// estate is a file system with subvolumes of all kinds.
func estate(t *testing.T) *btrfstest.FS {
	t.Helper()
	btrfstest.Require(t)
	fs := btrfstest.New(t)
	dirs := func(all ...string) {
		for _, dir := range all {
			if err := os.MkdirAll(fs.Path(dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	dirs("srv/plain")
	for _, name := range []string{
		"srv/alice", "srv/bob", "srv/.hidden", "srv/a[1]",
		"srv/alice/inner", "srv/alice/inner/deep", "srv/alice/cache", "srv/alice/cache/below", "srv/alice/.snapshots", "srv/bob/tmp",
		"srv/alice/half.part",
	} {
		fs.Subvolume(name)
	}
	dirs("srv/alice/snapshot", "srv/alice/inner/snapshot", "srv/alice/some/dir")
	fs.Subvolume("srv/alice/some/dir/far")
	fs.Subvolume("srv/alice/snapshot/writable")
	fs.Subvolume("srv/alice/inner/snapshot/writable")
	fs.Subvolume("srv/alice/.snapshots/writable")
	fs.Snapshot("srv/alice", "srv/alice/snapshot/20261120-231455", true)
	fs.Snapshot("srv/bob", "srv/frozen", true)
	fs.Snapshot("srv/bob", "srv/alice/frozen", true)
	for link, to := range map[string]string{"srv/link": "alice", "also": "srv", "srv/loop": "loop", "srv/gone": "nowhere"} {
		if err := os.Symlink(to, fs.Path(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(fs.Path("srv/file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return fs
}

func TestSources(t *testing.T) {
	fs := estate(t)
	env := &Env{Log: slog.New(slog.DiscardHandler)}
	for _, tt := range []struct {
		name string
		job  config.Job // sources, excludes and snapshots below the file system
		want string
		says string // why it fails
	}{
		{"one", config.Job{Sources: []string{"srv/alice"}}, "srv/alice", ""},
		{"one that is not there", config.Job{Sources: []string{"srv/nobody", "srv/bob"}, Nested: true}, "srv/nobody srv/bob srv/bob/tmp", ""},
		{"as it is written", config.Job{Sources: []string{"srv/bob/", "btrfs://srv/alice", "file://srv//alice/."}}, "srv/bob srv/alice", ""},
		{"a pattern", config.Job{Sources: []string{"srv/*"}}, "srv/a[1] srv/alice srv/bob", ""},
		{"with a dot", config.Job{Sources: []string{"srv/.*"}}, "srv/.hidden", ""},
		{"in the middle", config.Job{Sources: []string{"srv/*/tmp"}}, "srv/bob/tmp", ""},
		{"through a link", config.Job{Sources: []string{"also/b?b"}}, "also/b?b", ""},
		{"of letters", config.Job{Sources: []string{"srv/[ab]*"}}, "srv/a[1] srv/alice srv/bob", ""},
		{"no pattern, as it is there", config.Job{Sources: []string{"srv/a[1]"}}, "srv/a[1]", ""},
		{"twice", config.Job{Sources: []string{"srv/bob", "srv/*"}}, "srv/bob srv/a[1] srv/alice", ""},
		{"excluded", config.Job{Sources: []string{"srv/*"}, Exclude: []string{"srv/al*", "*"}}, "srv/a[1] srv/bob", ""},
		{"excluded by a slip", config.Job{Sources: []string{"srv/alice"}, Exclude: []string{"srv/alice"}}, "srv/alice", ""},
		{"nested", config.Job{Sources: []string{"srv/*"}, Nested: true}, "srv/a[1] srv/alice srv/alice/cache srv/alice/cache/below srv/alice/inner srv/alice/inner/deep srv/alice/some/dir/far srv/bob srv/bob/tmp", ""},
		{"nested and excluded", config.Job{Sources: []string{"srv/*"}, Nested: true, Exclude: []string{"srv/*/cache", "srv/*/tmp/", "srv/alice/some"}}, "srv/a[1] srv/alice srv/alice/inner srv/alice/inner/deep srv/bob", ""},
		{"nested, with snapshots elsewhere", config.Job{Sources: []string{"srv/alice"}, Nested: true, Snapshots: "/srv/alice/some/{source}"}, "srv/alice srv/alice/cache srv/alice/cache/below srv/alice/inner srv/alice/inner/deep srv/alice/inner/snapshot/writable srv/alice/snapshot/writable srv/alice/some/dir/far", ""},
		{"nested, with snapshots straight in the source", config.Job{Sources: []string{"srv/bob"}, Nested: true, Snapshots: "."}, "srv/bob srv/bob/tmp", ""},
		{"nested, with snapshots beside the source", config.Job{Sources: []string{"srv/bob"}, Nested: true, Snapshots: ".."}, "srv/bob srv/bob/tmp", ""},
		{"a pattern of nothing", config.Job{Name: "j", Sources: []string{"srv/x*"}}, "", "job j: the pattern FS/srv/x* matches no subvolume"},
		{"patterns of nothing beside others", config.Job{Sources: []string{"srv/x*", "srv/bob", "none/*", "srv/a*"}}, "srv/bob srv/a[1] srv/alice srv/x* none/*", ""},
		{"a pattern of directories", config.Job{Name: "j", Sources: []string{"srv/pl*"}}, "", "job j: the pattern FS/srv/pl* matches no subvolume"},
		{"a pattern of links", config.Job{Name: "j", Sources: []string{"srv/l*"}}, "", "job j: the pattern FS/srv/l* matches no subvolume"},
		{"a pattern of snapshots", config.Job{Name: "j", Sources: []string{"srv/froz*"}}, "", "job j: the pattern FS/srv/froz* matches no subvolume"},
		{"a pattern below a file", config.Job{Name: "j", Sources: []string{"srv/file/*"}}, "", "job j: the pattern FS/srv/file/* matches no subvolume"},
		{"a pattern that is none", config.Job{Sources: []string{"srv/[a"}}, "", `the pattern "FS/srv/[a": syntax error in pattern`},
		{"an exclusion that is none", config.Job{Sources: []string{"srv/bob"}, Exclude: []string{"[a"}}, "", `the pattern "FS/[a" of what is excluded: syntax error in pattern`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := tt.job
			if j.Snapshots == "" {
				j.Snapshots = "snapshot"
			}
			if filepath.IsAbs(j.Snapshots) {
				j.Snapshots = fs.Dir + j.Snapshots
			}
			root := func(all []string) (rooted []string) {
				for _, each := range all {
					scheme, below, ok := strings.Cut(each, "://")
					if !ok {
						scheme, below = "", each
					} else {
						scheme += "://"
					}
					rooted = append(rooted, scheme+fs.Dir+"/"+below)
				}
				return rooted
			}
			j.Sources, j.Exclude = root(j.Sources), root(j.Exclude)
			found, err := env.sourcesOf(t.Context(), &j, nobody)
			if tt.says != "" {
				if err == nil {
					t.Fatalf("found %v", found)
				}
				if says := strings.ReplaceAll(err.Error(), fs.Dir, "FS"); says != tt.says {
					t.Errorf("it says %q, want %q", says, tt.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range found {
				if s.Name != config.SourceName(s.Arg) {
					t.Errorf("%s is called %s", s.Arg, s.Name)
				}
				got = append(got, strings.TrimPrefix(s.Arg, fs.Dir+"/"))
			}
			if tt.name == "through a link" {
				tt.want = "also/bob"
			}
			if diff := cmp.Diff(strings.Fields(tt.want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// nobody was ever served.
func nobody(string) bool { return false }

func TestSourcesElsewhere(t *testing.T) {
	env := &Env{Log: slog.New(slog.DiscardHandler)}
	j := &config.Job{Name: "j", Sources: []string{"ssh://host/home", "ssh://root@other/home/*"}}
	got, err := env.sourcesOf(t.Context(), j, nobody)
	want := []runner.Source{{Arg: "ssh://host/home", Name: "home"}, {Arg: "ssh://root@other/home/*", Name: "home-*"}}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	j.Nested = true
	if _, err := env.sourcesOf(t.Context(), j, nobody); err == nil || !strings.Contains(err.Error(), "job j: ssh://host/home: nested subvolumes can only be found on this machine") {
		t.Error(err)
	}
	j = &config.Job{Name: "j", Sources: []string{"ssh://a/srv/x", "/srv-x"}, Destinations: []config.Destination{{URL: "/mnt/{source}"}}}
	got, err = env.sourcesOf(t.Context(), j, nobody)
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	for i, other := range []string{"/srv-x", "ssh://a/srv/x"} {
		if got[i].Refused == nil || got[i].Refused.Error() != `it would be "srv-x" where {source} stands, as `+other+" is" {
			t.Errorf("%s: %v", got[i].Arg, got[i].Refused)
		}
	}
}

// TestSourcesCalledLikeThePattern asserts that who makes something of the name that
// the configuration has as a pattern keeps nothing else from being backed up.
func TestSourcesCalledLikeThePattern(t *testing.T) {
	fs := estate(t)
	env := &Env{Log: slog.New(slog.DiscardHandler)}
	job := &config.Job{Sources: []string{fs.Path("srv") + "/[*b]*"}, Snapshots: "snapshot"}
	find := func(want string) {
		t.Helper()
		found, err := env.sourcesOf(t.Context(), job, nobody)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range found {
			got = append(got, filepath.Base(s.Arg))
		}
		if diff := cmp.Diff(strings.Fields(want), got); diff != "" {
			t.Error(diff)
		}
	}
	like := fs.Path("srv/[*b]*")
	if err := os.Mkdir(like, 0o755); err != nil {
		t.Fatal(err)
	}
	find("bob")
	if err := os.Remove(like); err != nil {
		t.Fatal(err)
	}
	fs.Subvolume("srv/[*b]*")
	find("[*b]* bob")
}

// TestSourcesThatCannotBeLookedAt asserts that a mount whose server has died, which
// users can have, keeps none of the others from being backed up.
func TestSourcesThatCannotBeLookedAt(t *testing.T) {
	fs := estate(t)
	dead := fs.Path("srv/dead")
	if err := os.Mkdir(dead, 0o755); err != nil {
		t.Fatal(err)
	}
	server, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = unix.Mount("dead", dead, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", server.Fd()))
	server.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dead, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if _, err := os.Lstat(dead); !errors.Is(err, unix.ENOTCONN) {
		t.Fatalf("it can be looked at: %v", err)
	}
	env := &Env{Log: slog.New(slog.DiscardHandler)}
	found, err := env.sourcesOf(t.Context(), &config.Job{Sources: []string{fs.Path("srv/[bd]*")}, Nested: true, Snapshots: "snapshot"}, nobody)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range found {
		got = append(got, strings.TrimPrefix(s.Arg, fs.Dir+"/"))
	}
	if diff := cmp.Diff([]string{"srv/bob", "srv/bob/tmp", "srv/dead"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestSourcesMounted leaves out what is hidden behind something else.
func TestSourcesMounted(t *testing.T) {
	fs := estate(t)
	other := btrfstest.New(t)
	other.Subvolume("stranger")
	fs.Subvolume("srv/bob/hidden")
	hidden := fs.Path("srv/bob/hidden")
	if out, err := exec.Command("mount", "--bind", other.Dir, hidden).CombinedOutput(); err != nil {
		t.Fatalf("mounting: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", hidden).CombinedOutput(); err != nil {
			t.Errorf("unmounting: %v\n%s", err, out)
		}
	})
	env := &Env{Log: slog.New(slog.DiscardHandler)}
	var said strings.Builder
	env.Log = slog.New(slog.NewTextHandler(&said, nil))
	found, err := env.sourcesOf(t.Context(), &config.Job{Sources: []string{fs.Path("srv/bob")}, Nested: true, Snapshots: "snapshot"}, nobody)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 2 || found[1].Arg != fs.Path("srv/bob/tmp") {
		t.Errorf("found %v", found)
	}
	if strings.Count(said.String(), "level=WARN") != 1 || !strings.Contains(said.String(), "mounted over them") || !strings.Contains(said.String(), hidden) {
		t.Errorf("it says %q", said.String())
	}
	said.Reset()
	if _, err := env.sourcesOf(t.Context(), &config.Job{Sources: []string{fs.Path("srv/bob")}, Nested: true, Snapshots: "snapshot", Exclude: []string{hidden}}, nobody); err != nil || strings.Contains(said.String(), "level=WARN") {
		t.Errorf("it says of what is excluded: %q, %v", said.String(), err)
	}
}
