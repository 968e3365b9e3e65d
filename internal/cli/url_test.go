package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/store/local"
)

func TestParsePlace(t *testing.T) {
	for _, tt := range []struct {
		arg         string
		destination bool
		want        place
	}{
		{"/a/b/", false, place{dir: "/a/b"}},
		{"/a/b", false, place{dir: "/a", name: "b"}},
		{"/a/b", true, place{dir: "/a/b"}},
		{"/a/b//", false, place{dir: "/a/b"}},
		{"/a//b", false, place{dir: "/a", name: "b"}},
		{"//a/b/", false, place{dir: "/a/b"}},
		{"/", false, place{dir: "/"}},
		{"/b", false, place{dir: "/", name: "b"}},
		{"a/b", false, place{dir: "a", name: "b"}},
		{"b", false, place{dir: ".", name: "b"}},
		{"b/", false, place{dir: "b"}},
		{".", false, place{dir: "."}},
		{"./", false, place{dir: "."}},
		{"..", false, place{dir: ".."}},
		{"/a/..", false, place{dir: "/"}},
		{"btrfs:///a/b/", false, place{dir: "/a/b"}},
		{"btrfs://a/b", false, place{dir: "a", name: "b"}},
		{"file:///a/b/", true, place{dir: "/a/b"}},
		{"host:/path", false, place{dir: "host:", name: "path"}},
		{"host:/path/", false, place{dir: "host:/path"}},
		{"/a/x://y/", false, place{dir: "/a/x:/y"}},
		{"://x", false, place{dir: ":", name: "x"}},
		{"/a/näme mit\tallem/", false, place{dir: "/a/näme mit\tallem"}},
	} {
		got, err := parsePlace(tt.arg, tt.destination)
		tt.want.arg = tt.arg
		tt.want.scheme = "btrfs"
		if strings.HasPrefix(tt.arg, "file:") {
			tt.want.scheme = "file"
		}
		if err != nil {
			t.Errorf("%q: %v", tt.arg, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(place{})); diff != "" {
			t.Errorf("%q:\n%s", tt.arg, diff)
		}
	}
}

func TestParsePlaceRefuses(t *testing.T) {
	for arg, want := range map[string]string{
		"":                      "names no directory",
		"btrfs://":              "names no directory",
		"http://example.com/x/": `unknown scheme "http"`,
		"s3://bucket/prefix/":   "no s3:// stores",
		"ssh://u:pw@host/dir/":  "no ssh:// stores",
		"/a\x00b/":              "NUL",
	} {
		_, err := parsePlace(arg, false)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", arg, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "pw") {
			t.Errorf("%q: the password is shown: %v", arg, err)
		}
	}
}

func FuzzParsePlace(f *testing.F) {
	f.Add("/a/b/", false)
	f.Add("btrfs://a/b", true)
	f.Fuzz(func(t *testing.T, arg string, destination bool) {
		p, err := parsePlace(arg, destination)
		if err != nil {
			return
		}
		if p.dir == "" || strings.ContainsRune(p.name, '/') || destination && p.name != "" {
			t.Errorf("%q became %+v", arg, p)
		}
	})
}

func TestExplain(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ arg, message, hint string }{
		{"host:/snaps/", "'host:/snaps' is not an existing directory", "on another machine"},
		{"/dev/sda1/", "'/dev/sda1' is not an existing directory", "not a device"},
		{dir, "is not an existing directory", "Did you mean to type '" + dir + "/'?"},
	} {
		p, err := parsePlace(tt.arg, false)
		if err != nil {
			t.Fatal(err)
		}
		e, ok := errors.AsType[*exitError](p.explain(local.ErrNotDirectory))
		if !ok || e.code != exitFailed || !strings.Contains(e.Error(), tt.message) || !strings.Contains(e.hint, tt.hint) {
			t.Errorf("%q: %v / %q", tt.arg, e, e.hint)
		}
	}
}

func TestNoSnapshots(t *testing.T) {
	writable := place{arg: "/d/live", dir: "/d", name: "live"}
	if got := writable.noSnapshots("a writable subvolume"); !strings.HasPrefix(got, "'/d/live' is a writable subvolume: make a snapshot") {
		t.Error(got)
	}
	for arg, want := range map[string]string{
		"/d/snap":  "'/d/snap' is not a snapshot.  Did you mean to type '/d/snap/'?",
		"/d/snap/": "'/d/snap/' does not contain any snapshots.  Did you mean to type '/d/snap'?",
		"/":        "'/' does not contain any snapshots.",
		".":        "'.' does not contain any snapshots.",
	} {
		p, err := parsePlace(arg, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.noSnapshots(""); got != want {
			t.Errorf("%q: %s", arg, got)
		}
	}
}
