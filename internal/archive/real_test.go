package archive_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/dir"
	"github.com/buttersink/buttersink/internal/archive/s3"
	"github.com/buttersink/buttersink/internal/s3test"
	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
)

func keysOf(t *testing.T, b archive.Bucket) []string {
	t.Helper()
	var all []string
	for o, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o.Key)
	}
	slices.Sort(all)
	return all
}

// TestRealBuckets: listing, the marker, notes of sizes, the trash and sweeping,
// in what archives are really kept in.
func TestRealBuckets(t *testing.T) {
	t.Run("directory", func(t *testing.T) {
		b, err := dir.Open(t.TempDir(), dir.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s := opened(t, b)
		snap := snapshot.Snapshot{ID: snapshot.ID{1}, Path: "A"}
		if err := s.Sweep(t.Context(), []snapshot.Snapshot{snap}, nil); err == nil || !strings.Contains(err.Error(), "init") {
			t.Errorf("without a marker: %v", err)
		}
		testReal(t, b, s)
	})
	t.Run("S3", func(t *testing.T) {
		s3test.Require(t)
		server := s3test.Start(t)
		env := map[string]string{}
		for _, v := range server.Env() {
			name, value, _ := strings.Cut(v, "=")
			env[name] = value
		}
		b, err := s3.Open(t.Context(), s3.Options{Bucket: server.Bucket(t), Getenv: func(name string) string { return env[name] }})
		if err != nil {
			t.Fatal(err)
		}
		testReal(t, b, opened(t, b))
	})
}

func opened(t *testing.T, b archive.Bucket) *archive.Store {
	t.Helper()
	s, err := archive.Open(t.Context(), b, archive.Options{Prefix: "p"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func testReal(t *testing.T, b archive.Bucket, s *archive.Store) {
	ctx := t.Context()
	if err := s.Init(ctx, archive.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, ok := errors.AsType[*store.ExistsError](s.Init(ctx, archive.InitOptions{})); !ok {
		t.Error("made twice")
	}
	one, two, three := snapshot.ID{1}, snapshot.ID{2}, snapshot.ID{3}
	for _, key := range []string{
		"p/x/A\u00e9 %01/" + one.String() + "_None", "p/x/A\u00e9 %01/" + one.String() + "_None.json",
		"p/B/" + two.String() + "_" + one.String(), "p/C/" + three.String() + "_None.zst", "p2/C/" + two.String() + "_None",
	} {
		if err := b.Put(ctx, key, []byte("what is in "+key), false); err != nil {
			t.Fatal(err)
		}
	}
	const path = "x/A\u00e9 \x01"
	edge := snapshot.Edge{To: one, From: three}
	if err := s.KeepSizes(ctx, path, map[snapshot.Edge]int64{edge: 7}); err != nil {
		t.Fatal(err)
	}
	before := keysOf(t, b)
	inv, err := s.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, snap := range inv.Snapshots {
		paths = append(paths, snap.Path)
	}
	if diff := cmp.Diff([]string{"B", "C", path}, paths); diff != "" || len(inv.Warnings) > 0 {
		t.Errorf("%s%q", diff, inv.Warnings)
	}
	if sizes, err := s.KnownSizes(ctx); err != nil || len(sizes) != 1 || sizes[edge] != 7 {
		t.Errorf("%v, %v", sizes, err)
	}
	// One that stays needs the first.
	sweep := func(all ...snapshot.Snapshot) (removed []string) {
		t.Helper()
		if err := s.Sweep(ctx, all, func(snap snapshot.Snapshot, err error) {
			if err == nil {
				removed = append(removed, snap.Path)
			}
		}); err != nil {
			t.Fatal(err)
		}
		return removed
	}
	find := func(id snapshot.ID) snapshot.Snapshot {
		snap, _ := inv.Find(id)
		return snap
	}
	if diff := cmp.Diff([]string{"C"}, sweep(find(one), find(three))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"B", path}, sweep(find(two), find(one))); diff != "" {
		t.Error(diff)
	}
	all, err := s.Trashed(ctx)
	if err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	left := []string{"p/.buttersink-archive.json", "p2/C/" + two.String() + "_None"}
	for _, key := range before {
		if !slices.Contains(left, key) {
			left = append(left, "trash/"+key)
		}
	}
	slices.Sort(left)
	if diff := cmp.Diff(left, keysOf(t, b)); diff != "" {
		t.Error(diff)
	}
	for _, x := range all {
		if x.When.IsZero() || x.Size.Bytes == 0 {
			t.Errorf("%+v", x)
		}
		if err := s.Untrash(ctx, x); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(before, keysOf(t, b)); diff != "" {
		t.Error(diff)
	}
	// Another one with the same key is kept beside the first.
	key := "p/C/" + three.String() + "_None.zst"
	for _, text := range []string{"one", "two"} {
		if err := b.Put(ctx, key, []byte(text), false); err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(ctx, find(three)); err != nil {
			t.Fatal(err)
		}
	}
	if all, err = s.Trashed(ctx); err != nil || len(all) != 2 || all[0].Handle != "trash/"+key || all[1].Handle != "trash/"+key+"~2" {
		t.Errorf("%+v, %v", all, err)
	}
	for _, x := range all {
		if err := s.Discard(ctx, x); err != nil {
			t.Error(err)
		}
	}
	if all, err = s.Trashed(ctx); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}
