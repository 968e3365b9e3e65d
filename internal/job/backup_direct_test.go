package job

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buttersink/buttersink/internal/snapshot"
	"github.com/buttersink/buttersink/internal/store"
	"github.com/buttersink/buttersink/internal/store/storetest"
)

// creator is a sink, and nothing else.
type creator interface {
	Create(ctx context.Context, want store.Want) (store.Writer, error)
}

// TestBackupBesideItself: a destination in whose directory the snapshots lie deeper,
// as those of another destination or as the source's own, gets them all the same.
func TestBackupBesideItself(t *testing.T) {
	src := newNightly(t)
	s := src.add(1, 2)
	src.add(2, 1)
	dst := storetest.NewMemory("dst")
	dst.AddReceived("home", s.Transid, "other/"+s.Path)
	o := utc(to("dst", dst))
	o.NoSnapshot = true
	r, err := src.Backup(t.Context(), src.Memory, o)
	if err != nil || r.Destinations[0].Sync.Transferred != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	want := held(t, src.Memory)
	if diff := cmp.Diff(want, held(t, dst)); diff != "" {
		t.Error(diff)
	}
	if r, err = src.Backup(t.Context(), src.Memory, o); err != nil || r.Destinations[0].Sync.Transferred != 0 {
		t.Errorf("again: %+v, %v", r, err)
	}

	// Where nothing can be copied in, it is sent.
	plain := storetest.NewMemory("plain")
	plain.AddReceived("home", s.Transid, "other/"+s.Path)
	o.Destinations = []Destination{to("plain", struct {
		store.Store
		creator
	}{plain, plain})}
	if r, err = src.Backup(t.Context(), src.Memory, o); err != nil || r.Destinations[0].Sync.Transferred != 2 {
		t.Errorf("without copies: %+v, %v", r, err)
	}
	if diff := cmp.Diff(want, held(t, plain)); diff != "" {
		t.Error(diff)
	}
}

func TestDirect(t *testing.T) {
	snap := func(path string, copies ...string) snapshot.Snapshot {
		s := snapshot.Snapshot{ID: storetest.IDOf("x", 1), Path: path}
		for _, c := range copies {
			s.Copies = append(s.Copies, snapshot.Snapshot{ID: s.ID, Path: c})
		}
		return s
	}
	inv := &snapshot.Inventory{
		Dir: "/bk", Snapshots: []snapshot.Snapshot{snap("a/1", "b/1", "1"), snap("2", "a/2"), snap("a/3")},
		Warnings: []string{"Duplicate 'x' in '/bk/a/1' and '/bk/b/1'", "Duplicate 'x' in '/bk/1' and '/bk/4'"},
	}
	inv.Snapshots[1].Copies = append(inv.Snapshots[1].Copies, snapshot.Snapshot{Path: "/else/2", Outside: true})
	inv.Warnings = append(inv.Warnings, "Duplicate 'y' in '/bk/2' and '/else/2'")
	aboutDirectory(inv)
	if diff := cmp.Diff([]string{"Duplicate 'x' in '/bk/1' and '/bk/4'"}, inv.Warnings); diff != "" {
		t.Error(diff)
	}
	direct(inv, true)
	if len(inv.Snapshots) != 3 || inv.Snapshots[0].Path != "1" || inv.Snapshots[0].Outside || len(inv.Snapshots[0].Copies) != 2 ||
		!inv.Snapshots[0].Copies[0].Outside || !inv.Snapshots[0].Copies[1].Outside || inv.Snapshots[1].Outside ||
		inv.Snapshots[1].Copies[0].Path != "/bk/a/2" || inv.Snapshots[2].Path != "/bk/a/3" || !inv.Snapshots[2].Outside {
		t.Errorf("%+v", inv.Snapshots)
	}
	direct(inv, false)
	if len(inv.Snapshots) != 2 {
		t.Errorf("%+v", inv.Snapshots)
	}
	archive := &snapshot.Inventory{Archive: true, Snapshots: []snapshot.Snapshot{snap("a/1")}}
	if direct(archive, false); len(archive.Snapshots) != 1 || archive.Snapshots[0].Outside {
		t.Errorf("%+v", archive.Snapshots)
	}
}

// TestBackupForetellsWithoutLeftovers: a dry run reckons with what the run would
// clear away.
func TestBackupForetellsWithoutLeftovers(t *testing.T) {
	src := newNightly(t)
	s := src.add(1, 2)
	dst := storetest.NewMemory("dst")
	dst.AddLeftover(s.Path)
	src.SetNote(store.LocksNote, []byte(`{"`+s.Path+`": {"locks": ["/mnt/dst"]}}`))
	o := utc(to("dst", dst))
	o.NoSnapshot, o.DryRun = true, true
	r, err := src.Backup(t.Context(), src.Memory, o)
	if err != nil || len(r.Destinations[0].Sync.Outlook.Steps) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	src.SetNote(store.LocksNote, nil)
	_, err = src.Backup(t.Context(), src.Memory, o)
	if x, ok := errors.AsType[*IncompleteError](err); !ok || !x.Conflicts {
		t.Errorf("without a lock: %v", err)
	}
	o.DryRun = false
	src.SetNote(store.LocksNote, []byte(`{"`+s.Path+`": {"locks": ["/mnt/dst"]}}`))
	if r, err = src.Backup(context.Background(), src.Memory, o); err != nil || r.Destinations[0].Sync.Transferred != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}
