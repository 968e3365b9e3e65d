package job

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	objects "github.com/buttersink/buttersink/internal/archive"
	"github.com/buttersink/buttersink/internal/archive/dir"
	"github.com/buttersink/buttersink/internal/schedule"
	"github.com/buttersink/buttersink/internal/store"
)

// openArchive opens an archive in a directory.
func openArchive(ctx context.Context, path string) (store.Store, error) {
	b, err := dir.Open(path, dir.Options{})
	if err != nil {
		return nil, err
	}
	return objects.Open(ctx, b, objects.Options{Version: "test"})
}

// TestBackupOldChains has a source that keeps next to nothing, and an archive that
// keeps more than a chain is long: the older chains share nothing with the source
// any more, and are ours all the same. Rules that come later find that out, too.
func TestBackupOldChains(t *testing.T) {
	for name, always := range map[string]bool{"rules from the start": true, "rules later": false} {
		t.Run(name, func(t *testing.T) {
			src := newNightly(t)
			path := t.TempDir()
			made, err := openArchive(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			if err := made.(*objects.Store).Init(t.Context(), objects.InitOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := made.Close(); err != nil {
				t.Fatal(err)
			}
			d := Destination{Name: "archive", ID: "dir://archive", MaxChain: 3, Open: func(ctx context.Context) (store.Store, error) { return openArchive(ctx, path) }}
			var stayed map[string]bool
			for day := range 16 {
				if always || day > 13 {
					d.Rules = last(8)
				}
				o := utc(d)
				o.Rules, o.Force = last(1), true
				stayed = map[string]bool{}
				o.Judged = func(place string, all []Verdict) {
					for _, v := range all {
						if place == "archive" && v.Keep {
							stayed[v.Snapshot.Path] = true
						}
						if v.Aside {
							t.Errorf("day %d: %s is set aside: %s", day, v.Snapshot.Path, v.Reason)
						}
					}
				}
				r, err := src.Backup(t.Context(), src.Memory, o)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(Standing{Newest: r.Taken.Path, AsOf: src.now, Chain: day%3 + 1}, r.Destinations[0].Standing); diff != "" {
					t.Errorf("day %d: %s", day, diff)
				}
				src.now = src.now.AddDate(0, 0, 1)
			}
			// The newest eight, and what the oldest of them starts from.
			want := map[string]bool{}
			for day := 6; day < 16; day++ {
				want[schedule.Format("", night.AddDate(0, 0, day))] = true
			}
			if diff := cmp.Diff(want, stayed); diff != "" {
				t.Error(diff)
			}
			st, err := openArchive(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			left := map[string]bool{}
			for _, s := range inventory(t, st).Inside() {
				left[s.Path] = true
			}
			if diff := cmp.Diff(want, left); diff != "" {
				t.Error(diff)
			}
		})
	}
}
