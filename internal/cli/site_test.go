package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/buttersink/buttersink/internal/place"
	"github.com/buttersink/buttersink/internal/store/local"
)

func TestExplain(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ arg, message, hint string }{
		{"host:/snaps/", "'host:/snaps' is not an existing directory", "on another machine, write 'ssh://host/snaps/'"},
		{"me@host:snaps/", "'me@host:snaps' is not an existing directory", "write 'ssh://me@host/snaps/', with the full path"},
		{"ssh:/host/snaps/", "'ssh:/host/snaps' is not an existing directory", "write 'ssh://host/snaps/', with the full path"},
		{"/dev/sda1/", "'/dev/sda1' is not an existing directory", "not a device"},
		{dir, "is not an existing directory", "Did you mean to type '" + dir + "/'?"},
	} {
		p, err := placeOf("", tt.arg, false)
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
	writable := site{Place: place.Place{Arg: "/d/live", Dir: "/d", Name: "live"}}
	if got := writable.noSnapshots("a writable subvolume"); !strings.HasPrefix(got, "'/d/live' is a writable subvolume: make a snapshot") {
		t.Error(got)
	}
	for arg, want := range map[string]string{
		"/d/snap":  "'/d/snap' is not a snapshot.  Did you mean to type '/d/snap/'?",
		"/d/snap/": "'/d/snap/' does not contain any snapshots.  Did you mean to type '/d/snap'?",
		"/":        "'/' does not contain any snapshots.",
		".":        "'.' does not contain any snapshots.",

		"s3://b/":             "'s3://b/' does not contain any snapshots.",
		"s3://b/p/?sse=none":  "'s3://b/p/?sse=none' does not contain any snapshots.  'buttersink list s3://b/?sse=none' shows what is in the whole bucket.",
		"s3://b/p/x?sse=none": "'s3://b/p/x?sse=none' is not a snapshot.  Did you mean to type 's3://b/p/x/?sse=none'?",
	} {
		p, err := placeOf("", arg, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.noSnapshots(""); got != want {
			t.Errorf("%q: %s", arg, got)
		}
	}
}
