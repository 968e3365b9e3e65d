package btrfs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
