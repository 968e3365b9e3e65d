package local

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/btrfstest"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

// TestSizesBeside: the files that ButterSink left are read, added to, and go
// with their snapshots.
func TestSizesBeside(t *testing.T) {
	fs := btrfstest.New(t)
	fs.Subvolume("live")
	mustMkdir(t, fs.Path("snaps/sub"))
	fs.Snapshot("live", "snaps/a", true)
	fs.Snapshot("live", "snaps/sub/b", true)
	fs.Snapshot("live", "snaps/c", true)
	s := mustOpen(t, fs.Path("snaps"))
	inv := mustList(t, s)
	a, b, c := at(t, inv, "a").ID, at(t, inv, "sub/b").ID, at(t, inv, "c").ID
	ab, ac, ba := snapshot.Edge{To: b, From: a}, snapshot.Edge{To: c, From: a}, snapshot.Edge{To: a, From: b}

	mustWrite(t, fs.Path("snaps/sub/b.bs"), b.String()+"\t"+a.String()+"\t1501459\n")
	mustWrite(t, fs.Path("snaps/other.bs"), c.String()+"\t"+a.String()+"\t3\n") // beside nothing
	if err := syscall.Mkfifo(fs.Path("snaps/a.bs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("other.bs", fs.Path("snaps/c.bs")); err != nil {
		t.Fatal(err)
	}
	known := func() map[snapshot.Edge]int64 {
		t.Helper()
		sizes, err := s.KnownSizes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return sizes
	}
	if diff := cmp.Diff(map[snapshot.Edge]int64{ab: 1501459}, known()); diff != "" {
		t.Fatal(diff)
	}
	for _, p := range []string{"a", "c"} {
		if err := s.KeepSizes(t.Context(), p, map[snapshot.Edge]int64{ac: 1}); err == nil {
			t.Errorf("%s: what is not a file of sizes was replaced", p)
		}
	}
	for _, p := range []string{"../x", "/x", "", "sub/../a", "nosuch/a"} {
		if err := s.KeepSizes(t.Context(), p, map[snapshot.Edge]int64{ac: 1}); err == nil {
			t.Errorf("%q was taken", p)
		}
	}
	for _, p := range []string{"a.bs", "c.bs"} {
		if err := os.Remove(fs.Path("snaps/" + p)); err != nil {
			t.Fatal(err)
		}
	}
	for p, sizes := range map[string]map[snapshot.Edge]int64{"c": {ac: 7}, "sub/b": {ab: 8, {To: b, From: c}: 9}, "a": {ba: 10}} {
		if err := s.KeepSizes(t.Context(), p, sizes); err != nil {
			t.Fatal(err)
		}
	}
	want := map[snapshot.Edge]int64{ac: 7, ab: 8, {To: b, From: c}: 9, ba: 10}
	if diff := cmp.Diff(want, known()); diff != "" {
		t.Error(diff)
	}
	if text, err := os.ReadFile(fs.Path("snaps/c.bs")); err != nil || string(text) != c.String()+"\t"+a.String()+"\t7\n" {
		t.Errorf("%q, %v", text, err)
	}
	// One who is named like it stays.
	notes := a.String() + "\t" + b.String() + "\t5\nmy notes\n"
	mustWrite(t, fs.Path("snaps/a.bs"), notes)
	if err := s.KeepSizes(t.Context(), "a", map[snapshot.Edge]int64{ba: 11}); err == nil {
		t.Error("it is added to")
	}
	if text, err := os.ReadFile(fs.Path("snaps/a.bs")); err != nil || string(text) != notes {
		t.Errorf("%q, %v", text, err)
	}
	for _, p := range []string{"a", "sub/b"} {
		if err := s.Remove(t.Context(), at(t, inv, p)); err != nil {
			t.Fatal(err)
		}
	}
	left, err := filepath.Glob(fs.Path("snaps") + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range left {
		left[i] = filepath.Base(p)
	}
	if diff := cmp.Diff([]string{"a.bs", "c", "c" + store.SizesSuffix, "other.bs"}, left); diff != "" {
		t.Error(diff)
	}
}
