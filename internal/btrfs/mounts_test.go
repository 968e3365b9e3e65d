package btrfs

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/buttersink/buttersink/internal/btrfstest"
)

func TestParseMountinfo(t *testing.T) {
	const text = `22 1 254:0 / / rw,relatime - ext4 /dev/root rw
36 22 0:33 / /mnt/a rw,noatime shared:1 master:2 - btrfs /dev/loop0 rw,subvolid=5,subvol=/
37 22 0:33 /live/my\040dir /mnt/b\011tab\012line\134slash ro - btrfs /dev/loop0 rw
38 36 0:40 / /mnt/a/x rw - tmpfs  rw
39 22 0:33 /live/d//deleted /mnt/c rw - btrfs /dev/loop0 rw
half a line
40 22 0:33 / rel rw - btrfs x rw
x 22 0:33 / /mnt/d rw - btrfs x rw

41 22 0:33 / /mnt/cr` + "\r" + ` rw - btrfs x rw`
	got, err := parseMountinfo(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []mountLine{
		{id: 22, parent: 1, root: "/", point: "/", fstype: "ext4"},
		{id: 36, parent: 22, root: "/", point: "/mnt/a", fstype: "btrfs"},
		{id: 37, parent: 22, root: "/live/my dir", point: "/mnt/b\ttab\nline\\slash", readOnly: true, fstype: "btrfs"},
		{id: 38, parent: 36, root: "/", point: "/mnt/a/x", fstype: "tmpfs"},
		{id: 39, parent: 22, root: "/live/d//deleted", point: "/mnt/c", fstype: "btrfs"},
		{id: 41, parent: 22, root: "/", point: "/mnt/cr\r", fstype: "btrfs"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mountLine{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		`plain`: "plain", `a\040b`: "a b", `\134040`: `\040`, `\`: `\`, `\04`: `\04`, `\777`: `\777`, `\08x`: `\08x`, `\+12`: `\+12`, `a\012`: "a\n",
	} {
		if got := unescape(in); got != want {
			t.Errorf("%s gives %q, want %q", in, got, want)
		}
	}
}

func TestLinuxPathsOfText(t *testing.T) {
	mounts := []Mount{
		{Point: "/mnt/pool", covered: []string{"/mnt/pool/live/over", "/mnt/pool/b"}},
		{Point: "/home", Root: "live"},
		{Point: "/srv/dir", Root: "live/some dir"},
		{Point: "/", Root: "root"},
	}
	subvolumes := []Subvolume{
		{ID: 5},
		{ID: 256, Path: "live"},
		{ID: 257, Path: "live/over"},
		{ID: 258, Path: "live/over/in"},
		{ID: 259, Path: "live/overt"},
		{ID: 260, Path: "live/some dir/s"},
		{ID: 261, Path: "root"},
		{ID: 262, Path: "root/x"},
		{ID: 263, Path: "b"},
		{ID: 264, Path: "live2"},
		{ID: 265, Deleted: true},
	}
	want := map[uint64][]string{
		5:   {"/mnt/pool"},
		256: {"/home", "/mnt/pool/live"},
		257: {"/home/over"},
		258: {"/home/over/in"},
		259: {"/home/overt", "/mnt/pool/live/overt"},
		260: {"/srv/dir/s", "/home/some dir/s", "/mnt/pool/live/some dir/s"},
		261: {"/", "/mnt/pool/root"},
		262: {"/x", "/mnt/pool/root/x"},
		264: {"/mnt/pool/live2"},
	}
	got := new(Filesystem).LinuxPaths(subvolumes, mounts)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func FuzzMountinfo(f *testing.F) {
	f.Add("36 22 0:33 / /mnt/a rw,noatime shared:1 - btrfs /dev/loop0 rw\n", "a/b")
	f.Add(`37 22 0:33 /l\040 /mnt\134 ro - btrfs x`, "")
	f.Fuzz(func(t *testing.T, text, path string) {
		all, err := parseMountinfo(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, m := range all {
			shown, ok := m.mount(all).find(path)
			if ok && !strings.HasPrefix(shown, "/") {
				t.Errorf("%q is shown at %q", path, shown)
			}
		}
	})
}

func TestMounts(t *testing.T) {
	bench := btrfstest.New(t)
	other := btrfstest.New(t)
	bench.Subvolume("live")
	odd := "odd dir\n\\040\ttab"
	must(t, os.MkdirAll(bench.Path("live/"+odd), 0o755))
	bench.Subvolume("live/" + odd + "/in")
	bench.Subvolume("live/cover")
	bench.Subvolume("live/cover/under")
	sub := bench.MountAgain("subvol=live,ro")
	bound := bench.Bind("live/" + odd)
	// A mount on an odd path.
	must(t, os.MkdirAll(other.Path(odd), 0o755))
	at := other.Path(odd)
	must(t, unix.Mount(bench.Path("live"), at, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	// One that hides a part of the first.
	over := bench.Path("live/cover")
	must(t, unix.Mount("tmpfs", over, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { _ = unix.Unmount(over, unix.MNT_DETACH) })

	f := filesystem(t, bench.Dir)
	mounts, err := f.Mounts()
	must(t, err)
	type seen struct {
		Point, Root string
		ReadOnly    bool
	}
	var got []seen
	for _, m := range mounts {
		got = append(got, seen{m.Point, m.Root, m.ReadOnly})
	}
	want := []seen{{bench.Dir, "", false}, {sub, "live", true}, {bound, "live/" + odd, false}, {at, "live", false}}
	sort := func(a, b seen) int { return strings.Compare(a.Point, b.Point) }
	slices.SortFunc(got, sort)
	slices.SortFunc(want, sort)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	all, err := f.Subvolumes()
	must(t, err)
	paths := f.LinuxPaths(all, mounts)
	for _, s := range all {
		var want []string
		switch s.Path {
		case "":
			want = []string{bench.Dir}
		case "live":
			want = []string{bench.Path("live"), sub, at}
		case "live/" + odd + "/in":
			want = []string{bench.Path(s.Path), sub + "/" + odd + "/in", at + "/" + odd + "/in", bound + "/in"}
		case "live/cover":
			want = []string{sub + "/cover", at + "/cover"}
		case "live/cover/under":
			want = []string{sub + "/cover/under", at + "/cover/under"}
		}
		got := slices.Sorted(slices.Values(paths[s.ID]))
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", s.Path, diff)
		}
		for _, path := range paths[s.ID] {
			if there := info(t, path); there.ID != s.ID {
				t.Errorf("%s is subvolume %d, want %d", path, there.ID, s.ID)
			}
		}
	}
}

// Only the upper of two mounts on one point can be seen.
func TestMountsHidden(t *testing.T) {
	bench := btrfstest.New(t)
	other := btrfstest.New(t)
	bench.Subvolume("live")
	place := bench.Bind("live")
	must(t, unix.Mount(other.Dir, place, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(place, unix.MNT_DETACH) })
	points := func(dir string) []string {
		mounts, err := filesystem(t, dir).Mounts()
		must(t, err)
		var points []string
		for _, m := range mounts {
			points = append(points, m.Point)
		}
		return points
	}
	if got := points(bench.Dir); !slices.Equal(got, []string{bench.Dir}) {
		t.Errorf("the lower one: %v", got)
	}
	if got := points(other.Dir); !slices.Equal(got, []string{other.Dir, place}) {
		t.Errorf("the upper one: %v", got)
	}
}
